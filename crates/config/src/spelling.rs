//! What an unknown name was probably meant to be.

use strsim::levenshtein;

use super::flags;
use super::mistake::Mistake;
use super::source::Source;
use super::value::quoted;

/// A key that is no setting, with the one that was probably meant.
pub(super) fn unknown_key(key: &str, source: Source) -> Mistake {
    let mistake = Mistake::new(quoted(key), source, "no setting has this name");
    let spelt = key.replace('-', "_").to_ascii_lowercase();
    match meant(&spelt, flags::all().map(|flag| flag.key())) {
        Some(known) => mistake.hint(format!("did you mean `{known}`?")),
        None => mistake.hint("`larder config show` lists every setting"),
    }
}

/// The known name that an unknown one probably stands for: it has a slip of the pen, or only the beginning
/// (`l1_size`).
pub(super) fn meant(given: &str, known: impl Iterator<Item = String>) -> Option<String> {
    // What is longer than any name is far from all of them, whatever follows.
    let given: String = given.chars().take(128).collect();
    let distance = |known: &String| levenshtein(&given, known);
    let is_meant = |known: &String| {
        distance(known) <= 3 || known.strip_prefix(&given).is_some_and(|rest| rest.starts_with('_'))
    };
    known.filter(is_meant).min_by_key(distance)
}
