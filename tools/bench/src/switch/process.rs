//! A running switch.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use uml_core::error::IoError;

use crate::{
    cli::Options,
    error::Error,
    programs::{self, command, within},
    report::OURS,
    switch::port::{Endpoint, Port},
};

/// The 2007 switch's name in the tables.
pub const OLD: &str = "2007";
/// The VDE switch's name in the tables.
pub const VDE: &str = "vde_switch";

/// A way to start a switch.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name in the tables.
    pub who: &'static str,
    kind: Kind,
    program: PathBuf,
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Reached by the daemon protocol.
    Daemon,
    /// Ours, reached by BESS.
    Bess,
    /// Ours, reached by VDE's protocol.
    OursVde,
    Vde,
}

impl Recipe {
    /// Ours (if it is built), the 2007 switch, `vde_switch`.
    ///
    /// # Errors
    /// A program that a Debian package has is missing.
    pub fn all(options: &Options) -> Result<Vec<Self>, Error> {
        let uml = |who, program| Self {
            who,
            kind: Kind::Daemon,
            program,
            arguments: Vec::new(),
        };
        let mut all = Vec::new();
        if let Some(program) = within(&options.ours, "uml_switch") {
            all.push(uml(OURS, program));
        }
        if let Some(program) = within(&options.reference, "uml_switch") {
            all.push(uml(OLD, program));
        }
        all.push(Self {
            who: VDE,
            kind: Kind::Vde,
            program: programs::find("vde_switch", "vde2")?,
            arguments: vec!["-n".to_owned(), "4200".to_owned()],
        });
        Ok(all)
    }

    /// The same switch with more arguments, under another name.
    #[must_use]
    pub fn with(&self, who: &'static str, arguments: &[&str]) -> Self {
        let mut recipe = self.clone();
        recipe.who = who;
        let more = arguments.iter().map(|argument| (*argument).to_owned());
        recipe.arguments.extend(more);
        recipe
    }

    /// The same switch with tap devices.
    #[must_use]
    pub fn with_taps(&self, taps: &[&str]) -> Self {
        let option = match self.kind {
            Kind::Daemon | Kind::Bess | Kind::OursVde => "-tap",
            Kind::Vde => "-t",
        };
        let words: Vec<&str> = taps.iter().flat_map(|tap| [option, tap]).collect();
        self.with(self.who, &words)
    }

    /// The same switch, but its ports are plugged in by BESS.
    #[must_use]
    pub fn by_bess(&self, who: &'static str) -> Self {
        Self {
            who,
            kind: Kind::Bess,
            ..self.clone()
        }
    }

    /// The same switch, but its ports are plugged in by VDE's protocol.
    #[must_use]
    pub fn by_vde(&self, who: &'static str) -> Self {
        Self {
            who,
            kind: Kind::OursVde,
            ..self.clone()
        }
    }

    /// Starts the switch in a directory of its own, and waits until a port can be plugged in.
    ///
    /// # Errors
    /// It doesn't start, or isn't reached within ten seconds.
    pub fn start(&self) -> Result<Switch, Error> {
        let dir = tempfile::Builder::new()
            .prefix("uml-bench-")
            .tempdir()
            .map_err(IoError::at("making a directory in", std::env::temp_dir()))?;
        let mut command = command(&self.program);
        command.args(&self.arguments).stderr(Stdio::null());
        let control = dir.path().join("ctl");
        let endpoint = match self.kind {
            Kind::Daemon => {
                command.arg("-unix").arg(&control);
                Endpoint::Daemon(control)
            }
            Kind::Bess => {
                let path = dir.path().join("bess");
                command.arg("-bess").arg(&path);
                command.arg("-unix").arg(&control);
                Endpoint::Bess(path)
            }
            Kind::OursVde => {
                let path = dir.path().join("vde");
                command.arg("-vde").arg(&path);
                command.arg("-unix").arg(&control);
                Endpoint::Vde(path)
            }
            Kind::Vde => {
                let path = dir.path().join("vde");
                command.arg("-s").arg(&path);
                // The end of its input ends it.
                command.stdin(Stdio::piped());
                Endpoint::Vde(path)
            }
        };
        let child = command
            .spawn()
            .map_err(IoError::at("starting", &self.program))?;
        let switch = Switch {
            child,
            endpoint,
            _dir: dir,
        };
        let start = Instant::now();
        loop {
            match switch.plug() {
                Ok(_) => return Ok(switch),
                Err(error) if start.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// A running switch, ended when dropped.
#[derive(Debug)]
pub struct Switch {
    child: Child,
    /// Where it is reached.
    pub endpoint: Endpoint,
    _dir: tempfile::TempDir,
}

impl Switch {
    /// Plugs a port in.
    ///
    /// # Errors
    /// The switch refuses.
    pub fn plug(&self) -> Result<Port, Error> {
        Port::plug(&self.endpoint)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time that all its threads have used.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Result<Duration, Error> {
        cpu(&PathBuf::from(format!("/proc/{}/task", self.pid())))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<u64, Error> {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid()));
        let status = fs::read_to_string(&path).map_err(IoError::at("reading", &path))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of the threads in a `/proc/PID/task` directory.
///
/// # Errors
/// The process has ended.
pub fn cpu(tasks: &Path) -> Result<Duration, Error> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(tasks).map_err(IoError::at("reading", tasks))? {
        let task = task.map_err(IoError::at("reading", tasks))?;
        total += thread_cpu(&task.path().join("schedstat"))?;
    }
    Ok(total)
}

/// The CPU time that a thread's `schedstat` file tells.
///
/// # Errors
/// The thread has ended.
pub fn thread_cpu(schedstat: &Path) -> Result<Duration, Error> {
    let text = fs::read_to_string(schedstat).map_err(IoError::at("reading", schedstat))?;
    let nanoseconds = text.split_whitespace().next();
    let nanoseconds = nanoseconds.and_then(|text| text.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.unwrap_or(0)))
}
