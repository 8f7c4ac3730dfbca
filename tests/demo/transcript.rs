//! Without a terminal: a story in real commands, each checked.

use std::io::{Write as _, stdout};

use harness::{CtlOutput, Peer, Registry, Running, free_udp_ports};

use crate::DemoError;

/// Tells the story.
///
/// # Errors
/// [`DemoError`] at the first command that does not do what it should.
pub(crate) fn run() -> Result<(), DemoError> {
    heading("A registry and three users, in temporary folders on this machine")?;
    let registry = Registry::start();
    let address = registry.address();
    let users = ["alice", "bob", "carol"].map(Peer::start);
    for user in &users {
        come_online(user, &address)?;
    }
    let [alice, bob, carol] = &users;
    step(alice, &["search", "bob"], 0, "online")?;

    heading("A chat that is accepted")?;
    let asking = ask(alice, "bob")?;
    bob.wait_for_request("alice");
    step(bob, &["requests"], 0, "alice")?;
    step(bob, &["accept", "alice"], 0, "active")?;
    answered(asking, 0, "active")?;
    step(alice, &["send", "bob", "hello bob"], 0, "")?;
    step(bob, &["send", "alice", "hi alice, loud and clear"], 0, "")?;
    step(alice, &["history", "bob"], 0, "loud and clear")?;

    heading("A third caller meets BUSY")?;
    step(carol, &["chat", "bob", "--request"], 9, "")?;
    step(alice, &["end", "bob"], 0, "")?;

    heading("A chat that is rejected")?;
    let asking = ask(carol, "bob")?;
    bob.wait_for_request("carol");
    step(bob, &["reject", "carol"], 0, "")?;
    answered(asking, 8, "")?;

    heading("A room of three")?;
    step(alice, &["create-room", "ops"], 0, "ops")?;
    step(bob, &["join-room", "ops"], 0, "ops")?;
    step(carol, &["join-room", "ops"], 0, "ops")?;
    for (who, whom) in [(alice, "bob"), (alice, "carol"), (bob, "carol")] {
        step(who, &["wait", "member", "ops", whom], 0, "")?;
    }
    step(alice, &["send", "--room", "ops", "deploying"], 0, "")?;
    step(carol, &["send", "--room", "ops", "tests are green"], 0, "")?;
    step(bob, &["history", "--room", "ops"], 0, "tests are green")?;
    step(bob, &["--json", "status"], 0, "\"session\":\"online\"")?;
    step(bob, &["logout"], 0, "")?;
    writeln!(
        stdout(),
        "\nAll as it should be. The daemons are stopped and their folders removed."
    )?;
    Ok(())
}

fn heading(text: &str) -> Result<(), DemoError> {
    writeln!(stdout(), "\n# {text}\n")?;
    Ok(())
}

fn come_online(user: &Peer, registry: &str) -> Result<(), DemoError> {
    let name = user.name();
    let password = format!("{}\n", harness::PASSWORD);
    let create = ["create-account", name, "--registry", registry, "--password-stdin"];
    show(user, &create, "")?;
    check(user.text_ctl().args(&create).stdin(password.clone()).run(), 0, name)?;
    let [peer, room] = free_udp_ports().map(|port| port.to_string());
    let login = ["login", name, "--peer-port", &peer, "--room-port", &room, "--password-stdin"];
    show(user, &login, "")?;
    check(user.text_ctl().args(&login).stdin(password).run(), 0, name)
}

/// One command: shown, run, its output shown, its exit code and a word of its output checked.
fn step(user: &Peer, args: &[&str], code: i32, text: &str) -> Result<(), DemoError> {
    show(user, args, "")?;
    check(user.text_ctl().args(args).run(), code, text)
}

/// A request that rings in the background.
fn ask(user: &Peer, whom: &str) -> Result<Running, DemoError> {
    let args = ["chat", whom, "--request"];
    show(user, &args, " &")?;
    Ok(user.text_ctl().args(&args).spawn())
}

/// What a request in the background was answered.
fn answered(asking: Running, code: i32, text: &str) -> Result<(), DemoError> {
    writeln!(stdout(), "# the request that rang:")?;
    check(asking.wait(), code, text)
}

fn show(user: &Peer, args: &[&str], end: &str) -> Result<(), DemoError> {
    let quote = |arg: &&str| match arg.contains(' ') {
        true => format!("\"{arg}\""),
        false => (*arg).to_owned(),
    };
    let line: Vec<String> = args.iter().map(quote).collect();
    writeln!(stdout(), "{}$ p2pctl {}{end}", user.name(), line.join(" "))?;
    Ok(())
}

fn check(output: CtlOutput, code: i32, text: &str) -> Result<(), DemoError> {
    let mut out = stdout();
    write!(out, "{}{}", output.stdout, output.stderr)?;
    if output.code != Some(0) {
        writeln!(out, "(exit code {})", output.code.unwrap_or(-1))?;
    }
    if output.code != Some(code) {
        let (command, stderr) = (output.shown, output.stderr);
        return Err(DemoError::Code { command, code: output.code, expected: code, stderr });
    }
    if !output.stdout.contains(text) {
        let (command, stdout) = (output.shown, output.stdout);
        return Err(DemoError::Text { command, expected: text.to_owned(), stdout });
    }
    Ok(())
}
