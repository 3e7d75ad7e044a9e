//! Examples of Google's documentation and client libraries, and random ones.

use std::fmt::{self, Write as _};

use proptest::prelude::*;

use super::{
    Filter, FilterError,
    expression::{Condition, Expression, Test},
    parser,
};
use crate::limits::FILTER_BYTES_MAX;

type Attributes = &'static [(&'static str, &'static str)];

/// What the official clients try filters with.
const MESSAGES: [Attributes; 13] = [
    &[("lang", "en"), ("name", "com"), ("timezone", "UTC")],
    &[("lang", "en"), ("name", "net"), ("timezone", "UTC")],
    &[("lang", "en"), ("name", "org"), ("timezone", "UTC")],
    &[("lang", "cn"), ("name", "com"), ("timezone", "UTC")],
    &[("lang", "cn"), ("name", "net"), ("timezone", "UTC")],
    &[("lang", "cn"), ("name", "org"), ("timezone", "UTC")],
    &[("lang", "jp"), ("name", "co"), ("timezone", "UTC")],
    &[("lang", "jp"), ("timezone", "UTC")],
    &[("name", "com"), ("timezone", "UTC")],
    &[("lang", "jp"), ("みんな", "dummy1")],
    &[("みんな", "dummy2")],
    &[("name", "com"), ("みんな", "dummy3")],
    &[("name", "contains\"quote"), ("iana.org/language_tag", "")],
];

fn matches(filter: &Filter, attributes: &[(&'static str, &'static str)]) -> bool {
    filter.matches(|name| {
        let mut last = attributes.iter().rev();
        let found = last.find(|(key, _)| key.as_bytes() == name);
        found.map(|(_, value)| value.as_bytes())
    })
}

/// Which of [`MESSAGES`] match, counted from 1.
fn matching(text: &str) -> Vec<usize> {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let each = (1..).zip(MESSAGES);
    each.filter(|(_, attributes)| matches(&filter, attributes))
        .map(|(number, _)| number)
        .collect()
}

fn error(text: &str) -> FilterError {
    match Filter::parse(text) {
        Ok(_) => panic!("{text} is a filter"),
        Err(error) => error,
    }
}

