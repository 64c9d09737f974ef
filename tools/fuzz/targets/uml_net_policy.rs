//! The policy file of the network helper: what is accepted comes back from what is written of it and
//! decides the same, root always may; what isn't is told on one line, with the number of a line of
//! the file.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use uml_core::hostnet::IpPrefix;
use uml_net::{
    policy::{Id, Policy},
    privilege::Caller,
};

const PASSWD: &str = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbroken\n";
const GROUP: &str = "uml-net:x:150:alice\n";

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.contains('\n'), "{error:?}");
            let line = error
                .strip_prefix("line ")
                .and_then(|rest| rest.split_once(": "));
            let line: usize = line.expect("a line").0.parse().expect("its number");
            assert!((1..=text.matches('\n').count() + 1).contains(&line));
            return;
        }
    };
    let again = Policy::parse(&write(&policy)).expect("our own policy is one");
    assert_eq!(again, policy);
    let caller = |uid, groups: &[u32]| Caller {
        uid,
        groups: groups.to_vec(),
    };
    let allows = |policy: &Policy, caller: &Caller| policy.allows(caller, PASSWD, GROUP);
    assert!(allows(&policy, &caller(0, &[])));
    let unlisted = policy.users.is_none() && policy.groups.is_none();
    for caller in [
        caller(1000, &[1000, 150]),
        caller(7, &[150]),
        caller(8, &[]),
    ] {
        assert_eq!(allows(&policy, &caller), allows(&again, &caller));
        assert!(!unlisted || allows(&policy, &caller));
    }
    for network in [&policy.guests, &policy.gateways]
        .into_iter()
        .flatten()
        .flatten()
    {
        assert!(network.address().is_ipv4() && network.is_network());
    }
});

/// The policy as a file.
fn write(policy: &Policy) -> String {
    let mut text = format!(
        "forwarding = {}\nproxy_arp = {}\ntaps = {}\naddresses = {}\n",
        policy.forwarding, policy.proxy_arp, policy.taps, policy.addresses
    );
    let ids = |ids: &[Id]| -> Vec<String> {
        ids.iter()
            .map(|id| match id {
                Id::Number(number) => number.to_string(),
                Id::Name(name) => toml::Value::from(name.as_str()).to_string(),
            })
            .collect()
    };
    let networks = |networks: &[IpPrefix]| -> Vec<String> {
        networks
            .iter()
            .map(|network| format!("'{network}'"))
            .collect()
    };
    for (key, list) in [
        ("users", policy.users.as_deref().map(ids)),
        ("groups", policy.groups.as_deref().map(ids)),
        ("guests", policy.guests.as_deref().map(networks)),
        ("gateways", policy.gateways.as_deref().map(networks)),
    ] {
        if let Some(list) = list {
            writeln!(text, "{key} = [{}]", list.join(", ")).expect("a text has room");
        }
    }
    text
}
