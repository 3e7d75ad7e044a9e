//! JSON as Google's reader takes it: what it takes beside JSON becomes JSON on the way to the parser, which knows of
//! nothing else (docs/behaviour.md, section 20.2).
//!
//! That is strings in single quotes, names without quotes, a comma behind the last element, any escaped character, and
//! control characters inside strings. Nothing is nested here and little is stored: depth and sizes are the parser's.

use std::io::{self, Read};

/// Bytes that one step writes at most.
const STEP_BYTES_MAX: usize = 6;

/// The JSON that a body stands for.
#[derive(Debug)]
pub struct Lenient<'a> {
    rest: &'a [u8],
    /// Which quotes end the string that is being read.
    quote: Option<u8>,
    /// Bytes of a name, number or literal that go on as they are.
    word: usize,
    /// A quote ends that name.
    is_name: bool,
    /// The last byte outside of strings and white space, or of a string's end.
    last: u8,
    /// Written, but not taken yet.
    step: [u8; STEP_BYTES_MAX],
    ready: std::ops::Range<usize>,
}

impl<'a> Lenient<'a> {
    /// Reads `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            quote: None,
            word: 0,
            is_name: false,
            last: 0,
            step: [0; STEP_BYTES_MAX],
            ready: 0..0,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.step[..bytes.len()].copy_from_slice(bytes);
        self.ready = 0..bytes.len();
    }

    /// Writes the JSON of what comes next; nothing for what says nothing.
    fn advance(&mut self, byte: u8, rest: &'a [u8]) {
        self.rest = rest;
        if self.word > 0 {
            self.word -= 1;
            if self.word == 0 && self.is_name {
                self.write(&[byte, b'"']);
            } else {
                self.write(&[byte]);
            }
        } else if let Some(quote) = self.quote {
            self.in_string(byte, quote);
        } else {
            self.token(byte);
        }
    }

    fn in_string(&mut self, byte: u8, quote: u8) {
        match byte {
            _ if byte == quote => {
                self.quote = None;
                self.last = b'"';
                self.write(b"\"");
            }
            b'"' => self.write(b"\\\""),
            b'\\' => {
                let Some((&escaped, rest)) = self.rest.split_first() else {
                    return self.write(b"\\");
                };
                self.rest = rest;
                match escaped {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u' => {
                        self.write(&[b'\\', escaped]);
                    }
                    b'v' => self.character(b'\x0b'),
                    // Any other stands for itself.
                    _ => self.character(escaped),
                }
            }
            _ => self.character(byte),
        }
    }

    /// A character of a string that is none of JSON's own.
    fn character(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        if byte < b' ' {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            self.write(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
        } else {
            self.write(&[byte]);
        }
    }

    fn token(&mut self, byte: u8) {
        match byte {
            b'"' | b'\'' => {
                self.quote = Some(byte);
                self.write(b"\"");
            }
            b'\x0b' | b'\x0c' => self.write(b" "),
            b' ' | b'\t' | b'\r' | b'\n' => self.write(&[byte]),
            // Behind the last element; behind anything else it is not taken.
            b',' if !matches!(self.last, 0 | b'{' | b'[' | b',' | b':')
                && matches!(first_token(self.rest), Some(b'}' | b']')) => {}
            b'-' | b'0'..=b'9' => {
                self.begin(false, |byte| {
                    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')
                });
                self.write(&[byte]);
            }
            _ if is_in_word(byte) => {
                self.begin(true, is_in_word);
                match (self.is_name, self.word) {
                    (true, 0) => self.write(&[b'"', byte, b'"']),
                    (true, _) => self.write(&[b'"', byte]),
                    (false, _) => self.write(&[byte]),
                }
            }
            _ => {
                self.last = byte;
                self.write(&[byte]);
            }
        }
    }

    /// Begins a word whose other bytes are such. It is a name if it may be one and a colon is behind it.
    fn begin(&mut self, may_be_name: bool, is_part: impl Fn(u8) -> bool) {
        let parts = self.rest.iter().take_while(|byte| is_part(**byte));
        self.word = parts.count();
        self.is_name = may_be_name
            && matches!(self.last, b'{' | b',')
            && first_token(&self.rest[self.word..]) == Some(b':');
        self.last = b'"';
    }
}

/// The first byte behind white space.
fn first_token(rest: &[u8]) -> Option<u8> {
    let mut rest = rest.iter().copied();
    rest.find(|byte| !byte.is_ascii_whitespace() && *byte != b'\x0b')
}

const fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl Read for Lenient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            if let Some(at) = self.ready.next() {
                buffer[count] = self.step[at];
                count += 1;
            } else if let Some((&byte, rest)) = self.rest.split_first() {
                self.advance(byte, rest);
            } else {
                break;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json(body: &[u8], room: usize) -> Vec<u8> {
        let mut lenient = Lenient::new(body);
        let (mut json, mut buffer) = (Vec::new(), vec![0; room]);
        loop {
            let count = lenient.read(&mut buffer).expect("memory cannot fail");
            if count == 0 {
                return json;
            }
            json.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn what_is_taken_beside_json_becomes_json_however_little_is_read_at_once() {
        for (body, expected) in [
            ("{'a': 'b'}", r#"{"a": "b"}"#),
            (
                "{a: 1, $b_2 : 2, c\n:3}",
                "{\"a\": 1, \"$b_2\" : 2, \"c\"\n:3}",
            ),
            (
                r#"{'a': 'x"y', "b": "x'y"}"#,
                r#"{"a": "x\"y", "b": "x'y"}"#,
            ),
            (r"'\'\v\q\n\u00e9\\'", r#""'\u000bq\n\u00e9\\""#),
            ("'é\u{1}\t\u{7f}'", "\"é\\u0001\\u0009\u{7f}\""),
            ("[1, true, null, -1.5e+3,]", "[1, true, null, -1.5e+3]"),
            ("{a: [{},\n], }", "{\"a\": [{}\n] }"),
            ("[\u{b}1\u{c}]", "[ 1 ]"),
            // These stay what they are, and are refused.
            ("[,]", "[,]"),
            ("{,}", "{,}"),
            ("[1,,]", "[1,,]"),
            ("{a:,}", r#"{"a":,}"#),
            ("{a: b}", r#"{"a": b}"#),
            ("[a]", "[a]"),
            ("{1a: 1}", "{1a: 1}"),
            ("{a 1}", "{a 1}"),
            ("'a", r#""a"#),
            (r"'a\", r#""a\"#),
            ("// a", "// a"),
        ] {
            for room in [1, 2, 100] {
                let read = json(body.as_bytes(), room);
                assert_eq!(String::from_utf8_lossy(&read), expected, "{body}");
            }
        }
    }

    proptest! {
        /// What is JSON already stays the same.
        #[test]
        fn json_stays_what_it_is(body in r#"[\[\]{},:"a\\u0 1e.\-n']{0,12}|\[("[^"\\]{0,5}",? ?)*\]|(\{"a\\"": ?[0-9.e+\-]{1,4}\})"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&body) {
                let read = serde_json::from_reader::<_, Value>(Lenient::new(body.as_bytes()));
                prop_assert_eq!(read.ok(), Some(value));
            }
        }

        #[test]
        fn nothing_grows_much(body in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(json(&body, 7).len() <= STEP_BYTES_MAX * body.len());
        }
    }
}
