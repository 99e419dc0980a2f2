//! Licences and origins of every dependency, against the lists in deny.toml.
//!
//! cargo-deny says the same with more detail, but takes longer to build than everything else together; this
//! check runs everywhere.

use anyhow::{Context, Result};
use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};
use toml::Table;

use super::edges::text;
use super::source::Finding;
use crate::shell;

/// How `cargo metadata` spells the registry that deny.toml allows.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let path = shell::root().join("deny.toml");
    let deny = std::fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
    let allowed = allowed_licences(&deny).with_context(|| format!("reading `{}`", path.display()))?;
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = text(package, "name");
        let source = package["source"].as_str();
        if source.is_some_and(|source| source != CRATES_IO) {
            findings.push(Finding::new(name, format!("comes from `{}`", source.unwrap_or(""))));
        }
        let licence = text(package, "license");
        if !satisfied(licence, &allowed) {
            findings.push(Finding::new(name, format!("licence `{licence}` is not on the list in deny.toml")));
        }
    }
    Ok(findings)
}

/// The list `allow` under `[licenses]`.
fn allowed_licences(deny: &str) -> Result<Vec<String>> {
    let mut deny: Table = toml::from_str(deny)?;
    let licences = deny.remove("licenses").and_then(|licences| licences.get("allow").cloned());
    Ok(licences.context("expected `allow` under `[licenses]`")?.try_into()?)
}

/// Whether the list leaves a way to keep an SPDX expression, `A/B` of old crates included.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let is_allowed = |wanted: &LicenseReq| allowed.contains(&wanted.to_string());
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|parsed| parsed.evaluate(is_allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged() {
        let allowed: Vec<String> =
            ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned).to_vec();
        for yes in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(satisfied(yes, &allowed), "{yes}");
        }
        for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-2.0", "Apache-2.0"] {
            assert!(!satisfied(no, &allowed), "{no}");
        }
    }

    #[test]
    fn the_list_is_read() {
        let deny =
            "x = 1\n\n[licenses]\nallow = [\n    \"MIT\",\n    \"ISC\",\n]\n\n[bans]\nallow = [\"no\"]\n";
        assert_eq!(allowed_licences(deny).unwrap(), ["MIT", "ISC"]);
        assert!(allowed_licences("[bans]\nallow = [\"no\"]\n").is_err());
    }
}
