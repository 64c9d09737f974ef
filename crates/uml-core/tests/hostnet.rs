//! Tap devices, links, addresses, routes, neighbours and sysctl files, each test in a network
//! namespace of its own, with `ip` as the witness.
#![cfg(feature = "hostnet")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use testkit::{
    netns::{ip, isolated},
    until,
};
use uml_core::{
    error::chain,
    hostnet::{
        BridgeSettings, DeviceName, Host, Interface, IpPrefix, LinkKind, NamePattern, Origin,
        Proxy, Route, VxlanSettings, sysctl::Sysctl,
    },
    tuntap::{Device, Existing, Kind, Mode, Step},
};

const GUEST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 5, 1));

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

fn tap(text: &str) -> Device {
    let pattern: NamePattern = text.parse().unwrap();
    Device::open(&pattern, Mode::plain(Kind::Tap), Existing::Refuse).unwrap()
}

fn interface(host: &mut Host, text: &str) -> Interface {
    host.link(&name(text)).unwrap().interface
}

#[test]
fn tap_devices_are_made_owned_kept_and_dropped() {
    isolated(|| {
        let device = tap("tap%d");
        assert_eq!(device.name().as_str(), "tap0");
        device.set_owner(1234).unwrap();
        device.set_group(4321).unwrap();
        device.set_persistent(true).unwrap();
        let shown = ip("-d link show tap0");
        assert!(
            shown.contains("tun type tap pi off vnet_hdr off persist on user 1234 group 4321"),
            "{shown}"
        );
        let mut host = Host::open().unwrap();
        let LinkKind::Tun(state) = host.link(&name("tap0")).unwrap().kind else {
            panic!("not a tun device");
        };
        assert_eq!((state.owner, state.group), (Some(1234), Some(4321)));
        assert!(state.kind == Kind::Tap && state.persistent && !state.packet_info);
        drop(device);
        assert!(host.find_link(&name("tap0")).unwrap().is_some());
        // A child that another test is just starting may still have the descriptor.
        let device = until("the device to be free", || {
            let mode = Mode::plain(Kind::Tap);
            Device::open(&name("tap0").into(), mode, Existing::Attach).ok()
        });
        device.set_persistent(false).unwrap();
        drop(Device::from_fd(device.into_fd()).unwrap());
        until("the device to be gone", || {
            host.find_link(&name("tap0"))
                .unwrap()
                .is_none()
                .then_some(())
        });
    });
}

#[test]
fn tap_devices_have_all_modes() {
    isolated(|| {
        let mode = Mode {
            kind: Kind::Tun,
            packet_info: true,
            vnet_hdr: true,
            multi_queue: true,
        };
        let pattern: NamePattern = "q".parse().unwrap();
        let first = Device::open(&pattern, mode, Existing::Refuse).unwrap();
        let second = Device::open(&pattern, mode, Existing::Attach).unwrap();
        assert_eq!(second.name(), first.name());
        let LinkKind::Tun(state) = Host::open()
            .and_then(|mut host| host.link(first.name()))
            .unwrap()
            .kind
        else {
            panic!("not a tun device");
        };
        assert!(
            state.kind == Kind::Tun && state.packet_info && state.vnet_hdr && state.multi_queue
        );
    });
}

#[test]
fn tap_errors_name_the_step_and_the_device() {
    isolated(|| {
        let held = tap("held");
        let again = |existing| Device::open(&held.name().into(), Mode::default(), existing);
        for existing in [Existing::Attach, Existing::Refuse] {
            let error = again(existing).unwrap_err();
            assert_eq!(error.step, Step::Attach("held".to_owned()));
            assert_eq!(chain(&error), "attaching to held: Device or resource busy");
        }
        let error = Device::open(&name("lo").into(), Mode::default(), Existing::Attach);
        assert_eq!(error.unwrap_err().errno(), Some(libc::EINVAL));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Device::from_fd(null.into()).unwrap_err().step, Step::Query);
    });
}