#[test]
fn documented_filters_match_what_they_say() {
    let all: Vec<_> = (1..=MESSAGES.len()).collect();
    for (text, wanted) in [
        (r#"attributes.name = "com""#, &[1, 4, 9, 12][..]),
        (
            r#"attributes.name != "com""#,
            &[2, 3, 5, 6, 7, 8, 10, 11, 13],
        ),
        (
            r#"NOT attributes.name = "com""#,
            &[2, 3, 5, 6, 7, 8, 10, 11, 13],
        ),
        (r#"hasPrefix(attributes.name, "co")"#, &[1, 4, 7, 9, 12, 13]),
        (
            r#"NOT hasPrefix(attributes.name, "co")"#,
            &[2, 3, 5, 6, 8, 10, 11],
        ),
        (
            r#"hasPrefix(attributes.name, "")"#,
            &[1, 2, 3, 4, 5, 6, 7, 9, 12, 13],
        ),
        ("attributes:name", &[1, 2, 3, 4, 5, 6, 7, 9, 12, 13]),
        ("NOT attributes:name", &[8, 10, 11]),
        ("-attributes:name", &[8, 10, 11]),
        ("- NOT - attributes:name", &[8, 10, 11]),
        (
            r#"(NOT attributes:name) OR attributes.name = "co""#,
            &[7, 8, 10, 11],
        ),
        (
            r#"NOT attributes:name OR attributes.name = "co""#,
            &[7, 8, 10, 11],
        ),
        (r#"NOT (attributes:name OR attributes.lang = "jp")"#, &[11]),
        (
            r#"NOT attributes:name AND attributes.lang = "jp""#,
            &[8, 10],
        ),
        (
            r#"attributes.name = "com" AND -attributes:"lang""#,
            &[9, 12],
        ),
        (
            r#"attributes.lang = "en" AND (attributes.name = "com" OR attributes.name = "net")"#,
            &[1, 2],
        ),
        (r#"attributes:"みんな""#, &[10, 11, 12]),
        (r#"attributes:"\u307F\u3093\u306a""#, &[10, 11, 12]),
        (r#"attributes:"\U0000307F\u3093な""#, &[10, 11, 12]),
        (r#"attributes.name = "contains\"quote""#, &[13]),
        (r#"attributes.name = "contains\x22quote""#, &[13]),
        (r#"attributes.name = "contains\042quote""#, &[13]),
        (r#"attributes:"iana.org/language_tag""#, &[13]),
        (r#"attributes."iana.org/language_tag" = """#, &[13]),
        (r#"attributes."iana.org/language_tag" != "en""#, &all),
        (r#"attributes . name="com"AND(attributes : lang)"#, &[1, 4]),
        (
            "\t((attributes:\r\nname ) )",
            &[1, 2, 3, 4, 5, 6, 7, 9, 12, 13],
        ),
        ("attributes:Name", &[]),
        (r#"attributes.name = "Com""#, &[]),
        (
            "attributes:NOT OR attributes:AND OR attributes:hasPrefix",
            &[],
        ),
        ("attributes:-no-such-key_1", &[]),
    ] {
        assert_eq!(matching(text), wanted, "{text}");
    }
}

#[test]
fn what_is_no_filter_says_where_and_what_was_expected() {
    const TERM: &str = "expected `attributes`, `hasPrefix`, NOT or `(` at character";
    for (text, wanted) in [
        ("", &format!("{TERM} 1, found the end")[..]),
        ("  ", &format!("{TERM} 3, found the end")),
        ("ü", &format!("{TERM} 1, found `ü`")),
        ("not attributes:a", &format!("{TERM} 1, found `not`")),
        ("Attributes:a", &format!("{TERM} 1, found `Attributes`")),
        (
            "HASPREFIX(attributes.a, \"b\")",
            &format!("{TERM} 1, found `HASPREFIX`"),
        ),
        (r#""a" = attributes.a"#, &format!("{TERM} 1, found `\"a\"`")),
        ("attributes:a AND", &format!("{TERM} 17, found the end")),
        (
            "attributes:a AND OR attributes:b",
            &format!("{TERM} 18, found `OR`"),
        ),
        ("()", &format!("{TERM} 2, found `)`")),
        (
            "attributes:a and attributes:b",
            "expected AND, OR or the end at character 14, found `and`",
        ),
        (
            "attributes:a -attributes:b",
            "expected AND, OR or the end at character 14, found `-`",
        ),
        (
            "attributes:iana.org",
            "expected AND, OR or the end at character 16, found `.`",
        ),
        (
            "attributes:a)",
            "expected AND, OR or the end at character 13, found `)`",
        ),
        (
            "(attributes:a",
            "expected AND, OR or `)` at character 14, found the end",
        ),
        (
            "attributes",
            "expected `:` or `.` at character 11, found the end",
        ),
        (
            "attributes a",
            "expected `:` or `.` at character 12, found `a`",
        ),
        (
            "attributes.",
            "expected an attribute's key at character 12, found the end",
        ),
        (
            "attributes:(a)",
            "expected an attribute's key at character 12, found `(`",
        ),
        (
            "attributes:みんな",
            "expected an attribute's key at character 12, found `み`",
        ),
        (
            "attributes.a",
            "expected `=` or `!=` at character 13, found the end",
        ),
        (
            "attributes.a ! \"b\"",
            "expected `=` or `!=` at character 14, found `!`",
        ),
        (
            "attributes.a < \"b\"",
            "expected `=` or `!=` at character 14, found `<`",
        ),
        (
            "attributes.name = $",
            "expected a quoted string at character 19, found `$`",
        ),
        (
            "attributes.name = ",
            "expected a quoted string at character 19, found the end",
        ),
        (
            "attributes.name = 'com'",
            "expected a quoted string at character 19, found `'`",
        ),
        (
            "attributes.name = 1",
            "expected a quoted string at character 19, found `1`",
        ),
        (
            "hasPrefix attributes.a",
            "expected `(` at character 11, found `attributes`",
        ),
        (
            "hasPrefix(name",
            "expected `attributes` at character 11, found `name`",
        ),
        (
            "hasPrefix(attributes:a, \"b\")",
            "expected `.` at character 21, found `:`",
        ),
        (
            "hasPrefix(attributes.name)",
            "expected `,` at character 26, found `)`",
        ),
        (
            "hasPrefix(attributes.a, \"b\"",
            "expected `)` at character 28, found the end",
        ),
        (
            "attributes:ü AND attributes:b OR attributes:c",
            "expected an attribute's key at character 12, found `ü`",
        ),
        (
            r#"attributes:"ü" AND attributes:b OR attributes:c"#,
            "AND and OR are mixed at character 33: one of them needs parentheses",
        ),
        (
            r#"attributes:"a"#,
            "the string at character 12 has no closing quote",
        ),
        (
            r#"attributes:"a\"#,
            "the escape sequence at character 14 is none",
        ),
        (
            r#"attributes:"\z""#,
            "the escape sequence at character 13 is none",
        ),
        (
            r#"attributes:"\x4""#,
            "the escape sequence at character 13 is none",
        ),
        (
            r#"attributes:"\48""#,
            "the escape sequence at character 13 is none",
        ),
        (
            r#"attributes:"\ud800""#,
            "the escape sequence at character 13 is none",
        ),
        (
            r#"attributes:"\UFFFFFFFF""#,
            "the escape sequence at character 13 is none",
        ),
    ] {
        let said = error(text).to_string();
        assert!(said.starts_with(wanted), "{text}: {said}");
    }
}

#[test]
fn a_filter_has_at_most_256_bytes() {
    let of = |bytes: usize| format!("attributes:{}", "a".repeat(bytes - 11));
    assert!(Filter::parse(&of(FILTER_BYTES_MAX)).is_ok());
    let bytes = FILTER_BYTES_MAX + 1;
    assert_eq!(error(&of(bytes)), FilterError::TooLong { bytes });
}

#[test]
fn the_deepest_filters_are_taken() {
    let condition = "attributes:name";
    let depth = (FILTER_BYTES_MAX - condition.len()) / 2;
    let nested = format!("{}{condition}{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(matching(&nested), matching(condition));
    let negated = format!("{}{condition}", "-".repeat(2 * depth));
    assert_eq!(matching(&negated), matching(condition));
}

#[test]
fn of_a_name_that_appears_twice_the_last_counts() {
    let filter = Filter::parse(r#"attributes.a = "2""#).expect("a filter");
    assert!(matches(&filter, &[("a", "1"), ("a", "2")]));
    assert!(!matches(&filter, &[("a", "2"), ("a", "1")]));
}

#[test]
fn a_filter_is_stored_as_its_text() {
    let text = r#" attributes.a="\u0041""#;
    let filter = Filter::parse(text).expect("a filter");
    let stored = serde_json::to_string(&filter).expect("stored");
    assert_eq!(stored, serde_json::to_string(text).expect("stored"));
    assert_eq!(
        serde_json::from_str::<Filter>(&stored).expect("read"),
        filter
    );
    assert!(serde_json::from_str::<Filter>(r#""attributes""#).is_err());
}

/// An expression as a filter's text.
struct Printed<'a>(&'a Expression);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (terms, connective) = match self.0 {
            Expression::All(terms) => (terms, " AND "),
            Expression::Any(terms) => (terms, " OR "),
            Expression::Not(term) => {
                f.write_str("NOT ")?;
                return term_of(term, f);
            }
            Expression::Condition(Condition { key, test }) => {
                let key = Quoted(key);
                return match test {
                    Test::IsPresent => write!(f, "attributes:{key}"),
                    Test::Is(value) => write!(f, "attributes.{key} = {}", Quoted(value)),
                    Test::IsNot(value) => write!(f, "attributes.{key} != {}", Quoted(value)),
                    Test::BeginsWith(prefix) => {
                        write!(f, "hasPrefix(attributes.{key}, {})", Quoted(prefix))
                    }
                };
            }
        };
        for (index, term) in terms.iter().enumerate() {
            if index > 0 {
                f.write_str(connective)?;
            }
            term_of(term, f)?;
        }
        Ok(())
    }
}

/// Prints a part of another expression, of which it must not become more than one term.
fn term_of(term: &Expression, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match term {
        Expression::All(_) | Expression::Any(_) => write!(f, "({})", Printed(term)),
        Expression::Not(_) | Expression::Condition(_) => write!(f, "{}", Printed(term)),
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                _ if character.is_control() => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

fn expressions() -> impl Strategy<Value = Expression> {
    let test = prop_oneof![
        Just(Test::IsPresent),
        any::<String>().prop_map(Test::Is),
        any::<String>().prop_map(Test::IsNot),
        any::<String>().prop_map(Test::BeginsWith),
    ];
    let condition = (any::<String>(), test)
        .prop_map(|(key, test)| Expression::Condition(Condition { key, test }));
    condition.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|term| Expression::Not(Box::new(term))),
        ]
    })
}

/// Texts that are more often nearly filters than random ones are.
fn nearly_filters() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "attributes",
        "hasPrefix",
        "AND",
        "OR",
        "NOT",
        "-",
        "(",
        ")",
        ":",
        ".",
        ",",
        "=",
        "!=",
        "\"",
        "\\",
        " ",
        "a",
        "u307F",
        "\"a\"",
        "ü",
        "attributes:a",
        "attributes.a = \"b\"",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_parsed_to_the_same(expression in expressions()) {
        let text = Printed(&expression).to_string();
        prop_assert_eq!(parser::parse(&text), Ok(expression), "{}", text);
    }

    #[test]
    fn random_bytes_are_a_filter_or_say_why_not(bytes: Vec<u8>) {
        let _ = Filter::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn what_is_nearly_a_filter_is_one_or_says_why_not(text in nearly_filters()) {
        if let Ok(filter) = Filter::parse(&text) {
            let text = Printed(&filter.expression).to_string();
            prop_assert_eq!(parser::parse(&text), Ok(filter.expression), "{}", text);
        }
    }
}
