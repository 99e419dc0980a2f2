//! Which crate may depend on which: ARCHITECTURE.md's picture, and what `core` must stay free of.

use serde_json::Value;

use super::source::Finding;

/// Each of our crates and the crates of ours it may name: ARCHITECTURE.md's picture. Tests may also use
/// `testkit`, which may use anything.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("larder-core", &[]),
    ("larder-zmtp", &[]),
    ("larder-supervise", &[]),
    ("larder-wire", &["larder-core"]),
    ("larder-pool", &[]),
    ("larder-storage", &["larder-core"]),
    ("larder-telemetry", &["larder-supervise"]),
    ("larder-config", &["larder-core", "larder-storage", "larder-supervise", "larder-telemetry"]),
    ("larder-engine", &["larder-core", "larder-pool", "larder-telemetry"]),
    ("larder-tier", &["larder-core", "larder-engine", "larder-storage", "larder-telemetry"]),
    ("larder-rpc", &["larder-core", "larder-engine", "larder-telemetry", "larder-wire", "larder-zmtp"]),
    (
        "larder-admin",
        &[
            "larder-config",
            "larder-core",
            "larder-engine",
            "larder-rpc",
            "larder-storage",
            "larder-supervise",
            "larder-telemetry",
            "larder-tier",
        ],
    ),
    (
        "larder-server",
        &[
            "larder-admin",
            "larder-config",
            "larder-core",
            "larder-engine",
            "larder-pool",
            "larder-rpc",
            "larder-storage",
            "larder-supervise",
            "larder-telemetry",
            "larder-tier",
            "larder-zmtp",
        ],
    ),
    ("larder", &["larder-config", "larder-core", "larder-server", "larder-supervise", "larder-telemetry"]),
    ("larder-testkit", &[]),
    ("larder-fuzz", &["larder-storage", "larder-wire", "larder-zmtp"]),
    ("xtask", &[]),
];

/// What the pure crate may use: hashing, a hash table, an error derive. Nothing that waits, reads, or
/// serializes.
const CORE_MAY_USE: [&str; 5] = ["blake3", "hashbrown", "sha2", "smallvec", "thiserror"];

/// MessagePack belongs to `wire` alone (invariant 2).
const MSGPACK: [&str; 3] = ["rmp", "rmp-serde", "rmpv"];

pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in members(metadata) {
        let name = text(package, "name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(name, "a crate without a place in xtask/src/tidy/edges.rs"));
            continue;
        };
        let dependencies: Vec<&Value> = package["dependencies"].as_array().into_iter().flatten().collect();
        let refusals = dependencies.iter().filter_map(|dependency| refused(name, allowed, dependency));
        findings.extend(refusals.chain(unused(allowed, &dependencies)).map(|why| Finding::new(name, why)));
    }
    findings
}

fn refused(name: &str, allowed: &[&str], dependency: &Value) -> Option<String> {
    let target = text(dependency, "name");
    let is_dev = dependency["kind"].as_str() == Some("dev");
    let is_ours = target.starts_with("larder") && dependency["source"].is_null();
    if is_ours && !allowed.contains(&target) && !is_dev {
        return Some(format!("may not depend on `{target}`: see ARCHITECTURE.md"));
    }
    if name == "larder-core" && !is_ours && !is_dev && !CORE_MAY_USE.contains(&target) {
        return Some(format!("core is pure, it may not depend on `{target}`"));
    }
    if MSGPACK.contains(&target) && name != "larder-wire" && !is_dev {
        return Some(format!("only wire knows MessagePack, `{target}` is not allowed here"));
    }
    None
}

/// Allowances that the crate makes no use of: the table is no wider than the house.
fn unused(allowed: &[&str], dependencies: &[&Value]) -> Vec<String> {
    let is_used = |name: &str| {
        let mut used = dependencies.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        used.any(|dependency| text(dependency, "name") == name)
    };
    let unused = allowed.iter().filter(|name| !is_used(name));
    unused.map(|name| format!("makes no use of `{name}`: take it out of xtask/src/tidy/edges.rs")).collect()
}

/// The packages of this workspace.
pub(super) fn members(metadata: &Value) -> Vec<&Value> {
    let ids: Vec<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter(|package| ids.contains(&text(package, "id"))).collect()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(name: &str, dependency: Value) -> Vec<Finding> {
        check(&json!({
            "workspace_members": ["a"],
            "packages": [{"id": "a", "name": name, "dependencies": [dependency]}],
        }))
    }

    #[test]
    fn an_edge_upwards_is_found() {
        let edge = json!({"name": "larder-server", "kind": null, "source": null});
        assert_eq!(with("larder-core", edge).len(), 1);
    }

    #[test]
    fn core_may_not_wait() {
        let edge = json!({"name": "tokio", "kind": null, "source": "registry"});
        assert_eq!(with("larder-core", edge.clone()).len(), 1);
        assert_eq!(with("larder-zmtp", edge), []);
    }

    #[test]
    fn msgpack_is_for_wire_and_tests() {
        let edge = json!({"name": "rmp", "kind": null, "source": "registry"});
        assert!(refused("larder-wire", &[], &edge).is_none());
        assert!(refused("larder-server", &[], &edge).is_some());
        assert!(refused("larder-server", &[], &json!({"name": "rmp", "kind": "dev"})).is_none());
    }

    #[test]
    fn an_allowance_that_nobody_uses_is_found() {
        let edge = |kind| json!({"name": "larder-core", "kind": kind, "source": null});
        assert_eq!(with("larder-wire", edge(Value::Null)), []);
        assert_eq!(with("larder-wire", edge("dev".into())).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(with("larder-misc", json!({"name": "rmp-less", "kind": null, "source": "r"})).len(), 1);
    }
}
