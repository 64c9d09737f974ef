//! The crates that the workspace needs, in its folder `vendor/`.

use std::{collections::BTreeSet, error::Error, fs, io, path::Path, process::Command};

use serde_json::{Value, json};

use crate::command::{call, output};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The machines that the tarball builds on.
const PLATFORMS: [&str; 8] = [
    "aarch64-unknown-linux-gnu",
    "armv7-unknown-linux-gnueabihf",
    "i686-unknown-linux-gnu",
    "powerpc64le-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
    "s390x-unknown-linux-gnu",
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
];

/// What makes cargo look there.
const CONFIG: &str = r#"[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
"#;

/// Fetches the crates, sets cargo up to use them, and empties those that only other systems need.
///
/// Cargo wants every crate of `Cargo.lock` to be there: an emptied one keeps its `Cargo.toml` and has
/// an empty library.
///
/// # Errors
/// A step that failed.
pub(super) fn run(tree: &Path) -> Outcome {
    let vendor = tree.join("vendor");
    call(
        Command::new("cargo")
            .args([
                "vendor",
                "--quiet",
                "--locked",
                "--versioned-dirs",
                "vendor",
            ])
            .current_dir(tree),
    )?;
    let dir = tree.join(".cargo");
    fs::create_dir_all(&dir)?;
    let file = dir.join("config.toml");
    let mut settings = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    settings.push_str(CONFIG);
    fs::write(&file, settings)?;

    let needed = needed(tree)?;
    for entry in fs::read_dir(&vendor)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if !needed.contains(&name) {
            empty(&entry.path()).map_err(|error| format!("emptying {name}: {error}"))?;
        }
    }
    // That cargo still takes it all shows here.
    metadata(tree, PLATFORMS[0])?;
    Ok(())
}

/// The folders of the crates that some platform needs: `NAME-VERSION`.
fn needed(tree: &Path) -> Outcome<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    for platform in PLATFORMS {
        let answer = metadata(tree, platform)?;
        let answer: Value = serde_json::from_str(&answer)?;
        let packages = answer["packages"].as_array().ok_or("no packages")?;
        for package in packages {
            let part = |key: &str| package[key].as_str().unwrap_or_default();
            needed.insert(format!("{}-{}", part("name"), part("version")));
        }
    }
    Ok(needed)
}

/// What cargo says of the workspace and of the crates that it needs on that platform.
fn metadata(tree: &Path, platform: &str) -> Outcome<String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "metadata",
            "--format-version=1",
            "--frozen",
            "--filter-platform",
            platform,
        ])
        .current_dir(tree);
    output(&mut cargo)
}

/// Leaves of a crate its `Cargo.toml` and an empty library.
fn empty(dir: &Path) -> Outcome {
    let sums = fs::read_to_string(dir.join(".cargo-checksum.json"))?;
    let mut sums: Value = serde_json::from_str(&sums)?;
    let manifest = fs::read_to_string(dir.join("Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse()?;
    fs::remove_dir_all(dir)?;
    fs::create_dir_all(dir.join("src"))?;

    // Targets point at files that are gone.
    let mut kept: toml::Table = manifest
        .into_iter()
        .filter(|(key, _)| !matches!(key.as_str(), "lib" | "bin" | "example" | "test" | "bench"))
        .map(|(key, value)| match value {
            toml::Value::Table(mut package) if key == "package" => {
                for file in [
                    "build",
                    "exclude",
                    "include",
                    "license-file",
                    "links",
                    "readme",
                ] {
                    package.remove(file);
                }
                (key, toml::Value::Table(package))
            }
            other => (key, other),
        })
        .collect();
    kept.insert("lib".to_owned(), toml::toml! { path = "src/lib.rs" }.into());
    fs::write(dir.join("Cargo.toml"), kept.to_string())?;
    fs::write(dir.join("src/lib.rs"), "")?;
    sums["files"] = json!({});
    Ok(fs::write(
        dir.join(".cargo-checksum.json"),
        sums.to_string(),
    )?)
}
