//! millrace-client
