//! The list of tun and tap devices.

use serde::Serialize;
use uml_core::{
    console,
    hostnet::{Address, Host, Link, LinkKind, TunState},
};

use crate::{
    Failure,
    cli::ListFormat,
    holders::{Holders, all_are_visible},
    ids,
};

/// One device, as `--json` prints it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags of a device"
)]
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// `tap` or `tun`.
    kind: &'static str,
    up: bool,
    mtu: u32,
    persistent: bool,
    multi_queue: bool,
    vnet_hdr: bool,
    packet_info: bool,
    /// Who may attach; null: whoever is in the group, or anybody without a group either.
    owner: Option<Id>,
    group: Option<Id>,
    /// The name of the bridge that it is a port of.
    bridge: Option<String>,
    addresses: Vec<String>,
    /// The attached processes that the caller may see; all of them when the caller is root.
    used_by: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct Id {
    id: u32,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Process {
    pid: u32,
    command: String,
}

/// Prints all tun and tap devices of the network namespace.
pub(crate) fn print(format: ListFormat) -> Result<(), Failure> {
    let entries = entries()?;
    match format {
        ListFormat::Json => {
            let text = serde_json::to_string_pretty(&entries)
                .map_err(|error| Failure::say(&error.to_string()))?;
            console::line(text)?;
        }
        ListFormat::Table => console::raw(table(&entries).as_bytes())?,
    }
    Ok(())
}

fn entries() -> Result<Vec<Entry>, Failure> {
    let mut host = Host::open()?;
    let links = host.links()?;
    let addresses = host.addresses(None)?;
    let holders = Holders::find();
    let entries = links.iter().filter_map(|link| match link.kind {
        LinkKind::Tun(state) => Some(entry(link, state, &links, &addresses, &holders)),
        _ => None,
    });
    Ok(entries.collect())
}

fn entry(
    link: &Link,
    state: TunState,
    links: &[Link],
    addresses: &[Address],
    holders: &Holders,
) -> Entry {
    let name = link.interface.name.to_string();
    let bridge = links
        .iter()
        .find(|other| Some(other.interface.index) == link.master);
    Entry {
        kind: state.kind.as_str(),
        up: link.up,
        mtu: link.mtu,
        persistent: state.persistent,
        multi_queue: state.multi_queue,
        vnet_hdr: state.vnet_hdr,
        packet_info: state.packet_info,
        owner: state.owner.map(|id| Id {
            id,
            name: ids::user_name(id),
        }),
        group: state.group.map(|id| Id {
            id,
            name: ids::group_name(id),
        }),
        bridge: bridge.map(|bridge| bridge.interface.name.to_string()),
        addresses: addresses
            .iter()
            .filter(|address| address.device == link.interface.index)
            .map(|address| address.prefix.to_string())
            .collect(),
        used_by: holders
            .of(&name)
            .iter()
            .map(|holder| Process {
                pid: holder.pid,
                command: holder.command.clone(),
            })
            .collect(),
        name,
    }
}

/// Columns as wide as their widest cell; a dash for nothing.
fn table(entries: &[Entry]) -> String {
    let mut rows = vec![
        [
            "NAME",
            "KIND",
            "STATE",
            "OWNER",
            "GROUP",
            "KEPT",
            "USED BY",
            "BRIDGE",
            "ADDRESSES",
        ]
        .map(str::to_owned),
    ];
    rows.extend(entries.iter().map(row));
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(entry: &Entry) -> [String; 9] {
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    let id = |id: &Option<Id>| match id {
        Some(Id {
            name: Some(name), ..
        }) => name.clone(),
        Some(Id { id, .. }) => id.to_string(),
        None => "-".to_owned(),
    };
    let mut kind = entry.kind.to_owned();
    for (is_set, word) in [
        (entry.multi_queue, ",multi-queue"),
        (entry.vnet_hdr, ",vnet-hdr"),
        (entry.packet_info, ",packet-info"),
    ] {
        if is_set {
            kind.push_str(word);
        }
    }
    let mut used_by = entry
        .used_by
        .iter()
        .map(|process| format!("{}({})", process.command, process.pid))
        .collect::<Vec<_>>()
        .join(",");
    if used_by.is_empty() && !all_are_visible() {
        used_by.push('?');
    }
    [
        entry.name.clone(),
        kind,
        if entry.up { "up" } else { "down" }.to_owned(),
        id(&entry.owner),
        id(&entry.group),
        if entry.persistent { "yes" } else { "no" }.to_owned(),
        or_dash(used_by),
        entry.bridge.clone().unwrap_or_else(|| "-".to_owned()),
        or_dash(entry.addresses.join(",")),
    ]
}
