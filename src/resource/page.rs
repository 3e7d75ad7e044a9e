//! Pages of a list (docs/behaviour.md, section 1.5). A page token carries the last name of the page before it, so it
//! outlives that resource and fits any page size. It is of one list: another one has other names.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::violation::Violation;
use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

/// Bytes of the check in front of a token's name, which covers the list and the name.
const CHECK_BYTES: usize = 4;

/// Which part of a list a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    list: String,
    size: usize,
    after: Option<String>,
}

impl PageRequest {
    /// Parses `page_size` (0: the default) and `page_token` (empty: from the beginning) of a request for `list`, which
    /// names what is listed, as `projects/p/topics` does.
    pub fn parse(list: &str, page_size: i32, page_token: &str) -> Result<Self, Violation> {
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) if size <= PAGE_SIZE_MAX => size,
            _ => {
                return Err(Violation::out_of_bounds(
                    "page_size",
                    page_size,
                    0,
                    PAGE_SIZE_MAX,
                ));
            }
        };
        let after = match page_token {
            "" => None,
            token => Some(decode(list, token).ok_or_else(|| Violation::PageToken {
                token: token.to_owned(),
            })?),
        };
        Ok(Self {
            list: list.to_owned(),
            size,
            after,
        })
    }

    /// The full name behind which the page begins.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// How many entries to read: one more than the page holds, which tells whether another page follows.
    pub const fn read_limit(&self) -> usize {
        self.size + 1
    }
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many as were asked for, in order of name.
    pub items: Vec<T>,
    /// Where to go on; empty at the end.
    pub next_page_token: String,
}

impl<T> Page<T> {
    /// Makes the page out of up to [`PageRequest::read_limit`] entries; `name` gives an entry's full name.
    pub fn new(request: &PageRequest, mut read: Vec<T>, name: impl Fn(&T) -> &str) -> Self {
        let more = read.len() > request.size;
        read.truncate(request.size);
        let next_page_token = match read.last() {
            Some(last) if more => encode(&request.list, name(last)),
            _ => String::new(),
        };
        Self {
            items: read,
            next_page_token,
        }
    }

    /// The page up to where its entries would have more than `bytes_max` bytes, but one entry at least.
    #[must_use]
    pub fn cut(
        mut self,
        request: &PageRequest,
        bytes_max: usize,
        bytes: impl Fn(&T) -> usize,
        name: impl Fn(&T) -> &str,
    ) -> Self {
        let mut total = 0;
        let within = self.items.iter().take_while(|entry| {
            total += bytes(entry);
            total <= bytes_max
        });
        let count = within.count().max(1);
        if count < self.items.len() {
            self.items.truncate(count);
            self.next_page_token = encode(&request.list, name(&self.items[count - 1]));
        }
        self
    }

    /// The same page of other entries.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            next_page_token: self.next_page_token,
        }
    }
}

fn check(list: &str, name: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = crc32fast::Hasher::new();
    for part in [list.as_bytes(), b"\0", name] {
        check.update(part);
    }
    check.finalize().to_be_bytes()
}

fn encode(list: &str, name: &str) -> String {
    let mut token = check(list, name.as_bytes()).to_vec();
    token.extend_from_slice(name.as_bytes());
    URL_SAFE_NO_PAD.encode(token)
}

fn decode(list: &str, token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (checked, name) = bytes.split_at_checked(CHECK_BYTES)?;
    let valid = !name.is_empty() && checked == check(list, name);
    let name = str::from_utf8(name).ok()?;
    valid.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "projects/p/topics";

    #[test]
    fn a_page_size_is_0_to_1000() {
        for (given, read_limit) in [(0, 101), (1, 2), (100, 101), (1000, 1001)] {
            let request = PageRequest::parse(LIST, given, "").expect("in range");
            assert_eq!(request.read_limit(), read_limit);
        }
        for given in [-1, 1001, i32::MIN, i32::MAX] {
            assert_eq!(
                PageRequest::parse(LIST, given, "")
                    .expect_err("refused")
                    .to_string(),
                format!(
                    "The value for page_size is out of bounds. You passed {given} in the request, but the value must be between 0 and 1000."
                )
            );
        }
    }

    #[test]
    fn a_token_that_nobody_gave_out_is_refused() {
        for token in ["garbage", "AAAAAA", "=", "ü", "AAAAAAAAAAAA"] {
            assert_eq!(
                PageRequest::parse(LIST, 0, token)
                    .expect_err("refused")
                    .to_string(),
                format!("Invalid page token given (token={token}).")
            );
        }
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let request = PageRequest::parse(LIST, 1, "").expect("valid");
        let token = Page::<&str>::new(&request, vec!["a", "b"], |name| name).next_page_token;
        assert!(PageRequest::parse(LIST, 0, &token).is_ok());
        for list in ["projects/q/topics", "projects/p/subscriptions", ""] {
            PageRequest::parse(list, 0, &token).expect_err(list);
        }
    }

    #[test]
    fn the_last_page_carries_no_token_even_when_it_is_full() {
        let request = PageRequest::parse(LIST, 2, "").expect("valid");
        let page = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Page::<String>::new(&request, names, |name| name)
        };
        assert_eq!(page(&["a", "b"]).next_page_token, "");
        let first = page(&["a", "b", "c"]);
        assert_eq!(first.items, ["a", "b"]);
        let second = PageRequest::parse(LIST, 1000, &first.next_page_token).expect("our token");
        assert_eq!(second.after(), Some("b"));
    }

    #[test]
    fn a_page_is_cut_by_bytes_and_goes_on_behind_that() {
        let request = PageRequest::parse(LIST, 3, "").expect("valid");
        let names = || ["aa", "bbb", "c"].map(str::to_owned).to_vec();
        let page = |bytes_max| {
            let page = Page::<String>::new(&request, names(), |name| name);
            page.cut(&request, bytes_max, String::len, |name| name)
        };
        assert_eq!(page(6), Page::new(&request, names(), |name| name));
        for (bytes_max, count) in [(5, 2), (4, 1), (2, 1), (0, 1)] {
            let cut = page(bytes_max);
            assert_eq!(cut.items, names()[..count], "{bytes_max} bytes");
            let rest = PageRequest::parse(LIST, 3, &cut.next_page_token).expect("our token");
            assert_eq!(rest.after(), Some(&names()[count - 1][..]));
        }
        let empty = Page::<String>::new(&request, Vec::new(), |name| name);
        assert_eq!(
            empty.clone().cut(&request, 0, String::len, |name| name),
            empty
        );
    }

    proptest! {
        #[test]
        fn any_name_survives_in_a_token_that_is_safe_in_a_url(name in ".{1,300}") {
            let token = encode(LIST, &name);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(decode(LIST, &token), Some(name));
        }

        #[test]
        fn no_token_panics(token in ".*") {
            let _ = PageRequest::parse(LIST, 0, &token);
        }
    }
}
