//! Makes an expression of the tokens of a filter. The grammar, from the outermost rule inwards:
//!
//! ```text
//! expression := term { AND term } | term { OR term }
//! term       := ( NOT | - ) term | '(' expression ')' | condition
//! condition  := attributes ':' key
//!             | attributes '.' key ( '=' | '!=' ) string
//!             | hasPrefix '(' attributes '.' key ',' string ')'
//! key        := letters, digits, '_' and '-' | string
//! ```
//!
//! It calls itself once for each opening parenthesis and each negation, of which 256 bytes bound the number.

use super::{
    FilterError,
    expression::{Condition, Expression, Test},
    lexer::{Lexer, Token},
};

/// What a term begins with.
const TERM: &str = "`attributes`, `hasPrefix`, NOT or `(`";

/// Parses a whole filter.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
    };
    parser.expression("AND, OR or the end", &Token::End)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
}

/// What connects the terms of an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connective {
    And,
    Or,
}

impl Parser<'_> {
    /// An expression, and `end` behind it; `expected` says what may follow a term.
    fn expression(
        &mut self,
        expected: &'static str,
        end: &Token,
    ) -> Result<Expression, FilterError> {
        let mut terms = vec![self.term()?];
        let mut connective = None;
        loop {
            let (start, token) = self.lexer.next()?;
            let next = match &token {
                Token::Word(word) if word == "AND" => Connective::And,
                Token::Word(word) if word == "OR" => Connective::Or,
                token if token == end => break,
                _ => return Err(self.unexpected(start, &token, expected)),
            };
            if *connective.get_or_insert(next) != next {
                let at = self.lexer.position(start);
                return Err(FilterError::Mixed { at });
            }
            terms.push(self.term()?);
        }
        Ok(match connective {
            Some(Connective::And) => Expression::All(terms),
            Some(Connective::Or) => Expression::Any(terms),
            None => terms.remove(0),
        })
    }

    fn term(&mut self) -> Result<Expression, FilterError> {
        let (start, token) = self.lexer.next()?;
        match &token {
            Token::Minus => Ok(Expression::Not(Box::new(self.term()?))),
            Token::Open => self.expression("AND, OR or `)`", &Token::Close),
            Token::Word(word) => match word.as_str() {
                "NOT" => Ok(Expression::Not(Box::new(self.term()?))),
                "attributes" => self.rest_of_condition(),
                "hasPrefix" => self.rest_of_prefix(),
                _ => Err(self.unexpected(start, &token, TERM)),
            },
            _ => Err(self.unexpected(start, &token, TERM)),
        }
    }

    /// What follows `attributes` where a condition begins with it.
    fn rest_of_condition(&mut self) -> Result<Expression, FilterError> {
        let (start, token) = self.lexer.next()?;
        let (key, test) = match token {
            Token::Colon => (self.key()?, Test::IsPresent),
            Token::Dot => {
                let key = self.key()?;
                let (start, token) = self.lexer.next()?;
                let test = match token {
                    Token::Equal => Test::Is(self.string()?),
                    Token::NotEqual => Test::IsNot(self.string()?),
                    token => return Err(self.unexpected(start, &token, "`=` or `!=`")),
                };
                (key, test)
            }
            token => return Err(self.unexpected(start, &token, "`:` or `.`")),
        };
        Ok(Expression::Condition(Condition { key, test }))
    }

    /// What follows `hasPrefix`.
    fn rest_of_prefix(&mut self) -> Result<Expression, FilterError> {
        self.take(&Token::Open, "`(`")?;
        let attributes = Token::Word("attributes".to_owned());
        self.take(&attributes, "`attributes`")?;
        self.take(&Token::Dot, "`.`")?;
        let key = self.key()?;
        self.take(&Token::Comma, "`,`")?;
        let test = Test::BeginsWith(self.string()?);
        self.take(&Token::Close, "`)`")?;
        Ok(Expression::Condition(Condition { key, test }))
    }

    fn key(&mut self) -> Result<String, FilterError> {
        let (start, token) = self.lexer.next_key()?;
        match token {
            Token::Word(key) | Token::Quoted(key) => Ok(key),
            token => Err(self.unexpected(start, &token, "an attribute's key")),
        }
    }

    fn string(&mut self) -> Result<String, FilterError> {
        let (start, token) = self.lexer.next()?;
        match token {
            Token::Quoted(value) => Ok(value),
            token => Err(self.unexpected(start, &token, "a quoted string")),
        }
    }

    fn take(&mut self, wanted: &Token, expected: &'static str) -> Result<(), FilterError> {
        let (start, token) = self.lexer.next()?;
        if token == *wanted {
            return Ok(());
        }
        Err(self.unexpected(start, &token, expected))
    }

    fn unexpected(&self, start: usize, token: &Token, expected: &'static str) -> FilterError {
        let found = match token {
            Token::End => "the end".to_owned(),
            _ => format!("`{}`", self.lexer.since(start)),
        };
        FilterError::Unexpected {
            at: self.lexer.position(start),
            expected,
            found,
        }
    }
}
