//! Calls of a stranger: none changes the host, each is answered, none crashes.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::Stdio,
};

use testkit::cmd::{run, wait_for};

use crate::kit::{As, Kit, Out, Snapshot, Stub, close, on_a_host};

/// Words of a call, and a piece of the text that must be in its answer.
type Case<'a> = (&'a [&'a [u8]], &'a str);

#[track_caller]
fn refused(kit: &Kit, out: Out, cases: &[Case<'_>]) {
    let before = Snapshot::take();
    for (words, part) in cases {
        let called = kit.call_with(As::Setuid, out, "", words);
        let shown: Vec<_> = words
            .iter()
            .map(|word| word.escape_ascii().to_string())
            .collect();
        assert_eq!(called.code, 1, "{shown:?}: {called:?}");
        assert!(called.descriptors.is_empty(), "{shown:?}");
        let text = called.text();
        assert!(text.contains(part), "{shown:?}: {text}");
        assert!(
            text.bytes()
                .all(|byte| byte == b'\n' || (b' '..127).contains(&byte)),
            "{shown:?}: {text:?}"
        );
        assert!(text.len() < 400, "{shown:?}: {text}");
        before.assert_holds(&format!("{shown:?}"));
    }
}

#[test]
fn devices_that_are_not_the_callers() {
    on_a_host(|kit| {
        testkit::netns::ip("tuntap add dev nobodys mode tap");
        testkit::netns::ip("tuntap add dev tunnel mode tun user 65534");
        let address = b"192.0.2.99".as_slice();
        let mask = b"255.255.255.0".as_slice();
        let long = [b'x'; 4096];
        let devices: [(&[u8], &str); 24] = [
            (b"theirs", "theirs is no tap device of uid 65534"),
            (b"nobodys", "nobodys is no tap device of uid 65534"),
            (b"tunnel", "tunnel is no tap device of uid 65534"),
            (b"eth0", "eth0 is no tap device of uid 65534"),
            (b"lo", "lo is no tap device of uid 65534"),
            (b"nosuch", "nosuch is no tap device of uid 65534"),
            (b"..", "device name '..' is reserved"),
            (b".", "device name '.' is reserved"),
            (b"all", "device name 'all' is reserved"),
            (b"default", "device name 'default' is reserved"),
            (b"", "a device name can't be empty"),
            (b"0123456789abcdef", "is 16 bytes long, 15 are allowed"),
            (&long, "is 4096 bytes long, 15 are allowed"),
            (b"mine\nroot", "holds '\\n'"),
            (b"mine\n", "holds '\\n'"),
            (b" mine", "holds ' '"),
            (b"mine/../eth0", "holds '/'"),
            (b"../all", "holds '/'"),
            (b"%s%s%n", "holds '%'"),
            (b"tap%d", "holds '%'"),
            (b"mine:1", "holds ':'"),
            (b"mine;reboot", "mine;reboot is no tap device"),
            (b"-mine", "-mine is no tap device of uid 65534"),
            (b"m\xffne", "'m\\xffne' is no device name"),
        ];
        for (device, part) in devices {
            let add: &[&[u8]] = &[b"4", b"add", device, address, mask];
            let delete: &[&[u8]] = &[b"4", b"del", device, address, mask];
            refused(kit, Out::Stream, &[(add, part), (delete, part)]);
        }
    });
}

#[test]
fn addresses_that_are_somebodys_or_nobodys() {
    on_a_host(|kit| {
        let long = [b'1'; 4096];
        let addresses: [(&[u8], &str); 24] = [
            (b"192.0.2.10", "192.0.2.10 is an address of this host"),
            (b"192.168.9.254", "192.168.9.254 is an address of this host"),
            (b"127.0.0.1", "is a loopback address"),
            (b"127.255.255.254", "is a loopback address"),
            (b"0.0.0.0", "is a \"this network\" address"),
            (b"224.0.0.1", "is a multicast address"),
            (b"255.255.255.255", "is the broadcast address"),
            (b"240.1.1.1", "is a reserved address"),
            (
                b"192.0.2.255",
                "is the network or broadcast address of 192.0.2.10/24",
            ),
            (
                b"192.0.2.0",
                "is the network or broadcast address of 192.0.2.10/24",
            ),
            (b"192.0.2.1", "is a router that this host uses"),
            (b"192.0.2.2", "is a router that this host uses"),
            (b"192.0.2.53", "is a name server that this host uses"),
            (b"192.0.2.20", "belongs to a machine that this host knows"),
            (b"192.168.9.1", "has a route by another device"),
            (
                b"10.1.2.3",
                "is in 10.1.0.0/16, which this host has a route to",
            ),
            (
                b"8.8.8.8",
                "is neither a private address nor in a network of this host",
            ),
            (
                b"169.254.169.254",
                "is neither a private address nor in a network of this host",
            ),
            (b"192.0.2", "'192.0.2' is no IPv4 address"),
            (b"3221226083", "is no IPv4 address"),
            (b"0x7f000001", "is no IPv4 address"),
            (b"192.0.2.99 ", "'192.0.2.99 ' is no IPv4 address"),
            (b"::1", "'::1' is no IPv4 address"),
            (&long, "...' is no IPv4 address"),
        ];
        for (address, part) in addresses {
            let add: &[&[u8]] = &[b"4", b"add", b"mine", address, b"255.255.255.0"];
            refused(kit, Out::Stream, &[(add, part)]);
            // The host's own may be the host's end.
            if !part.contains("an address of this host") {
                let up: &[&[u8]] = &[b"4", b"tuntap", b"up", address];
                refused(kit, Out::Datagrams, &[(up, part)]);
            }
        }
        for mask in [
            b"255.0.255.0".as_slice(),
            b"0.0.0.1",
            b"-1",
            b"24",
            b"",
            b"%n",
        ] {
            let add: &[&[u8]] = &[b"4", b"add", b"mine", b"192.0.2.99", mask];
            refused(kit, Out::Stream, &[(add, "is no netmask")]);
        }
    });
}

#[test]
fn calls_that_nobody_can_understand() {
    on_a_host(|kit| {
        let long = [b'9'; 4096];
        let odd = [0xff; 300];
        let cases: &[Case<'_>] = &[
            (&[b"-1", b"tuntap", b"up"], "requested version -1"),
            (&[b"5", b"tuntap", b"up"], "requested version 5"),
            (
                &[b"4294967300", b"tuntap", b"up"],
                "requested version 4294967300",
            ),
            (
                &[b"18446744073709551620", b"x"],
                "requested version 18446744073709551620",
            ),
            (&[&long, b"x"], "requested version 9999"),
            (&[b"4\n", b"x"], "requested version 4\\n"),
            (&[b"4%s%n", b"x"], "requested version 4%s%n"),
            (&[b"0x4", b"tuntap", b"up"], "requested version 0x4"),
            (&[b"", b""], "Unknown transport : ''"),
            (&[b"4", b""], "Unknown transport : ''"),
            (&[b"4", &odd], "Unknown transport : '\\xff\\xff"),
            (&[b"4"], "bad argument list"),
            (&[b""], "bad argument list"),
            (&[b"4", b"TUNTAP", b"up"], "Unknown transport : 'TUNTAP'"),
            (&[b"4", b"tuntap"], "Too few arguments to tuntap"),
            (&[b"4", b"tuntap", b"up"], "Too few arguments to tuntap_up"),
            (
                &[b"4", b"tuntap", b"../up", b"10.0.0.1"],
                "Bad tuntap op : '../up'",
            ),
            (&[b"4", b"add"], "Too few arguments to add"),
            (
                &[b"4", b"add", b"mine", b"192.0.2.99"],
                "Too few arguments to add",
            ),
            (&[b"4", b"del", b"mine"], "Too few arguments to del"),
            (
                &[b"2", b"tuntap", b"up", b"x", b"-1", b"10.0.0.1"],
                "'-1' is no descriptor",
            ),
            (
                &[b"2", b"tuntap", b"up", b"x", b"99999999999", b"10.0.0.1"],
                "is no descriptor",
            ),
            (
                &[b"2", b"tuntap", b"up", b"x"],
                "Too few arguments to tuntap_up",
            ),
        ];
        refused(kit, Out::Datagrams, cases);
        refused(kit, Out::Stream, cases);
        let slip: &[Case<'_>] = &[
            (&[b"4", b"slip"], "Too few arguments to slip"),
            (&[b"4", b"slip", b"flush"], "Bad slip op : 'flush'"),
            (
                &[b"4", b"slip", b"down", b"eth0"],
                "descriptor 0 is no terminal",
            ),
            (
                &[b"3", b"slip", b"down", b"2147483647"],
                "descriptor 2147483647: Bad file descriptor",
            ),
            (
                &[b"3", b"slip", b"down", b"eth0"],
                "'eth0' is no descriptor",
            ),
        ];
        refused(kit, Out::Stream, slip);
    });
}

#[test]
fn no_arguments_at_all() {
    on_a_host(|kit| {
        let called = kit.call_with(As::Setuid, Out::Datagrams, "", &[]);
        assert!(called.text().contains("bad argument list"));
        assert_eq!(called.code, 1);
    });
}

/// Surroundings in which all goes well nevertheless.
const SURROUNDINGS: [&str; 14] = [
    "exec 0<&-;",
    "exec 0<&- 2>&-;",
    "ulimit -c unlimited;",
    "ulimit -t 1;",
    "ulimit -s 64;",
    "umask 777;",
    "cd / && mkdir -p /tmp/gone.$$ && cd /tmp/gone.$$ && rmdir /tmp/gone.$$ &&",
    "trap '' HUP INT QUIT TERM PIPE ALRM CHLD;",
    "LD_PRELOAD=/nosuch.so LD_LIBRARY_PATH=/tmp GLIBC_TUNABLES=glibc.malloc.check=3 RUST_BACKTRACE=full",
    "PATH= IFS=x LC_ALL=xx_YY LANG=$0 TZ=../../../etc/passwd TERM=$(printf '\\033')",
    "exec 3</ 4</etc/passwd 5<&0 6>&1 7>&2 8</proc/self/mem 9</dev/null;",
    "exec 2>/dev/full;",
    "exec 0</dev/zero;",
    "renice -n 19 $$ >/dev/null;",
];

#[test]
fn surroundings_make_no_difference() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        for wrapper in SURROUNDINGS {
            // An assignment before `exec` is one for the program's environment.
            let up: &[&[u8]] = &[b"4", b"tuntap", b"up", b"192.168.78.254"];
            let called = kit.call_with(As::Setuid, Out::Datagrams, wrapper, up);
            assert_eq!(
                (called.code, called.stderr.as_str()),
                (0, ""),
                "{wrapper}: {called:?}"
            );
            assert_eq!(called.descriptors.len(), 1, "{wrapper}");
            let text = called.text();
            assert!(
                text.ends_with("* sysctl -w net.ipv4.ip_forward=1\n"),
                "{wrapper}: {text}"
            );
            let add: &[&[u8]] = &[b"4", b"add", b"tap0", b"192.0.2.99", b"255.255.255.0"];
            let added = kit.call_with(As::Setuid, Out::Stream, wrapper, add);
            assert_eq!(added.code, 0, "{wrapper}: {added:?}");
            let delete: &[&[u8]] = &[b"4", b"del", b"tap0", b"192.0.2.99", b"255.255.255.0"];
            let deleted = kit.call_with(As::Setuid, Out::Stream, wrapper, delete);
            assert_eq!(deleted.code, 0, "{wrapper}: {deleted:?}");
            close([called]);
            before.assert_holds(wrapper);
        }
    });
}

