//! Source tarball, Debian packages, RPM packages.
//!
//! The tarball holds the tree as it was committed and every crate that it needs (`vendor/`), so that
//! the packages are built from it without a network. Times, owners and order are fixed by the
//! commit: the same commit makes the same bytes.

mod packager;
mod vendor;

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;
use uml_core::console;

use self::packager::Packager;
use crate::{
    command::{call, output},
    tools,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The source tarball with the crates it needs.
    Tar,
    /// The Debian source and binary packages.
    Deb,
    /// The RPM source and binary packages.
    Rpm,
}

/// What is shared by the kinds.
struct Release {
    /// `uml-utilities-rs-VERSION`.
    name: String,
    /// The time of the commit, in seconds since 1970.
    epoch: String,
    /// Where the results go.
    out: PathBuf,
}

/// Makes packages of what is committed, with a `SHA256SUMS` of all that is in `out` then.
///
/// `DEBFULLNAME` and `DEBEMAIL` of the environment say who answers for the packages.
///
/// # Errors
/// Changes that are not committed; a step that failed, with the command.
pub(crate) fn run(kinds: &[Kind], out: &Path) -> Outcome {
    let changes = output(&mut git(&["status", "--porcelain"]))?;
    if !changes.is_empty() {
        return Err(
            format!("packages are made of what is committed; this is not:\n{changes}").into(),
        );
    }
    let packager = Packager::from_environment()?;
    if packager.is_nobody() && kinds != [Kind::Tar] {
        console::note(
            "the packages name nobody who answers for them: set DEBFULLNAME and DEBEMAIL before you publish any",
        );
    }
    fs::create_dir_all(out).map_err(|error| format!("making {}: {error}", out.display()))?;
    let release = Release {
        name: format!("uml-utilities-rs-{VERSION}"),
        epoch: output(&mut git(&["log", "-1", "--format=%ct"]))?
            .trim()
            .to_owned(),
        out: fs::canonicalize(out)?,
    };
    let work = tempfile::Builder::new().prefix("uml-package-").tempdir()?;
    let tarball = tarball(&release, work.path())?;
    for kind in kinds {
        match kind {
            Kind::Tar => {}
            Kind::Deb => debian(&release, &packager, &tarball, &work.path().join("deb"))?,
            Kind::Rpm => rpm(&release, &packager, &work.path().join("rpm"))?,
        }
    }
    checksums(&release.out)
}

/// The source tarball.
fn tarball(release: &Release, work: &Path) -> Outcome<PathBuf> {
    let tree = work.join(&release.name);
    let archive = work.join("tree.tar");
    let prefix = format!("--prefix={}/", release.name);
    call(git(&["archive", "--format=tar", &prefix, "HEAD", "-o"]).arg(&archive))?;
    call(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(work),
    )?;
    vendor::run(&tree)?;

    let tarball = release.out.join(format!("{}.tar.xz", release.name));
    // One thread: what xz writes depends on their number.
    call(
        Command::new("tar")
            .args(["--sort=name", "--format=gnu", "--owner=0", "--group=0"])
            .args(["--numeric-owner", "--mode=u=rwX,go=rX"])
            .arg(format!("--mtime=@{}", release.epoch))
            .args(["--use-compress-program=xz -6 --threads=1", "-cf"])
            .arg(&tarball)
            .arg("-C")
            .arg(work)
            .arg(&release.name),
    )?;
    console::line(tarball.display())?;
    Ok(tarball)
}

