use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr::new([2, 0, a, b, c, d])
}

fn frame(destination: MacAddr, source: MacAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(destination.octets());
    bytes.extend(source.octets());
    bytes.extend([0x08, 0]);
    bytes
}

fn fabric(ports: u32, table_size: u32) -> Fabric {
    let mut fabric = Fabric::new(Forwarding::Switch, table_size);
    for slot in 0..ports {
        assert_eq!(fabric.add_port(), PortId(slot));
    }
    fabric
}

fn send(
    fabric: &mut Fabric,
    from: u32,
    to: MacAddr,
    source: MacAddr,
    now: Duration,
) -> (Verdict, Vec<(MacAddr, Learned)>) {
    let mut news = Vec::new();
    let verdict = fabric.route(PortId(from), &frame(to, source), now, |mac, learned| {
        news.push((mac, learned));
    });
    (verdict, news)
}

#[test]
fn learns_answers_and_moves() {
    let mut fabric = fabric(3, 16);
    let (a, b) = (mac(1), mac(2));
    let now = SECOND;
    assert_eq!(
        send(&mut fabric, 0, b, a, now),
        (Verdict::Flood, vec![(a, Learned::New)])
    );
    assert_eq!(
        send(&mut fabric, 1, a, b, now),
        (Verdict::Port(PortId(0)), vec![(b, Learned::New)])
    );
    assert_eq!(
        send(&mut fabric, 0, b, a, now),
        (Verdict::Port(PortId(1)), vec![])
    );
    assert_eq!(
        send(&mut fabric, 2, b, a, now),
        (
            Verdict::Port(PortId(1)),
            vec![(a, Learned::Moved(PortId(0)))]
        )
    );
    assert_eq!(send(&mut fabric, 1, a, b, now).0, Verdict::Port(PortId(2)));
    assert_eq!(send(&mut fabric, 2, a, a, now).0, Verdict::Back);
}

#[test]
fn group_addresses_flood_and_are_never_learned() {
    let mut fabric = fabric(2, 16);
    let group = MacAddr::new([3, 0, 0, 0, 0, 1]);
    assert_eq!(
        send(&mut fabric, 0, MacAddr::BROADCAST, group, SECOND),
        (Verdict::Flood, vec![])
    );
    assert!(fabric.table().is_empty());
    assert_eq!(
        send(&mut fabric, 1, group, mac(1), SECOND).0,
        Verdict::Flood
    );
}

#[test]
fn runts_go_nowhere_and_teach_nothing() {
    let mut fabric = fabric(2, 16);
    let bytes = frame(mac(1), mac(2));
    for length in 0..bytes.len() {
        let verdict = fabric.route(PortId(0), &bytes[..length], SECOND, |_, _| {
            panic!("learned")
        });
        assert_eq!(verdict, Verdict::Runt);
    }
    assert!(fabric.table().is_empty());
}

#[test]
fn a_hub_floods_everything_and_learns_nothing() {
    let mut fabric = Fabric::new(Forwarding::Hub, 16);
    let port = fabric.add_port();
    for _ in 0..2 {
        let verdict = fabric.route(port, &frame(mac(1), mac(1)), SECOND, |_, _| {
            panic!("learned")
        });
        assert_eq!(verdict, Verdict::Flood);
    }
}

#[test]
fn addresses_age_and_leave_with_their_port() {
    let mut fabric = fabric(2, 16);
    send(&mut fabric, 0, mac(9), mac(1), SECOND);
    assert_eq!(fabric.table().next_sweep(), Some(SECOND + MAX_AGE));
    assert_eq!(
        send(&mut fabric, 1, mac(1), mac(2), SECOND + MAX_AGE).0,
        Verdict::Port(PortId(0))
    );
    let late = SECOND + MAX_AGE + Duration::from_millis(1);
    assert_eq!(send(&mut fabric, 1, mac(1), mac(2), late).0, Verdict::Flood);
    assert_eq!(fabric.table().len(), 2);
    fabric.sweep(late);
    assert_eq!(fabric.table().len(), 1);
    assert!(fabric.table().next_sweep().is_some_and(|next| next > late));

    // An aged address that comes back is new again.
    assert_eq!(
        send(&mut fabric, 1, mac(1), mac(2), late + MAX_AGE + SECOND).1,
        vec![(mac(2), Learned::New)]
    );
    fabric.remove_port(PortId(1));
    assert!(fabric.table().is_empty());
    fabric.sweep(late + MAX_AGE * 3);
    assert_eq!(fabric.table().next_sweep(), None);
}

#[test]
fn slots_are_used_again_and_know_nothing_of_the_one_before() {
    let mut fabric = fabric(3, 16);
    send(&mut fabric, 1, mac(9), mac(1), SECOND);
    fabric.remove_port(PortId(1));
    fabric.remove_port(PortId(1));
    assert_eq!(
        send(&mut fabric, 0, mac(1), mac(2), SECOND).0,
        Verdict::Flood
    );
    assert_eq!(fabric.add_port(), PortId(1));
    assert_eq!(
        send(&mut fabric, 0, mac(1), mac(2), SECOND).0,
        Verdict::Flood
    );
}

