//! With a terminal: the newcomer is alice, bob is a bot.

use std::io::{Write as _, stdout};

use harness::{DEADLINE, Listener, Peer, Registry, eventually};
use serde_json::Value;

use crate::DemoError;

/// What the newcomer reads first.
const WELCOME: &str = "\
A registry and two users now run on this machine, in a temporary folder. You are alice.
bob is a bot: a loop over `p2pctl listen` that answers with `p2pctl send`.
Type a line and press Enter; Ctrl-D ends the conversation and removes everything.

$ p2pctl chat bob
";

/// Runs the conversation until its end.
///
/// # Errors
/// [`DemoError`].
pub(crate) fn run() -> Result<(), DemoError> {
    writeln!(stdout(), "building, then starting registryd and two peerd …")?;
    let registry = Registry::start();
    let [alice, bob] = ["alice", "bob"].map(|name| Peer::online(name, &registry));
    let ears = bob.listen(&["--after", "0"]);
    write!(stdout(), "{WELCOME}")?;
    std::thread::scope(|scope| {
        let bot = scope.spawn(|| answer_until_the_end(&bob, &ears));
        let status =
            alice.bare_ctl().arg("--socket").arg(alice.socket()).args(["chat", "bob"]).status();
        // Ends the bot: it waits for the end of the chat.
        let _ = alice.ctl(&["end", "bob"]);
        let _ = bob.ctl(&["end", "alice"]);
        let _ = bot.join();
        status.map(|_| ()).map_err(DemoError::Run)
    })?;
    writeln!(stdout(), "\nBye. The daemons are stopped and their folders removed.")?;
    Ok(())
}

/// The bot: accepts, greets, answers each message, until the chat is over.
fn answer_until_the_end(bob: &Peer, ears: &Listener) {
    let mut next = 0;
    loop {
        let event =
            eventually("the next event", 100_000 * DEADLINE, || ears.events().get(next).cloned());
        next += 1;
        match event["type"].as_str() {
            Some("chat_request") => {
                bob.ctl(&["accept", "alice"]);
                say(bob, "Hello alice! I am a shell loop. Ask me for `help`, `time` or anything.");
            }
            Some("message") => say(bob, &reply(&event)),
            Some("chat_ended" | "chat_rejected") => return,
            _ => {}
        }
    }
}

fn say(bob: &Peer, text: &str) {
    bob.ctl(&["send", "alice", text, "--wait", "queued"]);
}

fn reply(event: &Value) -> String {
    let text = event["body"].as_str().unwrap_or_default().trim();
    match text {
        "help" => "I know `help`, `time`, `who` and `bye`; the rest I repeat.".to_owned(),
        "time" => {
            format!("peerd recorded your message at {}.", event["time"].as_str().unwrap_or("?"))
        }
        "who" => "bob, with a key of my own: try `p2pctl verify bob` in a real setup.".to_owned(),
        "bye" => "Bye! Ctrl-D ends the conversation on your side.".to_owned(),
        other => {
            format!("You said \"{other}\". It was on my disk before your line was acknowledged.")
        }
    }
}
