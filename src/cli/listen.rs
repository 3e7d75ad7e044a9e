//! Which addresses `packetboat serve` listens on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{anyhow, ensure};

/// The port of Google's emulator.
const PORT_DEFAULT: u16 = 8085;

/// Reads the value of `--listen`.
pub(super) fn parse(address: &str) -> Result<SocketAddr, String> {
    address.parse().map_err(|_| {
        let port = address
            .rsplit_once(':')
            .map_or("8085", |(_, port)| port)
            .parse()
            .unwrap_or(PORT_DEFAULT);
        format!("an address is an IP address and a port, such as 127.0.0.1:{port} or [::1]:{port}")
    })
}

/// The addresses to listen on when none is named: both loopbacks, because `localhost` may mean either.
pub(super) fn defaults() -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, PORT_DEFAULT)));
    }
    addresses
}

/// Refuses addresses that other machines reach, unless the user has said that this is meant.
pub(super) fn check(addresses: &[SocketAddr], insecure: bool) -> anyhow::Result<()> {
    let open = addresses.iter().find(|address| is_open(address));
    if let (Some(address), false) = (open, insecure) {
        ensure!(
            insecure,
            "refusing to listen on {address}: there is no authentication yet, so everybody who reaches this address \
             could read and delete everything; add --insecure if that is acceptable, or listen on 127.0.0.1:{}",
            address.port()
        );
    }
    Ok(())
}

/// What the log says when other machines reach an address; nothing otherwise.
pub(super) fn danger(addresses: &[SocketAddr]) -> Option<String> {
    let open = addresses.iter().find(|address| is_open(address))?;
    Some(format!(
        "listening on {open} without authentication: everybody who reaches this address can read and delete everything"
    ))
}

fn is_open(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Where a client on this machine reaches a server with these addresses, which are written as in `PACKETBOAT_LISTEN`.
pub(super) fn of_this_machine(listen: Option<&str>) -> anyhow::Result<String> {
    let first = listen.and_then(|listen| listen.split(',').next());
    let address = match first {
        Some(first) => parse(first).map_err(|reason| anyhow!("PACKETBOAT_LISTEN: {reason}"))?,
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
    };
    Ok(reached_at(address).to_string())
}

/// The address under which a client on this machine reaches a listener.
pub(super) fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> bool {
        check(&[parse(address).expect("an address")], false).is_err()
    }

    #[test]
    fn only_loopback_needs_no_consent() {
        for address in [
            "127.0.0.1:1",
            "127.9.9.9:0",
            "[::1]:8085",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!refused(address), "{address}");
        }
        for address in [
            "0.0.0.0:8085",
            "[::]:8085",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert!(refused(address), "{address}");
        }
        let open = parse("0.0.0.0:8085").expect("an address");
        assert!(check(&[open], true).is_ok());
    }

    #[test]
    fn a_name_is_answered_with_the_address_to_write() {
        let error = parse("localhost:9000").expect_err("not an address");
        assert!(error.contains("127.0.0.1:9000"), "{error}");
    }

    #[test]
    fn a_client_is_pointed_at_an_address_that_it_can_connect_to() {
        let any = parse("0.0.0.0:8085").expect("an address");
        assert_eq!(reached_at(any).to_string(), "127.0.0.1:8085");
        for (listen, address) in [
            (None, "127.0.0.1:8085"),
            (Some("0.0.0.0:90,10.0.0.1:91"), "127.0.0.1:90"),
            (Some("[::]:90"), "[::1]:90"),
            (Some("10.0.0.1:91"), "10.0.0.1:91"),
        ] {
            assert_eq!(of_this_machine(listen).expect("an address"), address);
        }
        assert!(of_this_machine(Some("localhost")).is_err());
    }

    #[test]
    fn only_an_address_that_others_reach_is_dangerous() {
        let parse = |address| parse(address).expect("an address");
        assert_eq!(danger(&[parse("127.0.0.1:1"), parse("[::1]:1")]), None);
        let danger = danger(&[parse("127.0.0.1:1"), parse("0.0.0.0:2")]).expect("open");
        assert!(danger.contains("0.0.0.0:2"), "{danger}");
    }
}
