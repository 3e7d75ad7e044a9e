//! Makes text printable: every character can be seen and is where it stands, whoever has chosen the names in it.

use std::{borrow::Cow, fmt::Write as _};

/// How the subscriber colours a line: none, dim, italic, and a colour for each level. A name can do no more either.
const STYLES: [&str; 8] = [
    "\u{1b}[0m",
    "\u{1b}[2m",
    "\u{1b}[3m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[34m",
    "\u{1b}[35m",
];

/// A text for people, of any number of lines, with everything escaped in them as in [`line`].
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| deceives(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let lines = text.split_inclusive('\n');
    Cow::Owned(lines.map(|one| line(one, false)).collect())
}

/// A line with everything escaped, as JSON escapes it, that would not be seen, or would change how the rest is seen.
pub(super) fn line(line: &str, has_colours: bool) -> Cow<'_, str> {
    let (content, end) = match line.strip_suffix('\n') {
        Some(content) => (content, "\n"),
        None => (line, ""),
    };
    let is_fine = |at: usize, c: char| {
        let is_style = || STYLES.iter().any(|style| content[at..].starts_with(style));
        !deceives(c) || (has_colours && is_style())
    };
    if content.char_indices().all(|(at, c)| is_fine(at, c)) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for (at, c) in content.char_indices() {
        if is_fine(at, c) {
            shown.push(c);
        } else {
            // Writing to a text cannot fail. None of these characters is above U+FFFF.
            let _written = write!(shown, "\\u{:04x}", u32::from(c));
        }
    }
    shown.push_str(end);
    Cow::Owned(shown)
}

/// Control characters, marks that change the direction of text, and ends of lines and paragraphs.
pub(super) fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_lines_and_nothing_that_deceives() {
        assert_eq!(text("one\ntwo é\n"), "one\ntwo é\n");
        assert_eq!(
            text("one\u{1b}[2K\ntw\u{202e}o"),
            "one\\u001b[2K\ntw\\u202eo"
        );
    }
}
