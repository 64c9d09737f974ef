//! Changes as people read them: in the words of `ip` and `sysctl`.

use std::fmt;

use uml_core::{
    hostnet::BridgeSettings,
    tuntap::{Kind, Mode},
};

use super::{Change, Shape, TapShape, VxlanEnd};

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(name, Shape::Tap(tap), _) => {
                write!(f, "ip tuntap add dev {name} {}", Words(tap.mode))?;
                if let Some(uid) = tap.owner {
                    write!(f, " user {uid}")?;
                }
                match tap.group {
                    Some(gid) => write!(f, " group {gid}"),
                    None => Ok(()),
                }
            }
            Self::Delete(name, Shape::Tap(TapShape { mode, .. }), _)
            | Self::Keep(name, mode, false) => {
                write!(f, "ip tuntap del dev {name} {}", Words(*mode))
            }
            Self::Keep(name, mode, true) => {
                write!(f, "ip tuntap add dev {name} {}", Words(*mode))
            }
            Self::SetOwner(name, mode, step) => {
                write!(f, "tunctl {}-t {name} -u {}", Letters(*mode), step.to)
            }
            Self::SetGroup(name, mode, step) => {
                write!(f, "tunctl {}-t {name} -g {}", Letters(*mode), step.to)
            }
            Self::Add(name, Shape::Bridge(settings), _) => {
                write!(f, "ip link add dev {name} {}", BridgeWords(*settings))
            }
            Self::SetBridge(name, step) => {
                write!(f, "ip link set dev {name} {}", BridgeWords(step.to))
            }
            Self::Add(name, Shape::Vxlan(end), _) => {
                write!(f, "ip link add dev {name} {end}")
            }
            Self::Delete(name, ..) => write!(f, "ip link del dev {name}"),
            Self::SetUp(name, true) => write!(f, "ip link set dev {name} up"),
            Self::SetUp(name, false) => write!(f, "ip link set dev {name} down"),
            Self::SetMtu(name, step) => write!(f, "ip link set dev {name} mtu {}", step.to),
            Self::SetMaster(name, step) => match &step.to {
                Some(bridge) => write!(f, "ip link set dev {name} master {bridge}"),
                None => write!(f, "ip link set dev {name} nomaster"),
            },
            Self::AddAddress(name, prefix) => write!(f, "ip addr add {prefix} dev {name}"),
            Self::DeleteAddress(name, prefix) => write!(f, "ip addr del {prefix} dev {name}"),
            Self::AddRoute(path) => write!(f, "ip route add {}", path.route),
            Self::DeleteRoute(path) => write!(f, "ip route del {}", path.route),
            Self::AddProxy(name, address) => write!(f, "ip neigh add proxy {address} dev {name}"),
            Self::DeleteProxy(name, address) => {
                write!(f, "ip neigh del proxy {address} dev {name}")
            }
            Self::Switch(setting, on) => {
                let value = u8::from(*on);
                write!(f, "echo {value} > {}", setting.path().display())
            }
        }
    }
}

impl fmt::Display for VxlanEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type vxlan id {} dstport {}", self.id, self.port)?;
        if let Some(local) = self.local {
            write!(f, " local {local}")?;
        }
        if let Some(far) = self.remote {
            let word = if far.is_multicast() {
                "group"
            } else {
                "remote"
            };
            write!(f, " {word} {far}")?;
        }
        match &self.device {
            Some(device) => write!(f, " dev {device}"),
            None => Ok(()),
        }
    }
}

/// A mode in the words of `ip tuntap`.
struct Words(Mode);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {}", self.0.kind.as_str())?;
        if self.0.multi_queue {
            f.write_str(" multi_queue")?;
        }
        if self.0.vnet_hdr {
            f.write_str(" vnet_hdr")?;
        }
        Ok(())
    }
}

/// A mode in the options of `tunctl`, each with a space behind it.
struct Letters(Mode);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.kind == Kind::Tun {
            f.write_str("-n ")?;
        }
        if self.0.multi_queue {
            f.write_str("--multi-queue ")?;
        }
        Ok(())
    }
}

/// A bridge's settings in the words of `ip link`, which counts in hundredths of a second.
struct BridgeWords(BridgeSettings);

impl fmt::Display for BridgeWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type bridge stp_state {} forward_delay {}",
            u8::from(self.0.stp),
            self.0.forward_delay.as_millis() / 10
        )
    }
}
