//! L1 memory: shared-memory segments, mapping, reclaim, preparation.