/// The Debian packages, built in `work`.
fn debian(release: &Release, packager: &Packager, tarball: &Path, work: &Path) -> Outcome {
    fs::create_dir_all(work)?;
    let orig = format!("uml-utilities-rs_{VERSION}.orig.tar.xz");
    fs::copy(tarball, work.join(orig))?;
    call(
        Command::new("tar")
            .arg("-xf")
            .arg(tarball)
            .arg("-C")
            .arg(work),
    )?;
    let tree = work.join(&release.name);
    call(
        Command::new("cp")
            .arg("-r")
            .arg(tree.join("tools/packaging/debian"))
            .arg(&tree),
    )?;
    for file in ["control", "changelog"] {
        packager.write_into(&tree.join("debian").join(file))?;
    }

    let mut build = Command::new("dpkg-buildpackage");
    build.args(["-us", "-uc"]).current_dir(&tree);
    let needs = Command::new("dpkg-checkbuilddeps")
        .current_dir(&tree)
        .output()?;
    if !needs.status.success() {
        // A toolchain from elsewhere does as well; it is found through the environment.
        let missing = String::from_utf8_lossy(&needs.stderr).into_owned();
        console::note(format_args!("{}: trying all the same", missing.trim()));
        build.arg("-d");
    }
    call(toolchain(release, &mut build))?;
    keep(work, &release.out)
}

/// The RPM packages, built in `work` from the tarball in the output folder.
fn rpm(release: &Release, packager: &Packager, work: &Path) -> Outcome {
    fs::create_dir_all(work)?;
    let spec = work.join("uml-utilities-rs.spec");
    fs::copy(
        tools::workspace().join("tools/packaging/rpm/uml-utilities-rs.spec"),
        &spec,
    )?;
    packager.write_into(&spec)?;
    let mut build = Command::new("rpmbuild");
    build.arg("-ba");
    if !Path::new("/etc/redhat-release").exists() && !Path::new("/etc/SUSE-brand").exists() {
        // No database of packages that could say what is installed.
        build.arg("--nodeps");
    }
    let defines = [
        ("_topdir", work.as_os_str()),
        ("_sourcedir", release.out.as_os_str()),
        ("version_", OsStr::new(VERSION)),
        ("use_source_date_epoch_as_buildtime", OsStr::new("1")),
        ("clamp_mtime_to_source_date_epoch", OsStr::new("1")),
        ("_buildhost", OsStr::new("localhost")),
    ];
    for (name, value) in defines {
        let mut define = OsString::from(name);
        define.push(" ");
        define.push(value);
        build.arg("--define").arg(define);
    }
    call(toolchain(release, build.arg(spec)))?;
    for folder in fs::read_dir(work.join("RPMS"))? {
        keep(&folder?.path(), &release.out)?;
    }
    keep(&work.join("SRPMS"), &release.out)
}

/// Builds find the Rust toolchain although they set HOME anew, and take their time from the commit.
fn toolchain<'a>(release: &Release, build: &'a mut Command) -> &'a mut Command {
    build.env("SOURCE_DATE_EPOCH", &release.epoch);
    // The build is none of this cargo's.
    for variable in [
        "CARGO",
        "CARGO_TARGET_DIR",
        "CARGO_MANIFEST_DIR",
        "LD_LIBRARY_PATH",
    ] {
        build.env_remove(variable);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let rustup = home.map(|home| home.join(".rustup"));
    if let Some(rustup) = rustup.filter(|dir| dir.is_dir()) {
        if std::env::var_os("RUSTUP_HOME").is_none() {
            build.env("RUSTUP_HOME", rustup);
        }
    }
    build
}

/// Copies the files (not the folders) of a folder to another, and names them.
fn keep(from: &Path, to: &Path) -> Outcome {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let target = to.join(entry.file_name());
            fs::copy(entry.path(), &target)?;
            console::line(target.display())?;
        }
    }
    Ok(())
}

/// `SHA256SUMS` of all files in the folder.
fn checksums(out: &Path) -> Outcome {
    let mut names = fs::read_dir(out)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.retain(|name| name != "SHA256SUMS");
    names.sort();
    let sums = output(Command::new("sha256sum").args(&names).current_dir(out))?;
    Ok(fs::write(out.join("SHA256SUMS"), sums)?)
}

/// git in the source tree.
fn git(args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(tools::workspace()).args(args);
    git
}
