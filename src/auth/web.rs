//! Which requests a web browser may send in whose name: the only rule about `Host` and `Origin`
//! (docs/behaviour.md, section 20.6).
//!
//! Any page that a user of this machine opens can make their browser send requests here. What tells them from those of
//! clients is what browsers put into them, and pages cannot change.

use super::{
    host::{Authority, Hosts},
    origin::Origin,
};

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct WebAccess {
    /// The names that are this server's.
    pub hosts: Hosts,
    /// Origins whose pages may use it, beside those of this machine and its own.
    pub origins: Vec<Origin>,
}

/// Something of which a request should have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<T> {
    /// It is not there.
    None,
    /// It is there once.
    One(T),
    /// It is there more than once, with different values or at all.
    Many,
}

/// What the rule is about.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether it is gRPC, which no page can send.
    pub is_grpc: bool,
    /// Whether only this machine reaches the address at which it came in.
    pub is_local: bool,
    /// The scheme by which it was sent.
    pub scheme: &'a str,
    /// The host to which it was sent. `None`: it names none, as HTTP/1.0 may.
    pub host: Option<Given<&'a str>>,
    /// `Origin`; bytes that are no text are none that is allowed.
    pub origin: Given<&'a [u8]>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Given<&'a [u8]>,
    /// `Content-Type`.
    pub content_type: Given<&'a [u8]>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It names no host, or more than one, or something else.
    BadHost,
    /// It was sent to a name that is not this server's.
    Host(String),
    /// It comes from a page that may not use this server.
    Origin(String),
    /// It comes from a page, and its body has a type that any page may send to anybody.
    ContentType,
}

impl WebAccess {
    /// Whether a request is answered whatever the other facts are: they need not be found out.
    pub const fn answers_always(is_grpc: bool, has_origin: bool) -> bool {
        is_grpc && !has_origin
    }

    /// Whether a request is answered.
    ///
    /// # Errors
    /// It is not.
    pub fn judge(&self, facts: &Facts<'_>) -> Result<(), Refusal> {
        if Self::answers_always(facts.is_grpc, facts.origin != Given::None) {
            return Ok(());
        }
        let host = match facts.host {
            Some(Given::One(text)) => Authority::parse(text),
            _ => None,
        };
        if !facts.is_grpc {
            self.judge_host(facts, host.as_ref())?;
        }
        let origin = match facts.origin {
            Given::None => None,
            Given::One(text) => Some(text),
            Given::Many => Some(&b"(several)"[..]),
        };
        if let Some(text) = origin
            && !self.allows(text, facts.scheme, host)
        {
            return Err(Refusal::Origin(String::from_utf8_lossy(text).into_owned()));
        }
        let is_of_a_page = origin.is_some() || is_foreign(facts.fetch_site);
        let has_its_type = match facts.content_type {
            Given::One(text) => is_json(text) || (origin.is_some() && is_grpc_web(text)),
            Given::None | Given::Many => false,
        };
        if facts.has_body && is_of_a_page && !facts.is_grpc && !has_its_type {
            return Err(Refusal::ContentType);
        }
        Ok(())
    }

    fn judge_host(&self, facts: &Facts<'_>, host: Option<&Authority>) -> Result<(), Refusal> {
        match (facts.host, host) {
            (None, _) => Ok(()),
            (Some(Given::One(text)), Some(host)) => {
                if facts.is_local && !self.hosts.trust(&host.host) {
                    return Err(Refusal::Host(text.to_owned()));
                }
                Ok(())
            }
            _ => Err(Refusal::BadHost),
        }
    }

    /// Whether pages of an origin may use this server, which was addressed as `host`.
    fn allows(&self, origin: &[u8], scheme: &str, host: Option<Authority>) -> bool {
        let Some(origin) = str::from_utf8(origin).ok().and_then(Origin::parse) else {
            return false;
        };
        let is_own =
            |host: Authority| self.hosts.trust(&host.host) && Origin::of(scheme, host) == origin;
        origin.is_loopback() || self.origins.contains(&origin) || host.is_some_and(is_own)
    }
}

