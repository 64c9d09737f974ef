//! A host of a test's own, copies of the binary with privilege, and a stub guest.

use std::{
    env,
    fs::{self, Permissions},
    io::{IoSliceMut, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixDatagram, UnixStream},
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use nix::{
    mount::{MsFlags, mount},
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        stat::{Mode, SFlag, makedev, mknod},
    },
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    bins::installed,
    cmd::{run, wait_for},
    netns::{empty, ip, isolated, wait_for_state, without_ipv6},
    until,
};
use uml_core::tuntap::Device;

/// The user and the group `nobody`, who has no right to anything.
pub(crate) const NOBODY: u32 = 65534;

/// A host with a network card `eth0` (192.0.2.10/24, router 192.0.2.1, a known neighbour
/// 192.0.2.20), a tap `mine` of [`NOBODY`] and a tap `theirs` of user 4711 with a guest.
pub(crate) struct Kit {
    dir: TempDir,
}

/// How the binary gets its privilege, and who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Setuid root, run by [`NOBODY`].
    Setuid,
    /// With a file capability, run by [`NOBODY`].
    Capability,
    /// With no privilege, run by [`NOBODY`].
    Nothing,
    /// Run by root.
    Root,
}

/// What the call's descriptor 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// One end of a pair of datagram sockets, as for `tuntap up`.
    Datagrams,
    /// One end of a pair of stream sockets, as for `add` and `del`.
    Stream,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    /// The messages, or all bytes of a stream as one.
    pub(crate) messages: Vec<Vec<u8>>,
    /// The descriptors that came along.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The exit code, or 128 and the signal's number.
    pub(crate) code: i32,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Called {
    /// The only message's text: what follows the device's name or the length, without its NUL.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let [message] = self.messages.as_slice() else {
            panic!("one answer was expected: {self:?}");
        };
        let (last, rest) = message.split_last().unwrap();
        assert_eq!(*last, 0, "{self:?}");
        let skip = if !self.descriptors.is_empty() {
            16
        } else if message.starts_with(&u32::try_from(message.len() - 4).unwrap_or(0).to_ne_bytes())
        {
            4
        } else {
            0
        };
        String::from_utf8(rest[skip..].to_vec()).unwrap()
    }
}

/// Lets go of what calls have given, and waits until its taps are gone: a command that another test
/// starts at that moment has a copy of each descriptor until it runs its program.
pub(crate) fn close(called: impl IntoIterator<Item = Called>) {
    let descriptors = called.into_iter().flat_map(|called| called.descriptors);
    let names: Vec<String> = descriptors
        .map(|descriptor| Device::from_fd(descriptor).unwrap().name().to_string())
        .collect();
    for name in names {
        let path = Path::new("/sys/class/net").join(&name);
        until(&format!("{name} to be gone"), || {
            (!path.exists()).then_some(())
        });
    }
}

