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
                && matches!(self.next_token(), Some(b'}' | b']')) => {}
            b'-' | b'0'..=b'9' => {
                self.begin(false, |byte| {
                    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')
                });
                self.write(&[byte]);
            }
            _ if is_in_word(byte) => {
                let is_name = matches!(self.last, b'{' | b',');
                self.begin(is_name, is_in_word);
                match (is_name, self.word) {
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

    /// Begins a word whose other bytes are such.
    fn begin(&mut self, is_name: bool, is_part: impl Fn(u8) -> bool) {
        let parts = self.rest.iter().take_while(|byte| is_part(**byte));
        self.word = parts.count();
        self.is_name = is_name;
        self.last = b'"';
    }

    fn next_token(&self) -> Option<u8> {
        let mut rest = self.rest.iter().copied();
        rest.find(|byte| !byte.is_ascii_whitespace() && *byte != b'\x0b')
    }
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
