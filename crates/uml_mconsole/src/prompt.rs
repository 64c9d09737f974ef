//! The prompt: line editing, history, completion.

use std::{
    env,
    error::Error,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustyline::{
    Config, Editor, Helper, completion::Completer, error::ReadlineError, highlight::Highlighter,
    hint::Hinter, history::FileHistory, validate::Validator,
};
use uml_core::{
    console,
    error::{chain, system_text},
};

use crate::{
    TOOL,
    command::Context,
    completion::complete,
    guests::Places,
    interrupt::Interrupt,
    script,
    show::{self, visible_line},
    terminal,
};

/// How many lines are remembered.
const MAX_HISTORY: usize = 1000;

/// Asks for commands until `quit` or ctrl-D; ctrl-C ends the line, or the wait for an answer.
///
/// # Errors
/// What the terminal or standard output answered.
pub fn run(context: Context) -> Result<u8, Box<dyn Error>> {
    let interrupt = Arc::new(Interrupt::new()?);
    terminal::restore_at_end()?;
    let mut context = context.interrupted_by(&interrupt);
    let config = Config::builder()
        .max_history_size(MAX_HISTORY)?
        .auto_add_history(true)
        // Pasted lines are commands as typed ones are.
        .bracketed_paste(false)
        .build();
    let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Completion(context.places().clone())));
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    // A guest that isn't there is said at once; one may switch to another.
    if let Err(error) = context.places().find(context.guest()) {
        console::note(format_args!("{TOOL}: {}", chain(&error)));
    }
    loop {
        let line = match editor.readline(&prompt(&context)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        if let Some(path) = &history {
            if let Err(error) = remember(&mut editor, path) {
                let path = path.display();
                console::note(format_args!(
                    "{TOOL}: writing history file '{path}': {error}"
                ));
            }
        }
        if line.trim().is_empty() {
            continue;
        }
        // One that came before this command isn't meant for it.
        let _ = interrupt.take();
        match script::step(line.trim().as_bytes(), &mut context) {
            Some(outcome) => show::outcome(&outcome)?,
            None => break,
        };
    }
    Ok(0)
}

fn prompt(context: &Context) -> String {
    let name = context.places().find(context.guest()).map_or_else(
        |_| context.guest().to_string_lossy().into_owned(),
        |guest| guest.name,
    );
    format!("({}) ", visible_line(name.as_bytes()))
}

/// `$XDG_STATE_HOME/uml_mconsole/history`, or the same below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let var = |name| env::var_os(name).map(PathBuf::from);
    let state = var("XDG_STATE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(var("HOME")?.join(".local/state")))
        .filter(|dir| dir.is_absolute())?;
    Some(state.join("uml_mconsole/history"))
}

fn remember(editor: &mut Editor<Completion, FileHistory>, path: &Path) -> Result<(), String> {
    if let Some(dir) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| system_text(&error))?;
    }
    editor.append_history(path).map_err(|error| match error {
        ReadlineError::Io(error) => system_text(&error),
        other => other.to_string(),
    })
}

/// What rustyline asks for completions.
struct Completion(Places);

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(line.get(..pos).unwrap_or(line), &self.0))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}
