//! Supervised child processes beside a server; knows nothing of caches.
