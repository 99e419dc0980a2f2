//! What strangers say, made fit for a message: short, on one line, and without our secrets.

use crate::secret::Secret;

/// Most characters of a stranger's text in a message.
pub(super) const QUOTE_CHARS_MAX: usize = 200;

/// Characters of a secret by whose beginning a repetition of it is known. A stranger may cut what it repeats.
const SECRET_START_CHARS: usize = 4;

/// The start of a text, with what would change the look of a terminal or begin another line replaced.
pub(super) fn quote(text: &str) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut quoted: String = text.chars().take(QUOTE_CHARS_MAX).map(plain).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

/// The same up to where the text begins to repeat a secret: some servers quote a command they refuse.
pub(super) fn quote_without(text: &str, secret: &Secret) -> String {
    let start: String = secret.expose().chars().take(SECRET_START_CHARS).collect();
    match text.split_once(&start).filter(|_| !start.is_empty()) {
        Some((before, _)) => format!("{}…", quote(before)),
        None => quote(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_short_and_on_one_line() {
        assert_eq!(quote("ERR it's no"), "ERR it's no");
        assert_eq!(quote("a\r\nb\u{1b}[31m"), "a\u{fffd}\u{fffd}b\u{fffd}[31m");
        let quoted = quote(&"x".repeat(1 << 16));
        assert_eq!((quoted.chars().count(), quoted.ends_with('…')), (QUOTE_CHARS_MAX + 1, true));
        assert_eq!(quote(&"x".repeat(QUOTE_CHARS_MAX)).chars().count(), QUOTE_CHARS_MAX);
    }

    #[test]
    fn a_secret_is_not_repeated_even_in_part() {
        let secret = Secret::new("correct-horse");
        let said = "ERR unknown command `AUTH`, with args beginning with: `correct-`";
        let quoted = quote_without(said, &secret);
        assert_eq!(quoted, "ERR unknown command `AUTH`, with args beginning with: `…");
        assert_eq!(quote_without("WRONGPASS invalid", &secret), "WRONGPASS invalid");
        assert_eq!(quote_without("ERR", &Secret::default()), "ERR");
    }
}