/// Limits that only a process with `CAP_SYS_RESOURCE` can raise again, which not every container
/// lets root have: without it the call fails, with an answer.
#[test]
fn limits_are_raised_or_told() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        for (wrapper, why) in [
            ("ulimit -n 3;", "Too many open files"),
            ("ulimit -n 4;", "Too many open files"),
            ("ulimit -n 5;", "Too many open files"),
            ("ulimit -n 6;", "Too many open files"),
            ("ulimit -n 7;", "Too many open files"),
            ("ulimit -f 0;", "File too large"),
            ("ulimit -v 20000;", "too little memory"),
            ("ulimit -d 1000;", "too little memory"),
        ] {
            for (out, args) in [
                (Out::Datagrams, "4 tuntap up 192.168.78.254"),
                (Out::Stream, "4 add mine 192.0.2.99 255.255.255.0"),
                (Out::Stream, "4 del mine 192.0.2.99 255.255.255.0"),
            ] {
                let words: Vec<&[u8]> = args.split(' ').map(str::as_bytes).collect();
                let called = kit.call_with(As::Setuid, out, wrapper, &words);
                let text = called.text();
                if called.code == 0 {
                    assert!(!text.contains(why), "{wrapper} {args}: {text}");
                } else {
                    assert_eq!(called.code, 1, "{wrapper} {args}");
                    assert!(text.contains(why), "{wrapper} {args}: {text}");
                }
                close([called]);
            }
            let _ = run(&mut kit.command(As::Setuid, "", &[b"--clean"])).success();
            before.assert_holds(wrapper);
        }
    });
}