/// Whether a browser says that a page of another origin has sent the request.
fn is_foreign(fetch_site: Given<&[u8]>) -> bool {
    match fetch_site {
        Given::None => false,
        Given::One(site) => ![&b"none"[..], b"same-origin"].contains(&site),
        Given::Many => true,
    }
}

/// Whether it is JSON, with parameters or without.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// Whether it is gRPC-web, binary or as text, with a message format or without.
fn is_grpc_web(content_type: &[u8]) -> bool {
    const GRPC_WEB: &[u8] = b"application/grpc-web";
    let start = content_type.get(..GRPC_WEB.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(GRPC_WEB))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Facts<'static> = Facts {
        is_grpc: false,
        is_local: true,
        scheme: "http",
        host: Some(Given::One("127.0.0.1:8085")),
        origin: Given::None,
        fetch_site: Given::None,
        content_type: Given::None,
        has_body: true,
    };

    /// With a name and an origin that are allowed.
    fn access() -> WebAccess {
        WebAccess {
            hosts: Hosts {
                machine: None,
                allowed: vec!["pb.example.com".parse().expect("a host")],
            },
            origins: vec!["https://console.example.com".parse().expect("an origin")],
        }
    }

    fn judged(facts: Facts<'_>) -> &'static str {
        match access().judge(&facts) {
            Ok(()) => "answered",
            Err(Refusal::BadHost) => "bad host",
            Err(Refusal::Host(_)) => "host",
            Err(Refusal::Origin(_)) => "origin",
            Err(Refusal::ContentType) => "type",
        }
    }

    #[test]
    fn a_host_matters_where_only_this_machine_connects_and_never_to_grpc() {
        for (host, local, elsewhere) in [
            ("localhost:8085", "answered", "answered"),
            ("pubsub:8085", "answered", "answered"),
            ("host.docker.internal:8085", "answered", "answered"),
            ("pb.example.com", "answered", "answered"),
            ("evil.example:8085", "host", "answered"),
            ("pubsub.googleapis.com:443", "host", "answered"),
            ("a b", "bad host", "bad host"),
            ("", "bad host", "bad host"),
        ] {
            let facts = Facts {
                host: Some(Given::One(host)),
                ..CLIENT
            };
            assert_eq!(judged(facts), local, "{host}");
            assert_eq!(
                judged(Facts {
                    is_local: false,
                    ..facts
                }),
                elsewhere,
                "{host}"
            );
            assert_eq!(
                judged(Facts {
                    is_grpc: true,
                    ..facts
                }),
                "answered",
                "{host}"
            );
        }
    }

    #[test]
    fn a_request_has_one_host_but_that_of_http_1_0() {
        for (host, expected) in [
            (None, "answered"),
            (Some(Given::None), "bad host"),
            (Some(Given::Many), "bad host"),
            (Some(Given::One("evil.example")), "host"),
        ] {
            let facts = Facts { host, ..CLIENT };
            assert_eq!(judged(facts), expected, "{host:?}");
            let grpc = Facts {
                is_grpc: true,
                ..facts
            };
            assert_eq!(judged(grpc), "answered", "{host:?}");
        }
    }

    #[test]
    fn pages_of_this_machine_of_the_server_itself_and_of_what_is_configured_may_use_it() {
        for (origin, host, scheme, expected) in [
            (
                "http://localhost:3000",
                "127.0.0.1:8085",
                "http",
                "answered",
            ),
            (
                "https://app.localhost",
                "127.0.0.1:8085",
                "http",
                "answered",
            ),
            ("http://[::1]:1", "pubsub:8085", "http", "answered"),
            (
                "https://console.example.com",
                "127.0.0.1:8085",
                "http",
                "answered",
            ),
            (
                "http://console.example.com",
                "127.0.0.1:8085",
                "http",
                "origin",
            ),
            (
                "https://console.example.com:8443",
                "127.0.0.1:8085",
                "http",
                "origin",
            ),
            // Its own pages, under a name that is its own.
            ("http://pubsub:8085", "pubsub:8085", "http", "answered"),
            ("http://10.0.0.7:8085", "10.0.0.7:8085", "http", "answered"),
            (
                "http://pb.example.com",
                "pb.example.com",
                "http",
                "answered",
            ),
            (
                "https://pb.example.com",
                "pb.example.com:443",
                "https",
                "answered",
            ),
            ("http://pubsub:8086", "pubsub:8085", "http", "origin"),
            ("https://pb.example.com", "pb.example.com", "http", "origin"),
            (
                "http://evil.example:8085",
                "evil.example:8085",
                "http",
                "origin",
            ),
            ("http://10.0.0.7:8085", "10.0.0.8:8085", "http", "origin"),
            // Anybody else's.
            ("https://evil.example", "127.0.0.1:8085", "http", "origin"),
            (
                "http://localhost.evil.example",
                "127.0.0.1:8085",
                "http",
                "origin",
            ),
            (
                "chrome-extension://localhost",
                "127.0.0.1:8085",
                "http",
                "origin",
            ),
            ("null", "127.0.0.1:8085", "http", "origin"),
            ("", "127.0.0.1:8085", "http", "origin"),
            ("\u{f6}", "127.0.0.1:8085", "http", "origin"),
        ] {
            let facts = Facts {
                origin: Given::One(origin.as_bytes()),
                host: Some(Given::One(host)),
                scheme,
                is_local: false,
                has_body: false,
                ..CLIENT
            };
            assert_eq!(judged(facts), expected, "{origin} {host}");
            // However it comes in, and whatever it is.
            let is_grpc = Facts {
                is_grpc: true,
                has_body: true,
                ..facts
            };
            assert_eq!(judged(is_grpc), expected, "{origin} {host}");
        }
        let several = Facts {
            origin: Given::Many,
            ..CLIENT
        };
        assert_eq!(judged(several), "origin");
        let null = WebAccess {
            origins: vec![Origin::Null],
            ..WebAccess::default()
        };
        let facts = Facts {
            origin: Given::One(b"null"),
            has_body: false,
            ..CLIENT
        };
        assert_eq!(null.judge(&facts), Ok(()));
    }

    #[test]
    fn a_body_from_a_page_is_json_or_grpc_web_and_that_of_a_client_anything() {
        let types: [(&[u8], bool, bool); 10] = [
            (b"application/json", true, true),
            (b"Application/JSON; charset=utf-8", true, true),
            (b"application/json ", true, true),
            (b"application/json-patch+json", false, false),
            (b"text/plain;application/json", false, false),
            (b"application/x-www-form-urlencoded", false, false),
            (b"multipart/form-data; boundary=x", false, false),
            (b"", false, false),
            (b"application/grpc-web+proto", false, true),
            (b"application/grpc-web-text", false, true),
        ];
        let given = types.map(|(text, site, origin)| (Given::One(text), site, origin));
        let more = [(Given::None, false, false), (Given::Many, false, false)];
        let word = |is_taken| if is_taken { "answered" } else { "type" };
        for (content_type, of_a_site, of_an_origin) in given.into_iter().chain(more) {
            let client = Facts {
                content_type,
                ..CLIENT
            };
            assert_eq!(judged(client), "answered", "{content_type:?}");
            let origin = Given::One(&b"http://localhost:3000"[..]);
            let page = Facts { origin, ..client };
            assert_eq!(judged(page), word(of_an_origin), "{content_type:?}");
            assert_eq!(
                judged(Facts {
                    has_body: false,
                    ..page
                }),
                "answered"
            );
            for (site, is_foreign) in [
                ("none", false),
                ("same-origin", false),
                ("same-site", true),
                ("cross-site", true),
                ("anything", true),
            ] {
                let fetch_site = Given::One(site.as_bytes());
                let facts = Facts {
                    fetch_site,
                    ..client
                };
                assert_eq!(
                    judged(facts),
                    word(of_a_site || !is_foreign),
                    "{site} {content_type:?}"
                );
                assert_eq!(
                    judged(Facts {
                        has_body: false,
                        ..facts
                    }),
                    "answered"
                );
            }
        }
    }
}
