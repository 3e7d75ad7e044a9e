//! Origins: the pages in whose name a browser sends a request.

use std::str::FromStr;

use super::host::Authority;

/// An origin, as browsers write it into `Origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `null`: a page that has none, as a file, or that hides it, as a sandboxed frame of any page.
    Null,
    /// A scheme, a host and a port.
    Site {
        /// The scheme, in lower case.
        scheme: String,
        /// The host, and the port unless it is the scheme's usual one.
        authority: Authority,
    },
}

impl Origin {
    /// Reads an origin. Nothing if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let is_of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_of_a_scheme) {
            return None;
        }
        Some(Self::of(scheme, Authority::parse(authority)?))
    }

    /// The origin of pages that a server with this name has itself.
    pub fn of(scheme: &str, mut authority: Authority) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        authority.port = authority.port.or(usual);
        Self::Site { scheme, authority }
    }

    /// Whether its pages come from this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Site { scheme, authority } => {
                ["http", "https"].contains(&scheme.as_str()) && authority.host.is_loopback()
            }
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As copied from a browser's address line.
        Self::parse(text.strip_suffix('/').unwrap_or(text)).ok_or_else(|| {
            "an origin is a scheme and a host, and a port unless it is the usual one, such as \
             https://console.example.com or http://10.0.0.5:3000, or null"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_origins_are_equal_however_they_are_written() {
        for (one, other) in [
            ("http://a.example", "HTTP://A.example:80"),
            ("https://a.example:443", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("http://[::1]:3000", "http://[0::1]:3000"),
        ] {
            assert_eq!(one.parse::<Origin>(), other.parse(), "{one}");
            assert!(one.parse::<Origin>().is_ok(), "{one}");
        }
        for (one, other) in [
            ("http://a.example", "https://a.example"),
            ("http://a.example", "http://a.example:8080"),
            ("http://a.example", "http://b.example"),
            ("http://a.example", "null"),
        ] {
            assert_ne!(one.parse::<Origin>(), other.parse(), "{one}");
        }
    }

    #[test]
    fn only_pages_that_are_fetched_from_this_machine_are_of_it() {
        for own in [
            "http://localhost:3000",
            "https://app.localhost",
            "http://127.0.0.2:1",
            "http://[::1]",
        ] {
            assert!(Origin::parse(own).expect(own).is_loopback(), "{own}");
        }
        for other in [
            "null",
            "http://10.0.0.1",
            "chrome-extension://localhost",
            "http://localhost.example",
        ] {
            assert!(!Origin::parse(other).expect(other).is_loopback(), "{other}");
        }
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for wrong in [
            "",
            "*",
            "Null",
            "a.example",
            "http://",
            "http://a/b",
            "://a",
            "http://me@a",
            "http://a, http://b",
        ] {
            assert_eq!(Origin::parse(wrong), None, "{wrong:?}");
        }
    }
}