#[test]
fn closed_answers_end_the_call() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        for wrapper in [
            "exec 1>&-;",
            "exec 0<&- 1>&- 2>&-;",
            "exec 1</dev/null;",
            "exec 1>/dev/full;",
        ] {
            for args in [
                vec![b"4".as_slice(), b"tuntap", b"up", b"192.168.78.254"],
                vec![b"4", b"add", b"theirs", b"192.0.2.99", b"255.255.255.0"],
                vec![b"4", b"foo"],
            ] {
                let called = kit.call_with(As::Setuid, Out::Stream, wrapper, &args);
                assert_eq!(
                    (called.code, called.messages.len()),
                    (1, 0),
                    "{wrapper} {called:?}"
                );
                before.assert_holds(wrapper);
            }
        }
    });
}

/// Calls `tuntap up` with this standard output, and returns how it ended.
fn up_with(kit: &Kit, stdout: impl Into<Stdio>) -> (i32, String) {
    let up: &[&[u8]] = &[b"4", b"tuntap", b"up", b"192.168.78.254"];
    let mut command = kit.command(As::Setuid, "", up);
    let mut child = command.stdout(stdout.into()).spawn().unwrap();
    drop(command);
    let status = wait_for(&mut child, testkit::PATIENCE);
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    (
        // It ends, and no signal ends it.
        status.unwrap().code().unwrap(),
        stderr,
    )
}