/// Runs a test on a host of its own.
pub(crate) fn on_a_host(test: impl FnOnce(&Kit) + Send) {
    isolated(|| {
        let dir = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        empty("/run");
        // Tests of the policy write to this /etc.
        for name in ["upper", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let layers = format!(
            "lowerdir=/etc,upperdir={0}/upper,workdir={0}/work",
            dir.path().display()
        );
        mount(
            Some("etc"),
            "/etc",
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )
        .unwrap();
        fs::write("/etc/resolv.conf", "# a comment\nnameserver 192.0.2.53\n").unwrap();
        // Anybody may open the tun driver's device, as udev has it.
        empty("/dev/net");
        device("/dev/net/tun", 10, 200);
        without_ipv6();
        for words in [
            "link add eth0 type veth peer name wire",
            "link set wire up",
            "link set eth0 up",
            "tuntap add dev mine mode tap user 65534",
            "link set mine up",
            "tuntap add dev theirs mode tap user 4711",
            "link set theirs up",
        ] {
            ip(words);
        }
        // Nothing of it may change by itself later.
        for (device, state) in [
            ("eth0", "up"),
            ("wire", "up"),
            ("mine", "down"),
            ("theirs", "down"),
        ] {
            wait_for_state(device, state);
        }
        for words in [
            "addr add 192.0.2.10/24 dev eth0",
            "route add default via 192.0.2.1",
            "route add 10.1.0.0/16 via 192.0.2.2",
            "neigh add 192.0.2.20 lladdr 02:00:00:00:00:20 dev eth0",
            "addr add 192.168.9.254/32 dev theirs",
            "route add 192.168.9.1/32 dev theirs",
        ] {
            ip(words);
        }
        test(&Kit { dir });
    });
}

impl Kit {
    /// A path in the test's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of the binary with the privilege that goes with `how`.
    pub(crate) fn binary(&self, how: As) -> PathBuf {
        let path = self.path(match how {
            As::Setuid => "setuid",
            As::Capability => "capability",
            As::Nothing | As::Root => "plain",
        });
        if path.exists() {
            return path;
        }
        // A process of its own writes the copy: were it this one, a command that another test starts
        // meanwhile could have the file open for writing, and the kernel would not run it.
        let install = installed("install", "coreutils");
        let mode = if how == As::Setuid { "4755" } else { "755" };
        let mut command = Command::new(install);
        let _ = run(command.args(["-m", mode]).arg(static_binary()).arg(&path)).success();
        if how == As::Capability {
            let setcap = installed("setcap", "libcap2-bin");
            let _ = run(Command::new(setcap).arg("cap_net_admin=ep").arg(&path)).success();
        }
        path
    }

    /// A command that runs the binary so; `wrapper` is what a shell does before (`ulimit -n 3;`).
    pub(crate) fn command(&self, how: As, wrapper: &str, args: &[&[u8]]) -> Command {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{wrapper} exec \"$0\" \"$@\""))
            .arg(self.binary(how))
            .args(args.iter().map(|arg| OsStr::from_bytes(arg)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        if how != As::Root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Calls the binary as a guest's kernel does, and reads its answer.
    #[track_caller]
    pub(crate) fn call(&self, how: As, out: Out, args: &str) -> Called {
        let args: Vec<&[u8]> = args.split(' ').map(str::as_bytes).collect();
        self.call_with(how, out, "", &args)
    }

    /// As [`Kit::call`], with a wrapper and any bytes as arguments.
    #[track_caller]
    pub(crate) fn call_with(&self, how: As, out: Out, wrapper: &str, args: &[&[u8]]) -> Called {
        Stub::start(self.command(how, wrapper, args), out).finish()
    }
}

/// All that callers could have changed, a line each.
pub(crate) struct Snapshot(Vec<String>);

impl Snapshot {
    /// The host as it is.
    pub(crate) fn take() -> Self {
        let mut lines = Vec::new();
        for words in [
            "-d link show",
            "addr show",
            "-4 route show table all",
            "neigh show",
            "neigh show proxy",
            "rule show",
        ] {
            // How long a neighbour has been quiet is of no interest.
            let line = |line: &str| format!("ip {words}: {}", line.split(" used ").next().unwrap());
            lines.extend(ip(words).lines().map(line));
        }
        for setting in settings() {
            let value = fs::read_to_string(&setting).unwrap();
            lines.push(format!("{}: {value}", setting.display()));
        }
        for entry in fs::read_dir("/run/uml_net").into_iter().flatten() {
            let name = entry.unwrap().file_name();
            if name != "lock" {
                lines.push(format!("state {}", name.to_string_lossy()));
            }
        }
        Self(lines)
    }

    /// Panics with the differences unless the host is as it was then.
    #[track_caller]
    pub(crate) fn assert_holds(&self, after: &str) {
        let now = Self::take();
        let gone: Vec<_> = self.0.iter().filter(|line| !now.0.contains(line)).collect();
        let new: Vec<_> = now.0.iter().filter(|line| !self.0.contains(line)).collect();
        assert!(
            gone.is_empty() && new.is_empty(),
            "the host has changed {after}\ngone: {gone:#?}\nnew: {new:#?}"
        );
    }
}

fn settings() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/proc/sys/net/ipv4/ip_forward")];
    let mut devices: Vec<_> = fs::read_dir("/proc/sys/net/ipv4/conf")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    devices.sort();
    for device in devices {
        for name in ["forwarding", "proxy_arp", "accept_redirects", "rp_filter"] {
            files.push(device.join(name));
        }
    }
    files
}

/// Makes the node of a character device that everybody may open.
pub(crate) fn device(path: &str, major: u64, minor: u64) {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
}

/// The user that a tap belongs to.
pub(crate) fn owner(device: &str) -> String {
    let text = fs::read_to_string(format!("/sys/class/net/{device}/owner")).unwrap();
    text.trim().to_owned()
}

/// The value of a setting below `/proc/sys/net/ipv4`.
pub(crate) fn sysctl(name: &str) -> String {
    let path = Path::new("/proc/sys/net/ipv4").join(name);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Sets a setting below `/proc/sys/net/ipv4`.
pub(crate) fn set_sysctl(name: &str, value: &str) {
    fs::write(Path::new("/proc/sys/net/ipv4").join(name), value).unwrap();
}

/// A call that runs, and the guest's end of its answer.
pub(crate) struct Stub {
    pub(crate) child: Child,
    datagrams: Option<UnixDatagram>,
    stream: Option<UnixStream>,
}

impl Stub {
    /// Starts a call. The command goes, and with it this process's copy of the other end.
    pub(crate) fn start(mut command: Command, out: Out) -> Self {
        let mut stub = |stdout: OwnedFd| command.stdout(stdout).spawn().unwrap();
        match out {
            Out::Datagrams => {
                let (ours, theirs) = UnixDatagram::pair().unwrap();
                Self {
                    child: stub(theirs.into()),
                    datagrams: Some(ours),
                    stream: None,
                }
            }
            Out::Stream => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                Self {
                    child: stub(theirs.into()),
                    datagrams: None,
                    stream: Some(ours),
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Called {
        let Some(status) = wait_for(&mut self.child, PATIENCE) else {
            self.child.kill().unwrap();
            panic!("the call has not ended after {PATIENCE:?}");
        };
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        let mut called = Called {
            messages: Vec::new(),
            descriptors: Vec::new(),
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap()),
            stderr,
        };
        if let Some(socket) = self.datagrams {
            socket.set_nonblocking(true).unwrap();
            while let Some((message, descriptors)) = receive(&socket) {
                called.messages.push(message);
                called.descriptors.extend(descriptors);
            }
        }
        if let Some(mut stream) = self.stream {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            if !bytes.is_empty() {
                called.messages.push(bytes);
            }
        }
        called
    }
}

/// One message, as a guest's kernel reads it: into one page less a byte.
fn receive(socket: &UnixDatagram) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 4095];
    let mut control = nix::cmsg_space!([i32; 4]);
    let (length, raw) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let received = match received {
            Ok(received) => received,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECONNRESET) => return None,
            Err(error) => panic!("reading an answer: {error}"),
        };
        let raw: Vec<i32> = received
            .cmsgs()
            .unwrap()
            .flat_map(|message| match message {
                ControlMessageOwned::ScmRights(raw) => raw,
                other => panic!("not a descriptor: {other:?}"),
            })
            .collect();
        (received.bytes, raw)
    };
    bytes.truncate(length);
    Some((bytes, raw.into_iter().map(adopt).collect()))
}

