//! p2pctl on a terminal: a conversation while one types, a password that is not shown, text that stays text.

use std::process::Command;

use harness::{DEADLINE, Peer, Terminal, binaries, eventually, has_program};

use crate::{bodies, friends, online};

/// p2pctl on a terminal that is its controlling one, where the machine has the tool for that.
fn on_terminal(peer: &Peer, args: &[&str]) -> Terminal {
    let mut command = if has_program("setsid") {
        let mut command = Command::new("setsid");
        command.args(["-w", "-c"]).arg(&binaries().p2pctl);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", peer.home());
        command
    } else {
        peer.bare_ctl()
    };
    command.arg("--socket").arg(peer.socket()).args(args);
    Terminal::start(command)
}

#[test]
fn a_conversation_in_which_incoming_lines_do_not_break_the_one_being_typed() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let mut terminal = on_terminal(&alice, &["chat", "bob"]);
    bob.wait_for_request("alice");
    bob.ctl(&["accept", "alice"]).ok();
    bob.ctl(&["send", "alice", "are you there?"]).ok();
    terminal.wait_for("are you there?");

    terminal.press("half a li");
    terminal.wait_for("half a li");
    let before = terminal.screen().len();
    bob.ctl(&["send", "alice", "an interruption"]).ok();
    terminal.wait_for("an interruption");
    let redrawn = eventually("the line is drawn again below", DEADLINE, || {
        let screen = terminal.screen();
        let new = &screen[before..];
        let at = new.find("an interruption")?;
        new[at..].contains("half a li").then(|| new.to_owned())
    });
    assert!(redrawn.contains('\n'), "the message has a line of its own: {redrawn:?}");
    terminal.press("ne\r");
    eventually("bob gets the whole line", DEADLINE, || {
        bodies(&bob.history(&["alice"])).contains(&"half a line")
    });
    terminal.press("\u{4}");
    assert_eq!(terminal.wait(), Some(0), "the end of input ends the conversation");
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let (_registry, [bob]) = online(["bob"]);
    bob.ctl(&["logout"]).ok();
    let mut terminal = on_terminal(&bob, &["login", "bob"]);
    terminal.wait_for("assword");
    terminal.press(&format!("{}\r", harness::PASSWORD));
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.screen());
    assert!(!terminal.screen().contains(harness::PASSWORD), "{}", terminal.screen());
    assert_eq!(bob.status()["session"], "online");
}

#[test]
fn nothing_that_a_peer_wrote_drives_the_terminal() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let hostile =
        "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}txt.exe\r\nalice: forged\u{8}\u{0}x";
    let call = alice.ctl_with().args(&["send", "bob", "-"]).stdin(hostile);
    call.run().ok();
    let mut terminal = on_terminal(&bob, &["--color", "never", "history", "alice"]);
    terminal.wait_for("txt.exe");
    assert_eq!(terminal.wait(), Some(0));
    let screen = terminal.screen();
    for c in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{8}', '\u{0}'] {
        assert!(!screen.contains(c), "{c:?} reached the terminal: {screen:?}");
    }
    let forged = screen.lines().any(|line| line.trim_start().starts_with("alice: forged"));
    assert!(!forged, "a message cannot look like another: {screen:?}");
}
