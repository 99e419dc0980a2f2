//! Reads tests/python/deviations.toml: where we answer otherwise than the reference server, and why.
//!
//! Only the shape that file has is understood (`[[deviation]]` tables of one-line basic strings); anything else is
//! an error, so that a mistake can't hide.

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where the deviations are listed; the scenarios read the same file.
pub(crate) const PATH: &str = "tests/python/deviations.toml";

/// One deliberate difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deviation {
    pub(crate) id: String,
    pub(crate) area: String,
    pub(crate) peer: String,
    pub(crate) ours: String,
    pub(crate) why: String,
}

/// All deviations, in the order of the file.
pub(crate) fn read() -> Result<Vec<Deviation>> {
    let path = shell::root().join(PATH);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading `{PATH}`"))?;
    parse(&text).with_context(|| format!("reading `{PATH}`"))
}

fn parse(text: &str) -> Result<Vec<Deviation>> {
    let mut deviations: Vec<Deviation> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[[deviation]]" {
            deviations.push(Deviation::default());
            continue;
        }
        let place = format!("line {}", index + 1);
        let Some((key, value)) = line.split_once(" = ") else { bail!("{place}: expected `key = \"value\"`") };
        let Some(last) = deviations.last_mut() else { bail!("{place}: `{key}` before any `[[deviation]]`") };
        let field = match key {
            "id" => &mut last.id,
            "area" => &mut last.area,
            "peer" => &mut last.peer,
            "ours" => &mut last.ours,
            "why" => &mut last.why,
            other => bail!("{place}: unknown key `{other}`"),
        };
        *field = string(value).with_context(|| place)?;
    }
    for deviation in &deviations {
        let Deviation { id, area, peer, ours, why } = deviation;
        if [id, area, peer, ours, why].iter().any(|field| field.is_empty()) {
            bail!("deviation `{id}` needs id, area, peer, ours and why");
        }
    }
    Ok(deviations)
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
        let whole = "# c\n[[deviation]]\nid = \"a\"\narea = \"b\"\npeer = \"c\"\nours = \"d\"\nwhy = \"e \\\"f\\\"\"\n";
        assert_eq!(parse(whole).unwrap()[0].why, "e \"f\"");
        assert!(parse("[[deviation]]\nid = \"a\"\n").is_err());
        assert!(parse("id = \"a\"\n").is_err());
        assert!(parse("[[deviation]]\nid = 3\n").is_err());
    }
}
