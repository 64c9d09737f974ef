//! Commands whose failure ends the task.

use std::{error::Error, process::Command};

/// Runs a command whose output the user sees.
///
/// # Errors
/// It can't be started, or ended otherwise than with success.
pub(crate) fn call(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command
        .status()
        .map_err(|error| format!("starting {command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// It can't be started, ended otherwise than with success, or printed what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command
        .output()
        .map_err(|error| format!("starting {command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}: {}", output.status, said.trim()).into())
    }
}
