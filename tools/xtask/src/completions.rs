//! Completions of the tools' command lines for bash, zsh and fish.

use std::{error::Error, fs, path::Path};

use clap_complete::{Shell, generate};

use crate::tools;

/// Writes `dir/bash/NAME`, `dir/zsh/_NAME` and `dir/fish/NAME.fish` for each tool that people start.
///
/// # Errors
/// A file that can't be written.
pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    for (shell, folder) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("making {}: {error}", folder.display()))?;
        // port-helper is started by guests' kernels alone.
        for tool in tools::ALL.iter().filter(|tool| tool.name != "port-helper") {
            let file = folder.join(match shell {
                Shell::Zsh => format!("_{}", tool.name),
                Shell::Fish => format!("{}.fish", tool.name),
                _ => tool.name.to_owned(),
            });
            let mut script = Vec::new();
            generate(shell, &mut (tool.command)(), tool.name, &mut script);
            fs::write(&file, script)
                .map_err(|error| format!("writing {}: {error}", file.display()))?;
        }
    }
    Ok(())
}
