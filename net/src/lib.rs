//! millrace-net
