//! From the command line to an exit code.

use std::{env, ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

use p2pchat_host::process;
use registryd_proto::Code;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time,
};

use crate::{
    cli::{self, Cli, CliError, Command, ConfigCommand},
    command,
    config::{Config, ConfigError},
    daemonize::{self, DaemonizeError, Reporter, Side},
    instance::InstanceError,
    logging,
    output::{self, Output},
    server::{Server, StartError},
    store::OpenError,
};

/// Why registryd ends with another code than 0.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Daemonize(#[from] DaemonizeError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[from] io::Error),
}

impl RunError {
    fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Config(_) => Code::Usage,
            Self::Start(StartError::Instance(InstanceError::InUse { .. })) => Code::StateInUse,
            Self::Start(StartError::Open(OpenError::Newer { .. })) => Code::VersionMismatch,
            Self::Start(StartError::Listen { source, .. } | StartError::Metrics { source, .. }) => {
                match source.kind() {
                    io::ErrorKind::AddrInUse => Code::Conflict,
                    io::ErrorKind::PermissionDenied => Code::Blocked,
                    io::ErrorKind::AddrNotAvailable => Code::Usage,
                    // No such name: the resolver has errors of its own.
                    _ if source.raw_os_error().is_none() => Code::Usage,
                    _ => Code::Internal,
                }
            }
            Self::Start(_) | Self::Daemonize(_) | Self::Runtime(_) => Code::Internal,
        };
        code.exit_code()
    }
}

/// How the start is reported.
enum Report {
    Foreground { ready_json: bool },
    Background(Reporter),
}

/// Carries out a command line, with the name of the program first: the registry runs to its end, in the
/// foreground or as a daemon, or a subcommand does.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::read(&args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(output::usage(&args, &error)),
    };
    match &cli.command {
        None => run_server(&cli),
        Some(command) => run_command(command, &cli),
    }
}

/// Carries out a subcommand.
fn run_command(command: &Command, cli: &Cli) -> ExitCode {
    let mut output = Output::new(cli.common.json);
    let ended = carry_out(command, cli, &mut output);
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(code)) => ExitCode::from(code.exit_code()),
        Err(error) => ExitCode::from(output.fail(&error)),
    }
}

fn carry_out(command: &Command, cli: &Cli, output: &mut Output) -> Result<Option<Code>, CliError> {
    let config = || Config::load(cli);
    match command {
        // A wrong file is its answer.
        Command::Config(ConfigCommand::Check) => {
            command::config_check(cli.common.config.clone(), output)
        }
        Command::Admin(args) => cli::admin(args.clone(), &config()?.data_dir, output),
        Command::Backup(args) => command::backup(&config()?, args, output),
        Command::Restore(args) => command::restore(&config()?, args, output),
        Command::Check(args) => command::check(&config()?, args, output),
        Command::Key(command) => command::key(&config()?, command, output),
    }
}

fn run_server(cli: &Cli) -> ExitCode {
    let source = match Source::here(cli) {
        Ok(source) => source,
        Err(error) => return fail(&error.into()),
    };
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return fail(&error.into()),
    };
    let ready_json = cli.serve.ready_json;
    if !cli.serve.daemonize {
        return serve(config, &source, Report::Foreground { ready_json });
    }
    match daemonize::fork() {
        Ok(Side::Child(reporter)) => serve(config, &source, Report::Background(reporter)),
        Ok(Side::Parent(Ok(address))) => {
            if ready_json {
                output::ready(&address);
            }
            ExitCode::SUCCESS
        }
        Ok(Side::Parent(Err(failed))) => {
            output::complain(&failed.reason);
            ExitCode::from(failed.exit_code)
        }
        Err(error) => fail(&error.into()),
    }
}

/// Where the configuration comes from, at the start and at each reload.
struct Source {
    cli: Cli,
    /// Where relative paths begin: a daemon leaves it.
    folder: PathBuf,
}

impl Source {
    fn here(cli: &Cli) -> io::Result<Source> {
        Ok(Source { cli: cli.clone(), folder: env::current_dir()? })
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load_from(&self.cli, &self.folder)
    }
}

/// Takes the configuration anew: all of it, or if anything in it is wrong, nothing.
fn reload(server: &Server, source: &Source) {
    notify_all(&reloading());
    match source.load() {
        Ok(config) => {
            let reloaded = server.reload(config);
            if reloaded.needs_restart.is_empty() {
                tracing::info!("the configuration was reloaded: {reloaded}");
            } else {
                tracing::warn!("the configuration was reloaded: {reloaded}");
            }
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not reloaded: all stays as it was");
        }
    }
    notify(NotifyState::Ready);
}

/// What systemd wants to be told before a reload.
fn reloading() -> Vec<NotifyState<'static>> {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    states
}

fn serve(config: Config, source: &Source, report: Report) -> ExitCode {
    let _log = logging::start(config.log_dir.as_deref());
    process::set_limits_of_daemon();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return start_failed(report, &error.into()),
    };
    runtime.block_on(async {
        // Before anything can be told to stop.
        let (mut terminate, mut interrupt, mut hangup) = match signals() {
            Ok(signals) => signals,
            Err(error) => return start_failed(report, &error.into()),
        };
        let data_dir = config.data_dir.clone();
        let mut server = match Server::start(config).await {
            Ok(server) => server,
            Err(error) => return start_failed(report, &error.into()),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %data_dir.display(),
            address = %server.address(),
            "the registry serves"
        );
        match report {
            Report::Foreground { ready_json: true } => output::ready(&server.address()),
            Report::Foreground { ready_json: false } => {}
            Report::Background(reporter) => reporter.ready(&server.address()),
        }
        notify(NotifyState::Ready);
        let mut alive = time::interval(watchdog_interval());
        let mut answers = None;
        let exit_code = loop {
            tokio::select! {
                _ = terminate.recv() => break ExitCode::SUCCESS,
                _ = interrupt.recv() => break ExitCode::SUCCESS,
                _ = hangup.recv() => reload(&server, source),
                // A registry whose disk hangs is not alive, whatever else it does.
                _ = alive.tick() => {
                    if answers.replace(server.store_answers()) != answers {
                        notify(NotifyState::Watchdog);
                    }
                }
                () = server.failed() => break ExitCode::from(Code::Internal.exit_code()),
            }
        };
        notify(NotifyState::Stopping);
        tracing::info!("stopping");
        server.stop().await;
        exit_code
    })
}

type Signals = (Signal, Signal, Signal);

fn signals() -> io::Result<Signals> {
    Ok((
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ))
}

/// Twice as often as systemd wants to hear from us; without a watchdog hardly ever.
fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled()
        .map_or(Duration::from_secs(3600), |limit| limit / 2)
        .max(Duration::from_millis(1))
}

fn notify(state: NotifyState<'_>) {
    notify_all(&[state]);
}

/// Without systemd there is nobody to tell.
fn notify_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

fn start_failed(report: Report, error: &RunError) -> ExitCode {
    tracing::error!(%error, "the registry does not start");
    match report {
        Report::Foreground { .. } => fail(error),
        Report::Background(reporter) => {
            reporter.failed(error.exit_code(), &error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn fail(error: &RunError) -> ExitCode {
    output::complain(&error.to_string());
    ExitCode::from(error.exit_code())
}