#[test]
fn a_flood_of_addresses_evicts_its_own_first() {
    let mut fabric = fabric(4, 64);
    for port in 0..3 {
        for number in 0..4 {
            send(
                &mut fabric,
                port,
                mac(0),
                mac(port * 100 + number + 1),
                SECOND,
            );
        }
    }
    for number in 0..10_000 {
        send(&mut fabric, 3, mac(0), mac(1_000_000 + number), SECOND);
    }
    assert_eq!(fabric.table().len(), 64);
    for port in 0..3 {
        for number in 0..4 {
            assert_eq!(
                fabric.table().find(mac(port * 100 + number + 1), SECOND),
                Some(PortId(port))
            );
        }
    }
    // The flooding port keeps its newest.
    assert_eq!(fabric.table().find(mac(1_009_999), SECOND), Some(PortId(3)));
    assert_eq!(fabric.table().find(mac(1_000_000), SECOND), None);
    // Another port's new address takes the place of one of the flood's, not of its own.
    send(&mut fabric, 0, mac(0), mac(50), SECOND);
    assert_eq!(fabric.table().find(mac(50), SECOND), Some(PortId(0)));
    assert_eq!(fabric.table().find(mac(1), SECOND), Some(PortId(0)));
}

#[test]
fn plans_sort_frames_by_port_and_forget_them() {
    let mut plan = Plan::default();
    plan.to_port(0, PortId(5));
    plan.to_all(1);
    plan.to_port(63, PortId(5));
    assert_eq!(plan.touched(), [PortId(5)]);
    assert_eq!(plan.mask(PortId(5)), 1 << 63 | 0b11);
    assert_eq!(plan.mask(PortId(70)), 0b10);
    plan.clear();
    assert_eq!(plan.mask(PortId(5)) | plan.flood(), 0);
    assert!(plan.touched().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Plug,
    Unplug(usize),
    Frame { from: usize, to: u32, source: u32 },
    Wait(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Plug),
        1 => any::<usize>().prop_map(Step::Unplug),
        12 => (any::<usize>(), 0_u32..24, 0_u32..24)
            .prop_map(|(from, to, source)| Step::Frame { from, to, source }),
        2 => (0_u64..70).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    /// Against a model that is a plain list: what the switch knows of an address is where the
    /// newest frame from it came in, unless that is too old, the port is gone, or room ran out.
    #[test]
    fn routes_as_a_plain_model_does(
        steps in proptest::collection::vec(step(), 0..300),
        table_size in 1_u32..30,
    ) {
        let mut fabric = fabric(2, table_size);
        let mut ports = HashSet::from([PortId(0), PortId(1)]);
        // (address, port, seen), newest last.
        let mut model: Vec<(u32, PortId, Duration)> = Vec::new();
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Plug => prop_assert!(ports.insert(fabric.add_port())),
                Step::Unplug(which) if !ports.is_empty() => {
                    let port = fabric.ports()[which % ports.len()];
                    fabric.remove_port(port);
                    ports.remove(&port);
                    model.retain(|entry| entry.1 != port);
                }
                Step::Frame { from, to, source } if !ports.is_empty() => {
                    let from = fabric.ports()[from % ports.len()];
                    let (verdict, news) = send(&mut fabric, from.slot(), mac(to), mac(source), now);
                    let alive = |entry: &&(u32, PortId, Duration)| now.saturating_sub(entry.2) <= MAX_AGE;
                    let before = model.iter().filter(alive).find(|e| e.0 == source).copied();
                    model.retain(|entry| entry.0 != source);
                    model.push((source, from, now));
                    let known = model.iter().filter(alive).find(|e| e.0 == to).map(|e| e.1);
                    match verdict {
                        Verdict::Port(port) => {
                            prop_assert_ne!(port, from);
                            prop_assert!(ports.contains(&port));
                            prop_assert_eq!(known, Some(port));
                        }
                        Verdict::Back => prop_assert_eq!(known, Some(from)),
                        // With room for all, only the unknown is flooded.
                        Verdict::Flood => prop_assert!(known.is_none() || table_size < 24),
                        Verdict::Runt => prop_assert!(false, "a whole frame is no runt"),
                    }
                    if table_size >= 24 {
                        let expected = match before {
                            None => vec![(mac(source), Learned::New)],
                            Some(entry) if entry.1 == from => vec![],
                            Some(entry) => vec![(mac(source), Learned::Moved(entry.1))],
                        };
                        prop_assert_eq!(news, expected);
                    }
                }
                Step::Wait(seconds) => now += SECOND * u32::try_from(seconds).unwrap(),
                Step::Sweep => {
                    fabric.sweep(now);
                    let young = model.iter().filter(|e| now.saturating_sub(e.2) <= MAX_AGE).count();
                    prop_assert!(fabric.table().len() <= young);
                }
                Step::Unplug(_) | Step::Frame { .. } => {}
            }
            prop_assert!(fabric.table().len() <= table_size as usize);
            prop_assert_eq!(fabric.table().is_empty(), fabric.table().next_sweep().is_none());
            let listed: HashSet<_> = fabric.ports().iter().copied().collect();
            prop_assert_eq!(&listed, &ports);
            prop_assert_eq!(fabric.ports().len(), ports.len());
        }
    }
}
