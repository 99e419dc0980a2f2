//! Foreign text in errors.

/// Longest piece of foreign text quoted in an error, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// `text` shortened for quoting, with control characters made visible.
pub(crate) fn quoted(text: &str) -> String {
    let mut quote: String = text.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        quote.push_str("...");
    }
    quote
}
