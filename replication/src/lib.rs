//! millrace-replication
