//! Development only: a scripted engine client and a guard around a running server.
