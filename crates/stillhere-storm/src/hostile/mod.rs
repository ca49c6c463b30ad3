//! A server that is bad to its clients, and a verdict on whoever connects.
