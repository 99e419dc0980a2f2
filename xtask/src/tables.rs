//! Reads the repository's own lists: TOML files of `[[name]]` tables whose values are strings.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// The tables of a file, in its order: each the values of `keys`, all of them given and none empty.
pub(crate) fn read<const N: usize>(path: &str, name: &str, keys: [&str; N]) -> Result<Vec<[String; N]>> {
    let text =
        std::fs::read_to_string(shell::root().join(path)).with_context(|| format!("reading `{path}`"))?;
    parse(&text, name, keys).with_context(|| format!("reading `{path}`"))
}

fn parse<const N: usize>(text: &str, name: &str, keys: [&str; N]) -> Result<Vec<[String; N]>> {
    let mut lists: BTreeMap<String, Vec<BTreeMap<String, String>>> = toml::from_str(text)?;
    let tables = lists.remove(name).unwrap_or_default();
    ensure!(lists.is_empty(), "expected no tables but `[[{name}]]`");
    let values = tables.into_iter().map(|mut table| {
        let values = keys.map(|key| table.remove(key).unwrap_or_default());
        let is_whole = table.is_empty() && values.iter().all(|value| !value.is_empty());
        ensure!(is_whole, "{name} `{}` needs {}, and nothing else", values[0], keys.join(", "));
        Ok(values)
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_a_hole_is_found() {
        let keys = ["id", "why"];
        let whole = "# c\n[[thing]]\nid = \"a\"\nwhy = \"e \\\"f\\\"\"\n";
        assert_eq!(parse(whole, "thing", keys).unwrap(), [["a".to_owned(), "e \"f\"".to_owned()]]);
        let surplus = format!("{whole}who = \"b\"\n");
        for broken in
            ["[[thing]]\nid = \"a\"\n", "id = \"a\"\n", "[[thing]]\nid = 3\n", "[[other]]\n", &surplus]
        {
            assert!(parse(broken, "thing", keys).is_err(), "{broken}");
        }
    }
}