#[test]
fn links_go_up_and_down_and_change_their_mtu() {
    isolated(|| {
        let device = tap("t");
        let mut host = Host::open().unwrap();
        let link = host.link(device.name()).unwrap();
        assert!(!link.up);
        assert_eq!(link.mtu, 1500);
        host.set_up(&link.interface, true).unwrap();
        host.set_mtu(&link.interface, 9000).unwrap();
        let link = host.link_at(link.interface.index).unwrap();
        assert!(link.up);
        assert_eq!(link.mtu, 9000);
        host.set_up(&link.interface, false).unwrap();
        assert!(!host.link(device.name()).unwrap().up);
        // A name that could play tricks with a terminal is nobody's business here.
        let before = host.links().unwrap();
        ip("link add name a\u{1b}b type bridge");
        assert_eq!(host.links().unwrap(), before);
        let names: Vec<&str> = before
            .iter()
            .map(|link| link.interface.name.as_str())
            .collect();
        assert!(names.contains(&"lo") && names.contains(&"t"), "{names:?}");
        let error = host.set_mtu(&link.interface, 1).unwrap_err();
        assert!(error.is(libc::EINVAL));
        assert!(
            chain(&error).starts_with("setting dev t mtu 1: Invalid argument"),
            "{}",
            chain(&error)
        );
    });
}

#[test]
fn missing_devices_are_named() {
    isolated(|| {
        let mut host = Host::open().unwrap();
        let error = host.link(&name("nosuch")).unwrap_err();
        assert_eq!(chain(&error), "looking up device nosuch: No such device");
        let gone = Interface {
            index: 4711,
            name: name("gone"),
        };
        for error in [
            host.set_up(&gone, true),
            host.delete_link(&gone),
            host.add_address(&gone, prefix("10.0.0.1/24")),
            host.add_proxy(&gone, GUEST),
        ] {
            assert!(error.unwrap_err().is(libc::ENODEV));
        }
    });
}

#[test]
fn bridges_get_ports_and_settings() {
    isolated(|| {
        let port = tap("port");
        let mut host = Host::open().unwrap();
        let settings = BridgeSettings::default();
        host.add_bridge(&name("br0"), settings).unwrap();
        assert!(
            host.add_bridge(&name("br0"), settings)
                .unwrap_err()
                .is(libc::EEXIST)
        );
        let link = host.link(&name("br0")).unwrap();
        assert_eq!(link.kind, LinkKind::Bridge(settings));
        let shown = ip("-d link show br0");
        assert!(shown.contains("forward_delay 0 "), "{shown}");
        assert!(shown.contains("stp_state 0 "), "{shown}");
        let bridge = link.interface;
        // Between each pair the kernel would refuse one order of the two settings.
        for (stp, seconds) in [(true, 15), (true, 4), (false, 0), (true, 2), (false, 1)] {
            let settings = BridgeSettings {
                stp,
                forward_delay: Duration::from_secs(seconds),
            };
            host.set_bridge(&bridge, settings).unwrap();
            assert_eq!(
                host.link(&name("br0")).unwrap().kind,
                LinkKind::Bridge(settings)
            );
        }
        let port = interface(&mut host, port.name().as_str());
        host.set_master(&port, Some(&bridge)).unwrap();
        assert_eq!(host.link(&port.name).unwrap().master, Some(bridge.index));
        host.set_master(&port, None).unwrap();
        assert_eq!(host.link(&port.name).unwrap().master, None);
        host.delete_link(&bridge).unwrap();
        assert_eq!(host.find_link(&name("br0")).unwrap(), None);
    });
}

#[test]
fn vxlan_links_come_back_as_they_were_made() {
    isolated(|| {
        ip("link add v0 type veth peer name v1");
        let mut host = Host::open().unwrap();
        let device = Some(interface(&mut host, "v0").index);
        let plain = VxlanSettings {
            id: 42,
            local: Some("10.9.0.1".parse().unwrap()),
            remote: Some("10.9.0.2".parse().unwrap()),
            port: 4789,
            device: None,
        };
        let group = VxlanSettings {
            id: 0x00ff_ffff,
            local: None,
            remote: Some("239.1.2.3".parse().unwrap()),
            port: 8472,
            device,
        };
        let six = VxlanSettings {
            id: 7,
            local: Some("fd00::1".parse().unwrap()),
            remote: Some("fd00::2".parse().unwrap()),
            port: 4790,
            device,
        };
        for (text, settings) in [("vx0", plain), ("vx1", group), ("vx2", six)] {
            host.add_vxlan(&name(text), settings).unwrap();
            let link = host.link(&name(text)).unwrap();
            assert_eq!(link.kind, LinkKind::Vxlan(settings));
        }
        let shown = ip("-d link show vx0");
        assert!(
            shown.contains("vxlan id 42 remote 10.9.0.2 local 10.9.0.1 "),
            "{shown}"
        );
        let error = host.add_vxlan(&name("vx3"), plain).unwrap_err();
        assert!(error.is(libc::EEXIST));
        assert!(chain(&error).starts_with("adding vxlan vx3 id 42: File exists"));
    });
}