/// A descriptor that the kernel has just put there.
fn adopt(raw: i32) -> OwnedFd {
    let owned = uml_core::sys::process::inherited(raw).unwrap();
    nix::unistd::close(raw).unwrap();
    owned
}

/// The binary, linked statically, as it is to be installed: a dynamic linker can't open the C
/// library when the caller lets the process have no descriptor beyond the standard ones.
///
/// The library that cargo has built for these tests is linked with `main.rs` anew, so that the
/// binary that other tests use stays as it is.
fn static_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let target = testkit::bins::target_dir();
        let deps = target.join("deps");
        let library = fs::read_dir(&deps)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("libuml_net-") && name.ends_with(".rlib")
            })
            .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).unwrap())
            .unwrap();
        let unfinished = target.join(format!("uml_net-static-{}", std::process::id()));
        let rustc = env::var_os("CARGO")
            .map(|cargo| PathBuf::from(cargo).with_file_name("rustc"))
            .filter(|rustc| rustc.is_file())
            .unwrap_or_else(|| PathBuf::from("rustc"));
        let _ = testkit::cmd::run_for(
            Command::new(rustc)
                .args(["--edition=2024", "--crate-name=uml_net", "--crate-type=bin"])
                .args(["-C", "target-feature=+crt-static", "-C", "strip=debuginfo"])
                .arg("-L")
                .arg(format!("dependency={}", deps.display()))
                .arg("--extern")
                .arg(format!("uml_net={}", library.display()))
                .arg("-o")
                .arg(&unfinished)
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs")),
            b"",
            4 * PATIENCE,
        )
        .success();
        let path = target.join("uml_net-static");
        fs::rename(&unfinished, &path).unwrap();
        path
    })
}
