//! Where the lines of a conversation come from, and where its events go.
//!
//! On a terminal a line editor holds the last line; what arrives is printed above it. Elsewhere lines are
//! read from stdin and events go to stdout. Lines are read by a thread of their own: nobody waits for it at
//! the end.

use std::{
    io::{self, BufReader, IsTerminal},
    thread,
};

use p2pchat_host::terminal::Escaped;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{Config, DefaultEditor, ExternalPrinter, error::ReadlineError};
use tokio::sync::mpsc;

use crate::{context::Context, error::Error, show::Show, text_input};

/// How many lines may wait to be sent: the reader waits with the rest, so nothing is lost.
const LINES_MAX: usize = 64;

/// What a read from a terminal that hung up fails with (EIO).
const HUNG_UP: i32 = rustix::io::Errno::IO.raw_os_error();

/// What stands before the line being typed.
const PROMPT: &str = "> ";

/// Both ends of the terminal, or of two pipes.
pub(super) struct Screen {
    lines: mpsc::Receiver<Result<String, Error>>,
    editor: Option<Editor>,
}

struct Editor {
    printer: Box<dyn ExternalPrinter + Send>,
    _mode: Mode,
}

/// The terminal's mode before the editor changed it; comes back on drop, for the editor may be in
/// mid-line when the peer ends the chat.
struct Mode(Termios);

impl Drop for Mode {
    fn drop(&mut self) {
        // A terminal that hung up has no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

impl Screen {
    /// Whether there are people at both ends.
    pub(super) fn is_wanted(context: &Context<'_>) -> bool {
        !context.output.is_json() && io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// A line editor.
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub(super) fn editor() -> Result<Self, Error> {
        let mode = Mode(tcgetattr(io::stdin()).map_err(|error| Error::Terminal(error.into()))?);
        let config = Config::builder().auto_add_history(true).bracketed_paste(false).build();
        let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
        let printer = Box::new(editor.create_external_printer().map_err(failed)?);
        let (sender, lines) = mpsc::channel(LINES_MAX);
        thread::spawn(move || {
            loop {
                let line = match editor.readline(PROMPT) {
                    Ok(line) => Ok(line),
                    Err(ReadlineError::Eof | ReadlineError::Interrupted) => return,
                    // The window was closed: no more lines will come.
                    Err(ReadlineError::Io(error)) if error.raw_os_error() == Some(HUNG_UP) => {
                        return;
                    }
                    Err(error) => Err(failed(error)),
                };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { lines, editor: Some(Editor { printer, _mode: mode }) })
    }

    /// Lines of stdin.
    pub(super) fn pipe() -> Self {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        thread::spawn(move || {
            let mut stdin = BufReader::new(io::stdin());
            while let Some(line) = text_input::line(&mut stdin).transpose() {
                let failed = line.is_err();
                if sender.blocking_send(line.map_err(Error::Input)).is_err() || failed {
                    return;
                }
            }
        });
        Self { lines, editor: None }
    }

    /// The next line; `None` at the end of the input, on Ctrl-D and on Ctrl-C. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Terminal`].
    pub(super) async fn line(&mut self) -> Result<Option<String>, Error> {
        self.lines.recv().await.transpose()
    }

    /// Shows an answer or an event.
    ///
    /// # Errors
    /// [`Error::Stdout`] or [`Error::Terminal`].
    pub(super) fn show<T: Show>(
        &mut self,
        answer: &T,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        match &mut self.editor {
            Some(editor) => editor.printer.print(context.output.render(answer)).map_err(failed),
            None => context.output.answer(answer),
        }
    }

    /// A remark about the conversation, which is no part of it.
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub(super) fn remark(&mut self, text: &str, context: &mut Context<'_>) -> Result<(), Error> {
        match &mut self.editor {
            Some(editor) => {
                editor.printer.print(format!("* {}\n", Escaped::new(text))).map_err(failed)
            }
            None => {
                context.output.remark(&format!("* {text}"));
                Ok(())
            }
        }
    }

    /// Gives the terminal back, on a line of its own, and says a last word.
    pub(super) fn close(mut self, text: &str, context: &mut Context<'_>) {
        if self.editor.take().is_some() {
            context.output.remark("");
        }
        context.output.remark(&format!("* {text}"));
    }
}

fn failed(error: ReadlineError) -> Error {
    Error::Terminal(match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error),
    })
}
