//! Names under which requests address this server, and which of them are its own.
//!
//! A page in a browser can have any name of its own point to this machine (DNS rebinding), but the browser still sends
//! that name: so a server that only this machine reaches answers to names that nobody else can own.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Ends of names that no public domain has (RFC 6761, RFC 6762, RFC 8375; `.svc` and `.cluster.local` are Kubernetes').
const PRIVATE_ENDS: [&str; 6] = [
    ".localhost",
    ".local",
    ".internal",
    ".test",
    ".svc",
    ".cluster.local",
];

/// A host, as a URL, `Host` or `:authority` names it, without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An IP address, which nobody can rebind.
    Address(IpAddr),
    /// A name in lower case; a dot at its end is left out, unless it is the only one.
    Name(String),
}

/// A host with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, if it is named.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `HOST` or `HOST:PORT`; an IPv6 address is in brackets. Nothing if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Host::Address(address.into()), port)
        } else {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (Host::unbracketed(host)?, port)
        };
        let port = match port {
            "" | ":" => None,
            port => {
                let digits = port.strip_prefix(':')?;
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                Some(digits.parse().ok().filter(|_| is_number)?)
            }
        };
        Some(Self { host, port })
    }
}

impl Host {
    fn unbracketed(text: &str) -> Option<Self> {
        let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_of_a_name) {
            return None;
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let mut name = text.to_ascii_lowercase();
        // `localhost.` is localhost; `ai.` is a public domain, and no name without a dot.
        if name.find('.') < Some(name.len() - 1) || name == "localhost." {
            name.truncate(name.trim_end_matches('.').len());
        }
        Some(Self::Name(name))
    }

    /// Whether it is this machine, whoever asks.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Whether it cannot be a name of somebody else's in the public DNS.
    fn is_private(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Name(name) => {
                !name.contains('.') || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
            }
        }
    }
}

/// A host that the operator trusts beside those that always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// Whatever a request names.
    Any,
    /// This one.
    One(Host),
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let authority = Authority::parse(text);
        authority
            .map(|authority| Self::One(authority.host))
            .ok_or_else(|| {
                "a host is a name or an IP address, such as pubsub.example.com, or * for any"
                    .to_owned()
            })
    }
}

/// The hosts that are this server.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// The machine's own name.
    pub machine: Option<String>,
    /// Those that the operator has named.
    pub allowed: Vec<AllowedHost>,
}

impl Hosts {
    /// Whether a host is trusted to be this server.
    pub fn trust(&self, host: &Host) -> bool {
        let is_machine = || match (host, &self.machine) {
            (Host::Name(name), Some(machine)) => name.eq_ignore_ascii_case(machine),
            _ => false,
        };
        let is_allowed = |allowed: &AllowedHost| match allowed {
            AllowedHost::Any => true,
            AllowedHost::One(one) => one == host,
        };
        host.is_private() || is_machine() || self.allowed.iter().any(is_allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Authority::parse(text)
            .unwrap_or_else(|| panic!("{text}"))
            .host
    }

    #[test]
    fn names_that_nobody_else_can_own_are_trusted_on_any_port() {
        let hosts = Hosts {
            machine: Some("Build-7.corp.example".to_owned()),
            allowed: vec!["Pubsub.Example.com:443".parse().expect("a host")],
        };
        for trusted in [
            "127.0.0.1",
            "127.0.0.1:8085",
            "10.1.2.3:80",
            "8.8.8.8",
            "[::1]:8085",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:1",
            "localhost.:8085",
            "localhost:",
            "a.b.localhost",
            "pubsub:8085",
            "my_pubsub_1:8085",
            "host.docker.internal:8085",
            "host.docker.internal.",
            "printer.local",
            "pubsub.test",
            "pubsub.shop.svc:8085",
            "pubsub.shop.svc.cluster.local",
            "build-7.CORP.example",
            "pubsub.example.com:8443",
            "pubsub.example.com.",
        ] {
            assert!(hosts.trust(&host(trusted)), "{trusted}");
        }
        for stranger in [
            "evil.example",
            "evil.example.:8085",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost.example",
            "evillocal.example",
            "ai.",
            "internal.",
            "127.1",
            "corp.example",
            "x.pubsub.example.com",
            "local.",
        ] {
            assert!(!hosts.trust(&host(stranger)), "{stranger}");
        }
        let any = Hosts {
            allowed: vec!["*".parse().expect("any")],
            ..Hosts::default()
        };
        assert!(any.trust(&host("evil.example")));
    }

    #[test]
    fn this_machine_is_known_by_its_names_and_addresses() {
        for own in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(host(own).is_loopback(), "{own}");
        }
        for other in [
            "pubsub",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "localhost.example",
            "host.docker.internal",
        ] {
            assert!(!host(other).is_loopback(), "{other}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for wrong in [
            "",
            ":",
            ":80",
            "a b",
            "a/b",
            "me@host",
            "host:port",
            "host:80:80",
            "host:+80",
            "host:99999",
            "::1",
            "[::1",
            "[::1]80",
            "[localhost]",
            "h\u{f6}st",
            "%65vil",
            "a,b",
            "host\n",
        ] {
            assert_eq!(Authority::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(
            Authority::parse("host:80").and_then(|host| host.port),
            Some(80)
        );
        assert_eq!(Authority::parse("host:").and_then(|host| host.port), None);
        for wrong in ["", "*.example.com", "http://host", "a b"] {
            assert!(wrong.parse::<AllowedHost>().is_err(), "{wrong}");
        }
    }
}