#[test]
fn answers_that_nobody_can_read() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let no_socket = "descriptor 1 is no local socket";

        // Not left open in what other tests start.
        let (_reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let mut writer = File::from(writer);
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&writer, flags).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        let (code, stderr) = up_with(kit, OwnedFd::from(writer));
        assert!(code == 1 && stderr.contains(no_socket), "{code} {stderr}");
        assert!(
            stderr.contains("answering on descriptor 1: Connection timed out"),
            "{stderr}"
        );
        before.assert_holds("");

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (code, stderr) = up_with(kit, OwnedFd::from(udp));
        assert!(code == 1 && stderr.contains(no_socket), "{code} {stderr}");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (code, stderr) = up_with(kit, OwnedFd::from(tcp));
        assert!(code == 1 && stderr.contains(no_socket), "{code} {stderr}");
        before.assert_holds("");

        // A local socket whose other end is gone, or whose queue is full: what was made is undone.
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        ours.shutdown(std::net::Shutdown::Both).unwrap();
        let (code, stderr) = up_with(kit, OwnedFd::from(theirs));
        assert!(
            code == 1 && stderr.contains("answering on descriptor 1: "),
            "{code} {stderr}"
        );
        before.assert_holds("");
        let (_ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        while theirs.send(b"x").is_ok() {}
        let (code, stderr) = up_with(kit, OwnedFd::from(theirs));
        assert!(
            code == 1 && stderr.contains("Connection timed out"),
            "{code} {stderr}"
        );
        before.assert_holds("");

        // A stream can carry a tap too.
        let called = kit.call(As::Setuid, Out::Stream, "4 tuntap up 192.168.78.254");
        assert_eq!(called.code, 0);
        assert_eq!(called.messages[0][..5], *b"tap0\0");
        let mut command = kit.command(As::Setuid, "", &[b"--clean"]);
        let _ = run(&mut command).success();
        before.assert_holds("");
    });
}

#[test]
fn somebody_elses_terminal_stays_one() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        // Root's terminal, on which the stranger was started.
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        for args in [
            vec![b"4".as_slice(), b"slip", b"up", b"192.168.78.254"],
            vec![b"4", b"slip", b"down"],
        ] {
            let mut command = kit.command(As::Setuid, "", &args);
            command.stdin(terminal.try_clone().unwrap());
            let called = Stub::start(command, Out::Stream).finish();
            assert_eq!(
                called.text(),
                "uml_net: descriptor 0 is no terminal of the caller's\n"
            );
        }
        // A socket tells the name of any device: none goes down by it.
        let mut command = kit.command(As::Setuid, "", &[b"4", b"slip", b"down", b"eth0"]);
        command.stdin(OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let called = Stub::start(command, Out::Stream).finish();
        assert_eq!(
            called.text(),
            "uml_net: descriptor 0 is no terminal of the caller's\n"
        );
        before.assert_holds("");
    });
}
