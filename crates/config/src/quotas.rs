//! `--quota` and `--quota-default-gb`: limits that hold from the start.

use larder_core::name::check_cache_salt;
use larder_core::quota::{EMPTY_SALT, Quotas};
use larder_core::units::gib_to_bytes;

use super::settings::Settings;
use super::value::quoted;

/// Largest quota in GiB: more than any tier, and safely inside 64-bit byte counts.
pub(crate) const QUOTA_GIB_MAX: f64 = 1_073_741_824.0;

/// The quotas that were given, or what is wrong with one.
pub(crate) fn quotas(settings: &Settings) -> Result<Quotas, String> {
    let mut quotas = Quotas::default();
    quotas.set_default(settings.float("quota-default-gb").map(gib_to_bytes));
    for word in settings.list("quota") {
        let (salt, limit_bytes) = parse(&word)?;
        if quotas.set(salt, limit_bytes).is_some() {
            return Err(format!("`{}` gives a salt a second quota", quoted(&word)));
        }
    }
    Ok(quotas)
}

fn parse(word: &str) -> Result<(&str, u64), String> {
    let (salt, gib) = word.rsplit_once('=').ok_or_else(|| format!("`{}` has no `=`", quoted(word)))?;
    let limit = gib.parse::<f64>().ok().filter(|gib| (0.0..=QUOTA_GIB_MAX).contains(gib));
    let limit = limit.ok_or_else(|| {
        format!("`{}` in `{}` is not a number from 0 to {QUOTA_GIB_MAX}", quoted(gib), quoted(word))
    })?;
    let salt = if salt == EMPTY_SALT { "" } else { salt };
    check_cache_salt(salt).map_err(|error| format!("in `{}`: {error}", quoted(word)))?;
    Ok((salt, gib_to_bytes(limit)))
}

#[cfg(test)]
mod tests {
    use larder_core::name::CACHE_SALT_CHARS_MAX;

    use super::*;

    #[test]
    fn a_salt_may_hold_an_equals_sign_and_a_limit_may_be_zero() {
        assert_eq!(parse("a=b=1.5"), Ok(("a=b", 3 << 29)));
        assert_eq!(parse("_default=0"), Ok(("", 0)));
        for word in ["alice", "alice=", "alice=x", "alice=-1", "alice=inf", "alice=NaN"] {
            assert!(parse(word).is_err(), "{word}");
        }
        let longest = |more: usize| format!("{}=1", "s".repeat(CACHE_SALT_CHARS_MAX + more));
        assert!(parse(&longest(0)).is_ok() && parse(&longest(1)).is_err());
        assert_eq!(parse("a@b=1"), Err("in `a@b=1`: cache salt `a@b` must not contain `@`".to_owned()));
    }
}
