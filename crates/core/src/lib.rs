//! The domain of the cache, pure: keys, hashing, layouts, object lifecycle, eviction.
