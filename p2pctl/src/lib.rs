//! p2pctl: one-shot commands to peerd.
//!
//! [`run`] parses the arguments, carries out one verb and says with which exit code the process ends.
//! stdout gets the answer, stderr everything else. Nothing here holds state between two calls and nothing
//! but [`output`] writes to stdout or stderr. p2pctl never prompts without a terminal, never starts peerd,
//! never opens its files, and takes no secret from arguments or environment.
//!
//! Code map: [`cli`] is what can be typed; each verb is a file in [`command`]; [`socket`] finds peerd,
//! [`client`] talks to it; [`show`] is how answers look to people, [`terminal`](p2pchat_host::terminal) what keeps hostile text
//! from the terminal; [`error`] and [`exit`] are the failures and their exit codes.

pub mod cli;
pub mod client;
pub mod command;
pub mod context;
pub mod conversation;
pub mod error;
pub mod exit;
pub mod output;
pub mod password;
pub mod show;
pub mod socket;
pub mod text_input;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use crate::{cli::Cli, context::Context, error::Error, exit::Exit, output::Output};

/// Carries out the command line `args` (with the program's name first).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&args, &error),
    };
    let mut output = Output::new(cli.global.json, cli.global.color);
    match execute(cli, &mut output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let report = error.report();
            output.error(&report);
            Exit::Code(report.code).into()
        }
    }
}

fn execute(cli: Cli, output: &mut Output) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let mut context = Context::new(cli.global, output);
    let exit = runtime.block_on(command::dispatch(cli.verb, &mut context));
    // A thread that reads stdin may sit in a blocking read: nobody waits for it.
    runtime.shutdown_background();
    exit
}

/// Help and version are answers; everything else that clap says is an error of usage.
fn usage(args: &[OsString], error: &clap::Error) -> ExitCode {
    let json = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let mut output = Output::new(json, clap::ColorChoice::Never);
    if error.use_stderr() {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let error = Error::Usage(text.to_owned());
        output.error(&error.report());
        return Exit::Code(error.report().code).into();
    }
    match output.text(&error.render().to_string()) {
        Ok(()) => Exit::Done.into(),
        Err(error) => Exit::Code(error.report().code).into(),
    }
}