#[test]
fn addresses_are_added_listed_and_deleted() {
    isolated(|| {
        let device = tap("t");
        let mut host = Host::open().unwrap();
        let t = interface(&mut host, device.name().as_str());
        for text in ["192.168.5.254/32", "10.1.2.3/8", "fd00::1/64"] {
            host.add_address(&t, prefix(text)).unwrap();
        }
        let listed: Vec<String> = host
            .addresses(Some(&t))
            .unwrap()
            .iter()
            .filter(|address| !address.automatic)
            .map(|address| address.prefix.to_string())
            .collect();
        assert_eq!(listed, ["192.168.5.254/32", "10.1.2.3/8", "fd00::1/64"]);
        // The loopback's too.
        assert!(host.addresses(None).unwrap().len() > listed.len());
        let error = host.add_address(&t, prefix("10.1.2.3/8")).unwrap_err();
        assert!(error.is(libc::EEXIST));
        assert!(chain(&error).starts_with("adding address 10.1.2.3/8 dev t: File exists"));
        host.delete_address(&t, prefix("10.1.2.3/8")).unwrap();
        let error = host.delete_address(&t, prefix("10.1.2.3/8")).unwrap_err();
        assert!(error.is(libc::EADDRNOTAVAIL));
        assert!(!ip("addr show dev t").contains("10.1.2.3"));
    });
}

#[test]
fn routes_are_added_listed_and_deleted() {
    isolated(|| {
        let device = tap("tap0");
        let mut host = Host::open().unwrap();
        let tap0 = interface(&mut host, device.name().as_str());
        let route = Route {
            destination: IpPrefix::host(GUEST),
            device: tap0.clone(),
            gateway: None,
        };
        assert!(host.add_route(&route).unwrap_err().is(libc::ENETDOWN));
        host.set_up(&tap0, true).unwrap();
        host.add_route(&route).unwrap();
        assert!(ip("route").contains("192.168.5.1 dev tap0 scope link"));
        assert_eq!(
            chain(&host.add_route(&route).unwrap_err()),
            "adding route 192.168.5.1/32 dev tap0: File exists"
        );
        let behind = Route {
            destination: prefix("10.0.0.0/8"),
            device: tap0.clone(),
            gateway: Some(GUEST),
        };
        host.add_route(&behind).unwrap();
        let six = Route {
            destination: prefix("fd00:5::1/128"),
            device: tap0.clone(),
            gateway: None,
        };
        host.add_route(&six).unwrap();
        ip("route add default dev tap0");
        ip("route add 10.7.0.0/16 nexthop dev tap0 weight 1 nexthop dev tap0 weight 2");
        ip("route add 10.8.0.0/16 dev tap0 table 77");
        ip("route add blackhole 10.9.0.0/16");
        let routes = host.routes().unwrap();
        let find = |text: &str| {
            routes
                .iter()
                .find(|entry| entry.destination == prefix(text))
        };
        assert_eq!(find("192.168.5.1/32").unwrap().devices, [tap0.index]);
        assert_eq!(find("10.0.0.0/8").unwrap().gateway, Some(GUEST));
        assert_eq!(find("10.7.0.0/16").unwrap().devices, [tap0.index; 2]);
        assert!(find("0.0.0.0/0").is_some() && find("fd00:5::1/128").is_some());
        assert!(find("10.8.0.0/16").is_none() && find("10.9.0.0/16").is_none());
        for route in [&behind, &route, &six] {
            host.delete_route(route).unwrap();
        }
        assert_eq!(
            chain(&host.delete_route(&route).unwrap_err()),
            "deleting route 192.168.5.1/32 dev tap0: No such process"
        );
    });
}

