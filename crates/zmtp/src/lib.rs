//! ZMTP 3.1: a sans-I/O codec, and ROUTER and DEALER sockets on tokio.
