//! millrace-tools
