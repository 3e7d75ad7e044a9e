//! Cuts the text of a filter into tokens. What a key may be is known to the parser, which asks for it.

use super::FilterError;

/// A part of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Colon,
    Dot,
    Comma,
    Equal,
    NotEqual,
    Minus,
    /// A keyword, or what stands where one should.
    Word(String),
    /// A quoted string without its quotes, with what its escape sequences stand for.
    Quoted(String),
    /// A character that no token begins with.
    Other,
    End,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Bytes that were taken.
    taken: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, taken: 0 }
    }

    /// The next token, and the byte at which it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token), FilterError> {
        self.skip_space();
        let start = self.taken;
        let Some(first) = self.take() else {
            return Ok((start, Token::End));
        };
        let token = match first {
            '(' => Token::Open,
            ')' => Token::Close,
            ':' => Token::Colon,
            '.' => Token::Dot,
            ',' => Token::Comma,
            '=' => Token::Equal,
            '-' => Token::Minus,
            '!' if self.peek() == Some('=') => {
                self.take();
                Token::NotEqual
            }
            '"' => Token::Quoted(self.rest_of_string(start)?),
            _ if is_word(first) => {
                self.take_while(is_word);
                Token::Word(self.text[start..self.taken].to_owned())
            }
            _ => Token::Other,
        };
        Ok((start, token))
    }

    /// The next token where a key stands, and the byte at which it begins: a key without quotes is a word in which hyphens
    /// may be.
    pub(super) fn next_key(&mut self) -> Result<(usize, Token), FilterError> {
        self.skip_space();
        let start = self.taken;
        self.take_while(|it| is_word(it) || it == '-');
        if self.taken > start {
            return Ok((start, Token::Word(self.text[start..self.taken].to_owned())));
        }
        self.next()
    }

    /// Which character of the text begins at this byte, counted from 1.
    pub(super) fn position(&self, byte: usize) -> usize {
        self.text[..byte].chars().count() + 1
    }

    /// What was taken of the text from the byte `start` on.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.taken]
    }

    fn peek(&self) -> Option<char> {
        self.text[self.taken..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.taken += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, is_taken: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&is_taken) {
            self.take();
        }
    }

    fn skip_space(&mut self) {
        self.take_while(|it| matches!(it, ' ' | '\t' | '\r' | '\n'));
    }

    /// A string whose opening quote, at the byte `start`, was taken.
    fn rest_of_string(&mut self, start: usize) -> Result<String, FilterError> {
        let mut value = String::new();
        loop {
            let escape = self.taken;
            match self.take() {
                Some('"') => return Ok(value),
                Some('\\') => {
                    let meant = self.rest_of_escape();
                    value.push(meant.ok_or_else(|| FilterError::Escape {
                        at: self.position(escape),
                    })?);
                }
                Some(other) => value.push(other),
                None => {
                    let at = self.position(start);
                    return Err(FilterError::Unclosed { at });
                }
            }
        }
    }

    /// What an escape sequence stands for, whose backslash was taken. Numbers are those of characters, so that a string is
    /// always text, as attributes are.
    fn rest_of_escape(&mut self) -> Option<char> {
        let kind = self.take()?;
        match kind {
            '"' | '\'' | '`' | '\\' | '?' => Some(kind),
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' | 'X' => self.number(0, 2, 16),
            'u' => self.number(0, 4, 16),
            'U' => self.number(0, 8, 16),
            '0'..='3' => self.number(kind.to_digit(8)?, 2, 8),
            _ => None,
        }
    }

    /// The character whose number has these digits behind those of `before`.
    fn number(&mut self, before: u32, digits: usize, radix: u32) -> Option<char> {
        let mut number = before;
        for _ in 0..digits {
            let digit = self.peek()?.to_digit(radix)?;
            self.take();
            number = number.checked_mul(radix)?.checked_add(digit)?;
        }
        char::from_u32(number)
    }
}

fn is_word(it: char) -> bool {
    it.is_ascii_alphanumeric() || it == '_'
}
