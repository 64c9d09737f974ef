use uml_core::hostnet::Origin;

use super::*;

const ETH: u32 = 2;
const TAP: u32 = 7;
const OTHER_TAP: u32 = 8;

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn route(destination: &str, device: u32, gateway: Option<&str>) -> RouteEntry {
    RouteEntry {
        destination: prefix(destination),
        devices: vec![device],
        gateway: gateway.map(|text| ip(text).into()),
        multipath: Vec::new(),
        automatic: false,
        origin: Origin::BOOT,
    }
}

/// 192.0.2.10/24 on a network with public addresses, a router, an intranet behind another.
fn host() -> HostView {
    let address = |device, text: &str| Address {
        device,
        prefix: prefix(text),
        peer: None,
        automatic: false,
    };
    let neighbour = |text: &str, known: bool| Neighbour {
        device: ETH,
        address: ip(text).into(),
        hardware: known.then(|| vec![2, 0, 0, 0, 0, 1]),
        permanent: false,
    };
    HostView {
        addresses: vec![
            address(1, "127.0.0.1/8"),
            address(ETH, "192.0.2.10/24"),
            address(TAP, "192.168.78.254/32"),
            Address {
                peer: Some(ip("10.99.0.2").into()),
                ..address(9, "10.99.0.1/32")
            },
        ],
        routes: vec![
            route("0.0.0.0/0", ETH, Some("192.0.2.1")),
            RouteEntry {
                automatic: true,
                ..route("192.0.2.0/24", ETH, None)
            },
            RouteEntry {
                multipath: vec![ip("192.0.2.3").into()],
                ..route("198.51.100.0/24", ETH, None)
            },
            route("10.1.0.0/16", ETH, Some("192.0.2.2")),
            route("192.168.78.1/32", OTHER_TAP, None),
            route("192.168.78.2/32", TAP, None),
        ],
        neighbours: vec![
            neighbour("192.0.2.20", true),
            neighbour("192.0.2.21", false),
        ],
        nameservers: vec![ip("192.0.2.53"), ip("10.2.0.53")],
    }
}

fn guest_text(address: &str) -> String {
    match guest(ip(address), TAP, None, &host()) {
        Ok(()) => "ok".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

fn gateway_text(address: &str) -> String {
    match gateway(ip(address), None, &host()) {
        Ok(()) => "ok".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn guests_get_free_addresses() {
    for address in [
        "192.168.78.2",
        "192.168.78.3",
        "10.0.0.1",
        "172.16.5.4",
        "192.0.2.99",
    ] {
        assert_eq!(guest_text(address), "ok", "{address}");
    }
    // Nobody answered for this one.
    assert_eq!(guest_text("192.0.2.21"), "ok");
}

#[test]
fn guests_get_nobodys_address() {
    for (address, text) in [
        ("192.0.2.10", "192.0.2.10 is an address of this host"),
        (
            "192.168.78.254",
            "192.168.78.254 is an address of this host",
        ),
        ("0.1.2.3", "0.1.2.3 is a \"this network\" address"),
        ("127.5.0.1", "127.5.0.1 is a loopback address"),
        ("224.0.0.1", "224.0.0.1 is a multicast address"),
        (
            "255.255.255.255",
            "255.255.255.255 is the broadcast address",
        ),
        ("250.0.0.1", "250.0.0.1 is a reserved address"),
        (
            "192.0.2.0",
            "192.0.2.0 is the network or broadcast address of 192.0.2.10/24",
        ),
        (
            "192.0.2.255",
            "192.0.2.255 is the network or broadcast address of 192.0.2.10/24",
        ),
        ("192.0.2.1", "192.0.2.1 is a router that this host uses"),
        ("192.0.2.2", "192.0.2.2 is a router that this host uses"),
        ("192.0.2.3", "192.0.2.3 is a router that this host uses"),
        (
            "192.0.2.53",
            "192.0.2.53 is a name server that this host uses",
        ),
        (
            "10.2.0.53",
            "10.2.0.53 is a name server that this host uses",
        ),
        (
            "10.99.0.2",
            "10.99.0.2 is the other end of a link of this host",
        ),
        (
            "192.0.2.20",
            "192.0.2.20 belongs to a machine that this host knows",
        ),
        ("192.168.78.1", "192.168.78.1 has a route by another device"),
        (
            "10.1.2.3",
            "10.1.2.3 is in 10.1.0.0/16, which this host has a route to",
        ),
        (
            "8.8.8.8",
            "8.8.8.8 is neither a private address nor in a network of this host; 'guests' in the policy may allow it",
        ),
        (
            "169.254.169.254",
            "169.254.169.254 is neither a private address nor in a network of this host; 'guests' in the policy may allow it",
        ),
    ] {
        assert_eq!(guest_text(address), text);
    }
}

#[test]
fn gateways_may_be_the_hosts_own() {
    for address in ["192.0.2.10", "192.168.78.254", "192.168.5.254"] {
        assert_eq!(gateway_text(address), "ok", "{address}");
    }
}

#[test]
fn gateways_are_nobody_elses() {
    for address in [
        "127.0.0.1",
        "224.0.0.1",
        "192.0.2.1",
        "192.0.2.53",
        "192.0.2.20",
        "192.168.78.1",
        // Of the caller's own guest, but the host would talk to itself.
        "192.168.78.2",
        "10.1.2.3",
        "8.8.8.8",
        "192.0.2.255",
        "10.99.0.2",
    ] {
        assert_ne!(gateway_text(address), "ok", "{address}");
    }
}

#[test]
fn a_policy_narrows_and_widens() {
    let networks = [
        prefix("198.18.0.0/15"),
        prefix("10.1.0.0/16"),
        prefix("192.0.2.0/24"),
    ];
    let allowed = Some(networks.as_slice());
    let host = host();
    assert_eq!(guest(ip("198.18.0.9"), TAP, allowed, &host), Ok(()));
    assert_eq!(guest(ip("10.1.2.3"), TAP, allowed, &host), Ok(()));
    assert!(matches!(
        guest(ip("192.168.78.3"), TAP, allowed, &host),
        Err(Refusal::NotListed { .. })
    ));
    // No list gives away what somebody has.
    assert_eq!(
        guest(ip("192.0.2.1"), TAP, allowed, &host),
        Err(Refusal::Router(ip("192.0.2.1")))
    );
    assert_eq!(
        guest(ip("192.0.2.10"), TAP, allowed, &host),
        Err(Refusal::OfHost(ip("192.0.2.10")))
    );
    // The host's own address as a gateway must be in the list too.
    assert_eq!(gateway(ip("192.0.2.10"), allowed, &host), Ok(()));
    assert!(gateway(ip("192.168.78.254"), allowed, &host).is_err());
}

#[test]
fn edges_of_networks() {
    assert!(is_edge(ip("10.0.0.0"), prefix("10.0.0.9/8")));
    assert!(is_edge(ip("10.255.255.255"), prefix("10.0.0.9/8")));
    assert!(!is_edge(ip("10.0.0.255"), prefix("10.0.0.9/8")));
    assert!(is_edge(ip("255.255.255.255"), prefix("0.0.0.0/0")));
}
