//! Which crate may depend on which: ARCHITECTURE.md's picture, and what `core` must stay free of.

use serde_json::Value;

use super::source::Finding;

/// What the pure crate may use: hashing and its digits, a hash table, an error derive. Nothing that waits,
/// reads, or serializes.
const CORE_MAY_USE: [&str; 6] = ["base16ct", "blake3", "hashbrown", "sha2", "smallvec", "thiserror"];

/// MessagePack belongs to `wire` alone (invariant 2).
const MSGPACK: [&str; 3] = ["rmp", "rmp-serde", "rmpv"];

/// What ARCHITECTURE.md says of our crates.
struct Plan<'t> {
    /// Each crate and the crates it uses, as folders are called.
    uses: Vec<(&'t str, Vec<&'t str>)>,
    /// The floors, from the top.
    floors: Vec<Vec<&'t str>>,
}

impl<'t> Plan<'t> {
    fn read(architecture: &'t str) -> Self {
        let rows = architecture.lines().filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let name = cells.first()?.strip_suffix('`')?;
            let name = name.strip_prefix("crates/").or((name == "xtask").then_some(name))?;
            Some((
                name,
                cells.get(2)?.split('`').filter(|word| !word.trim().is_empty() && *word != "-").collect(),
            ))
        });
        let uses: Vec<(&str, Vec<&str>)> = rows.collect();
        let is_crate = |word: &str| uses.iter().any(|(name, _)| *name == word);
        let is_floor = |line: &&str| line.split_whitespace().all(is_crate) && !line.trim().is_empty();
        let floors =
            architecture.lines().filter(is_floor).map(|line| line.split_whitespace().collect()).collect();
        Self { uses, floors }
    }

    fn allowed(&self, name: &str) -> Option<&[&'t str]> {
        self.uses.iter().find(|(known, _)| *known == name).map(|(_, uses)| uses.as_slice())
    }

    fn floor(&self, name: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&name))
    }

    /// Crates without a place in the picture, and uses that do not lead down.
    fn misdrawn(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, uses) in &self.uses {
            let wrong = uses.iter().filter(|used| self.floor(name) >= self.floor(used));
            findings.extend(wrong.map(|used| {
                Finding::new("ARCHITECTURE.md", format!("`{name}` uses `{used}`, which is no floor below it"))
            }));
            if !uses.is_empty() && self.floor(name).is_none() {
                findings.push(Finding::new("ARCHITECTURE.md", format!("`{name}` stands on no floor")));
            }
        }
        findings
    }
}

/// Holds the crates against `architecture`, the text of ARCHITECTURE.md.
pub(super) fn check(metadata: &Value, architecture: &str) -> Vec<Finding> {
    let plan = Plan::read(architecture);
    let mut findings = plan.misdrawn();
    for package in members(metadata) {
        let name = text(package, "name");
        let Some(allowed) = plan.allowed(folder(name)) else {
            findings.push(Finding::new(name, "a crate without a row in ARCHITECTURE.md"));
            continue;
        };
        let dependencies: Vec<&Value> = package["dependencies"].as_array().into_iter().flatten().collect();
        let refusals = dependencies.iter().filter_map(|dependency| refused(name, allowed, dependency));
        findings.extend(refusals.chain(unused(allowed, &dependencies)).map(|why| Finding::new(name, why)));
    }
    findings
}

/// The folder in `crates` of a package, which is what ARCHITECTURE.md calls it.
fn folder(package: &str) -> &str {
    package.strip_prefix("larder-").unwrap_or(package)
}

fn refused(name: &str, allowed: &[&str], dependency: &Value) -> Option<String> {
    let target = text(dependency, "name");
    let is_dev = dependency["kind"].as_str() == Some("dev");
    let is_ours = target.starts_with("larder") && dependency["source"].is_null();
    if is_ours && !allowed.contains(&folder(target)) && !is_dev {
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

/// Uses that ARCHITECTURE.md names and the crate has not.
fn unused(allowed: &[&str], dependencies: &[&Value]) -> Vec<String> {
    let is_used = |name: &str| {
        let mut used = dependencies.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        used.any(|dependency| folder(text(dependency, "name")) == name)
    };
    let unused = allowed.iter().filter(|name| !is_used(name));
    unused
        .map(|name| format!("makes no use of `{name}`: take it out of its row in ARCHITECTURE.md"))
        .collect()
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

    const PLAN: &str = "\
        | `crates/server` | all | `wire` `core` | - |\n\
        | `crates/wire` | bytes | `core` | sockets |\n\
        | `crates/core` | the domain | - | clocks |\n\
        | `crates/zmtp` | sockets | - | |\n\
        server\n  wire\ncore zmtp\n";

    fn with(name: &str, dependency: Value) -> Vec<Finding> {
        let package = json!({"id": "a", "name": name, "dependencies": [dependency]});
        check(&json!({"workspace_members": ["a"], "packages": [package]}), PLAN)
    }

    #[test]
    fn a_use_that_the_picture_has_not_is_found() {
        let is_clean = |architecture: &str| Plan::read(architecture).misdrawn().is_empty();
        assert!(is_clean(PLAN));
        assert!(!is_clean(&PLAN.replace("core zmtp", "zmtp")));
        assert!(!is_clean(&PLAN.replace("  wire\ncore zmtp", "core zmtp\nwire")));
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
