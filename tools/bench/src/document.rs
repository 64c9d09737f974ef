//! The report: what was measured where, and how it compares.

use std::{fmt::Write as _, fs, path::Path};

use uml_core::error::IoError;

use crate::{
    error::Error,
    plot::{self, Plot},
    record::{Record, Row},
};

const PLOTS: [Plot; 3] = [
    Plot {
        file: "performance-merge.svg",
        title: "Merging 256 MiB into a new image",
        rows: "plot-merge-",
        across: "changed sectors, percent (random)",
        figure: "wall",
        up: "seconds",
        scale: 1.0,
    },
    Plot {
        file: "performance-frames.svg",
        title: "One pair of ports at work, the others idle",
        rows: "plot-ports-",
        across: "ports plugged in",
        figure: "frames",
        up: "thousand frames a second",
        scale: 1000.0,
    },
    Plot {
        file: "performance-trips.svg",
        title: "Round trip of one frame, the other ports idle",
        rows: "plot-ports-",
        across: "ports plugged in",
        figure: "round trip",
        up: "µs",
        scale: 1.0,
    },
];

const HEAD: &str = "# Performance

Ours against the 2007 tools and the peers. This page is written by

```sh
cargo run -p xtask -- bench
```

from medians of interleaved runs (A B C A B C …) on one machine; least and greatest in brackets.
`tools/bench/README.md` says what each row does. Ratios of one run hold better than figures, which
every other work on the machine changes.
";

const SWITCH: &str = "
`cpu` is the switch's CPU time for each frame that arrived. `kernel` is a thread that only receives
and sends batches: the least that a switch can take. `no switch` is a pair of sockets without one.
`loss` is what didn't arrive at a receiver that reads all the time.
";

const LIMITS: &str = "
## Where a target is missed, and what the limit is

- **A new image of 1 GiB against the 2007 tool.** Writing 1 GiB to a new file and reading nothing
  (`write alone`) takes a tenth to a twelfth of the 2007 tool's time already: the kernel lets one
  write at a time into a file. Reading and composing go on beside it, on the second processor.
- **With the sync against the 2007 tool.** The disk takes as long for both: the less time the
  processors' part takes, the nearer the two are to each other. Measurements lay between 4.5 and 5.5.
- **xfs with reflinks and the sync.** Half of the time is not the processors' (`user`, `system`): it
  passes with waiting for the disk.
- **CPU a frame with the kernel's default queue.** A daemon guest doesn't connect its socket, so the
  kernel queues 10 frames for it (`net.unix.max_dgram_qlen`). On two processors that the sender, the
  receiver and the switch share, the receiver is woken by each frame, takes the processor from the
  switch, and sleeps again: a quarter of the switch's time is spent there
  (`perf record -e cpu-clock`: `finish_task_switch` 15–29 %, wake-ups 9–12 %, this program's own code
  5 %). systemd raises the queue to 512 on the hosts that it runs: the rows `switch-512-…` have that, and
  come to the kernel's own cost. Without systemd: `sysctl net.unix.max_dgram_qlen=512` before guests
  start.
- **1500-byte frames against the 2007 switch.** The kernel's own cost (`kernel`) is above half of the
  2007 switch's already: the bytes have to be copied twice.
- **Round trips.** `no switch` is the same trip between two sockets with nothing between: the two
  ends' own wake-ups, which no switch can spin away. They take 0.2 to 0.46 of the 2007 switch's trip,
  as the ends' threads happen to share a processor or not. Without `--spin`, five measurements lay
  between 0.99 and 1.07: the same three system calls for each frame.
- **TCP between guests.** The guests' kernels take both processors; `switch busy` is what the switch
  takes of one. By which driver more goes through is up to them.
- **TCP through a relay.** The 2007 switch has one tap, so these rows end in a relay, one thread that
  reads and writes a frame a call; the rows `switch-taps-…` show two taps on the switch itself.
";

/// Writes `performance.md` and its plots into a directory.
///
/// # Errors
/// There are no figures, or a file can't be written.
pub fn write(figures: &Path, out: &Path) -> Result<(), Error> {
    let record = Record::read(figures)?;
    fs::create_dir_all(out).map_err(IoError::at("creating", out))?;
    let mut text = HEAD.to_owned();
    text += "\n## The machine\n\n| | |\n| --- | --- |\n";
    for (name, value) in &record.machine {
        // Writing to a String can't fail.
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text += &section("uml_moo", "", &record, "moo-");
    text += &section("uml_switch", SWITCH, &record, "switch-");
    text += LIMITS;
    text += "\n## Plots\n";
    for plot in PLOTS {
        if plot::draw(plot, &record, out)? {
            let _ = write!(text, "\n![{}]({})\n", plot.title, plot.file);
        }
    }
    let path = out.join("performance.md");
    fs::write(&path, text).map_err(IoError::at("writing", &path))?;
    Ok(())
}

fn section(tool: &str, notes: &str, record: &Record, rows: &str) -> String {
    let mut text =
        format!("\n## {tool}\n{notes}\n| work | figures | targets |\n| --- | --- | --- |\n");
    for row in record.rows.iter().filter(|row| row.name.starts_with(rows)) {
        let _ = writeln!(
            text,
            "| **{}** {} | {} | {} |",
            row.name,
            row.title,
            figures(row),
            targets(row)
        );
    }
    text
}

fn figures(row: &Row) -> String {
    let lines = row.contenders.iter().map(|contender| {
        let figures = contender.figures.iter();
        let figures = figures.map(|figure| {
            let (name, text, range) = (&figure.name, figure.text(), figure.range());
            format!("{name} {text} ({range})")
        });
        let mut words: Vec<String> = figures.collect();
        words.extend(contender.failure.iter().map(|_| "failed".to_owned()));
        format!("{}: {}", contender.who, words.join(", "))
    });
    lines.collect::<Vec<_>>().join("<br>")
}

fn targets(row: &Row) -> String {
    let lines = row.verdicts.iter().map(|verdict| match verdict.reached {
        Some(reached) => format!("{}: {reached:.2} {}", verdict.target, verdict.word()),
        None => format!("{}: {}", verdict.target, verdict.word()),
    });
    lines.collect::<Vec<_>>().join("<br>")
}
