//! Bytes to values and back for every operation of the MP protocol, sans-I/O.