#[test]
fn proxy_entries_and_neighbours_are_kept_apart() {
    isolated(|| {
        let device = tap("t");
        let mut host = Host::open().unwrap();
        let t = interface(&mut host, device.name().as_str());
        host.set_up(&t, true).unwrap();
        let six: IpAddr = "fd00::5".parse().unwrap();
        for address in [GUEST, six] {
            host.add_proxy(&t, address).unwrap();
            assert!(host.proxies().unwrap().contains(&Proxy {
                device: t.index,
                address
            }));
        }
        assert!(ip("neigh show proxy").contains("192.168.5.1 dev t proxy"));
        let error = host.add_proxy(&t, GUEST).unwrap_err();
        assert_eq!(
            chain(&error),
            "adding proxy entry 192.168.5.1 dev t: File exists"
        );
        let other: IpAddr = "192.168.5.9".parse().unwrap();
        host.add_neighbour(&t, other, [2, 0, 0, 0, 0, 9]).unwrap();
        let neighbours = host.neighbours().unwrap();
        let entry = neighbours.iter().find(|entry| entry.address == other);
        assert_eq!(
            entry.unwrap().hardware.as_deref(),
            Some([2, 0, 0, 0, 0, 9].as_slice())
        );
        assert!(neighbours.iter().all(|entry| entry.address != GUEST));
        host.delete_neighbour(&t, other).unwrap();
        for address in [GUEST, six] {
            host.delete_proxy(&t, address).unwrap();
        }
        assert_eq!(host.proxies().unwrap(), []);
        let error = host.delete_proxy(&t, GUEST).unwrap_err();
        assert!(error.is(libc::ENOENT));
    });
}

#[test]
fn sysctl_files_are_those_of_the_threads_namespace() {
    isolated(|| {
        let device = tap("t");
        let settings = [
            Sysctl::ipv4_forwarding(),
            Sysctl::ipv6_forwarding(),
            Sysctl::proxy_arp(device.name()),
            Sysctl::proxy_ndp(device.name()),
        ];
        for setting in &settings {
            assert!(!setting.is_on().unwrap(), "{}", setting.path().display());
            setting.set(true).unwrap();
            assert!(setting.is_on().unwrap());
        }
        // Another namespace doesn't have the device, and keeps its forwarding off.
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                isolated(|| {
                    assert!(!Sysctl::ipv4_forwarding().is_on().unwrap());
                    Sysctl::proxy_arp(&name("t")).set(true).unwrap_err()
                })
            });
            let error = other.join().unwrap();
            assert_eq!(
                chain(&error),
                "writing 1 to /proc/sys/net/ipv4/conf/t/proxy_arp: No such file or directory"
            );
        });
        settings[0].set(false).unwrap();
        assert!(!settings[0].is_on().unwrap());
    });
}

#[test]
fn hundreds_of_links_are_listed() {
    isolated(|| {
        let mut host = Host::open().unwrap();
        // The loopback, and what a loaded module makes in each namespace (tunl0 and the like).
        let before = host.links().unwrap().len();
        let devices: Vec<Device> = (0..200).map(|_| tap("many%d")).collect();
        assert_eq!(host.links().unwrap().len(), before + devices.len());
    });
}

#[test]
fn routes_and_proxies_tell_who_made_them() {
    isolated(|| {
        let device = tap("t");
        let mut host = Host::open().unwrap();
        let interface = interface(&mut host, "t");
        host.set_up(&interface, true).unwrap();
        let route = |destination: &str| Route {
            destination: prefix(destination),
            device: interface.clone(),
            gateway: None,
        };
        host.add_route(&route("10.0.0.1/32")).unwrap();
        host.add_route_of(&route("10.0.0.2/32"), Origin::UML_NET)
            .unwrap();
        assert!(ip("route show proto 117").starts_with("10.0.0.2 dev t"));
        let origin = |host: &mut Host, destination: &str| {
            let routes = host.routes().unwrap();
            let entry = routes
                .into_iter()
                .find(|entry| entry.destination == prefix(destination));
            entry.unwrap().origin
        };
        assert_eq!(origin(&mut host, "10.0.0.1/32"), Origin::BOOT);
        assert_eq!(origin(&mut host, "10.0.0.2/32"), Origin::UML_NET);

        let other = IpAddr::from([10, 0, 0, 3]);
        host.add_proxy(&interface, other).unwrap();
        host.add_proxy_of(&interface, GUEST, Origin::UML_NET)
            .unwrap();
        assert_eq!(host.proxies().unwrap().len(), 2);
        let ours = host.proxies_of(Origin::UML_NET).unwrap();
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].address, GUEST);
        drop(device);
    });
}
