//! Whether the pool fits in `/dev/shm`.

use std::path::Path;

use crate::PoolError;

/// Refuses a pool that is larger than what is free now and what is about to be.
///
/// Not a promise: memory is taken when the pool is prepared, and somebody else may be quicker.
pub(crate) fn check(directory: &Path, asked_bytes: u64, freed_bytes: u64) -> Result<(), PoolError> {
    let stat = rustix::fs::statvfs(directory).map_err(PoolError::system("look at /dev/shm"))?;
    compare(
        asked_bytes,
        stat.f_bavail.saturating_mul(stat.f_frsize).saturating_add(freed_bytes),
        stat.f_blocks.saturating_mul(stat.f_frsize),
    )
}

/// A file system without a limit reports a size of zero.
fn compare(asked_bytes: u64, free_bytes: u64, total_bytes: u64) -> Result<(), PoolError> {
    if total_bytes > 0 && free_bytes < asked_bytes {
        return Err(PoolError::NoSpace { asked_bytes, free_bytes, total_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_beyond_the_free_space_is_refused_with_the_numbers() {
        let error = compare(65, 64, 128).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`65 bytes`") && text.contains("`64 bytes` of `128 bytes`"), "{text}");
        assert!(error.hint().unwrap().contains("--shm-size"), "{error:?}");
        assert!(compare(64, 64, 128).is_ok());
        assert!(compare(64, 0, 0).is_ok());
        assert!(matches!(
            check(Path::new(crate::name::DIRECTORY), u64::MAX, 0),
            Err(PoolError::NoSpace { .. })
        ));
    }
}
