//! Reads the repository's own lists: files of `[[name]]` tables with one-line basic strings.
//!
//! Only that shape of TOML is understood; anything else is an error, so that a mistake can't hide.

use anyhow::{Context, Result, bail};

use crate::shell;

/// The tables of a file, in its order: each the values of `keys`, all of them given and none empty.
pub(crate) fn read<const N: usize>(path: &str, name: &str, keys: [&str; N]) -> Result<Vec<[String; N]>> {
    let text =
        std::fs::read_to_string(shell::root().join(path)).with_context(|| format!("reading `{path}`"))?;
    parse(&text, name, keys).with_context(|| format!("reading `{path}`"))
}

fn parse<const N: usize>(text: &str, name: &str, keys: [&str; N]) -> Result<Vec<[String; N]>> {
    let header = format!("[[{name}]]");
    let mut tables: Vec<[String; N]> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == header {
            tables.push([const { String::new() }; N]);
            continue;
        }
        let place = format!("line {}", index + 1);
        let Some((key, value)) = line.split_once(" = ") else { bail!("{place}: expected `key = \"value\"`") };
        let Some(last) = tables.last_mut() else { bail!("{place}: `{key}` before any `{header}`") };
        let Some(at) = keys.iter().position(|known| *known == key) else {
            bail!("{place}: unknown key `{key}`")
        };
        last[at] = string(value).with_context(|| place)?;
    }
    for table in &tables {
        if table.iter().any(String::is_empty) {
            bail!("{name} `{}` needs {}", table[0], keys.join(", "));
        }
    }
    Ok(tables)
}

/// A TOML basic string; the escapes are those JSON has too.
fn string(value: &str) -> Result<String> {
    serde_json::from_str(value).context("expected one quoted string")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_a_hole_is_found() {
        let keys = ["id", "why"];
        let whole = "# c\n[[thing]]\nid = \"a\"\nwhy = \"e \\\"f\\\"\"\n";
        assert_eq!(parse(whole, "thing", keys).unwrap(), [["a".to_owned(), "e \"f\"".to_owned()]]);
        for broken in ["[[thing]]\nid = \"a\"\n", "id = \"a\"\n", "[[thing]]\nid = 3\n", "[[other]]\n"] {
            assert!(parse(broken, "thing", keys).is_err(), "{broken}");
        }
    }
}
