//! Reference tables in Markdown, made from the flag table.

use std::fmt::Write as _;

use super::flag::{Flag, Group, Kind, Origin, Support};
use super::flags;

/// A table of every command-line flag, by heading.
#[must_use]
pub fn flag_tables() -> String {
    tables(&["Flag", "Value", "Default", "Meaning"], |flag| {
        vec![flag_spelling(flag), value_column(flag), default_column(flag), meaning_column(flag)]
    })
}

/// A table of every key of the configuration file with its environment variables, by heading.
#[must_use]
pub fn key_tables() -> String {
    tables(&["Key", "Environment", "Accepted", "Default"], |flag| {
        let key =
            if flag.name == "config" { String::from("(not in a file)") } else { format!("`{}`", flag.key()) };
        let names: Vec<String> = std::iter::once(flag.variable())
            .chain(flag.peer_environment.iter().map(|name| (*name).to_owned()))
            .map(|name| format!("`{name}`"))
            .collect();
        vec![key, names.join(", "), flag.kind.accepted(), default_column(flag)]
    })
}

/// A table of the flags whose feature is not part of this build.
#[must_use]
pub fn missing_table() -> String {
    let mut text = table_head(&["Flag", "Needs", "Instead"]);
    for flag in flags::all() {
        if let Support::Missing { feature, hint } = flag.support {
            push_row(&mut text, &[format!("`--{}`", flag.name), feature.to_owned(), hint.to_owned()]);
        }
        if let Kind::Choice(choices) = flag.kind {
            for choice in choices {
                if let Some((reason, hint)) = choice.refused {
                    push_row(
                        &mut text,
                        &[format!("`--{} {}`", flag.name, choice.word), reason.to_owned(), hint.to_owned()],
                    );
                }
            }
        }
    }
    text
}

fn tables(columns: &[&str], row: impl Fn(&'static Flag) -> Vec<String>) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let mut rows = flags::all().filter(|flag| flag.group == group).peekable();
        if rows.peek().is_none() {
            continue;
        }
        // Writing to a String cannot fail.
        _ = write!(text, "\n### {}\n\n{}", group.heading(), table_head(columns));
        for flag in rows {
            push_row(&mut text, &row(flag));
        }
    }
    text
}

fn table_head(columns: &[&str]) -> String {
    format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn push_row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    // Writing to a String cannot fail.
    _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn flag_spelling(flag: &Flag) -> String {
    match flag.kind {
        Kind::Pair => format!("`--{0}`, `--no-{0}`", flag.name),
        _ if flag.name == "quiet" => "`-q`, `--quiet`".into(),
        _ => format!("`--{}`", flag.name),
    }
}

fn value_column(flag: &Flag) -> String {
    match flag.kind {
        Kind::Switch | Kind::Pair => String::new(),
        Kind::List | Kind::Json | Kind::Objects | Kind::Text | Kind::Name => flag.kind.type_name().into(),
        kind => kind.accepted(),
    }
}

fn default_column(flag: &Flag) -> String {
    let ours = match (flag.default, flag.automatic) {
        (Some(""), _) => "empty".into(),
        (Some(default), _) => format!("`{default}`"),
        (None, Some(automatic)) => automatic.to_owned(),
        (None, None) => "none".into(),
    };
    match flag.peer_default {
        Some(theirs) => format!("{ours} (`lmcache server`: {theirs})"),
        None => ours,
    }
}

fn meaning_column(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if flag.origin == Origin::Larder {
        text.push_str(" Larder's own.");
    }
    if flag.is_hot {
        text.push_str(" Can be changed while the server runs.");
    }
    match flag.support {
        Support::Full => {}
        Support::NoEffect(why) => {
            _ = write!(text, " Accepted without effect: {why}.");
        }
        Support::Missing { .. } => text.push_str(" Not part of this build: refused unless left off."),
    }
    text
}
