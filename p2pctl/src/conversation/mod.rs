//! A chat from request to end: `p2pctl chat USER`.
//!
//! Two connections to peerd: one streams the events about the peer, from before the request, so that
//! nothing is missed; the other asks. While the request rings, Ctrl-C ends the process, and peerd withdraws
//! the request.
//!
//! On a terminal a line is durable here before the next is taken, and one that is not delivered within
//! three seconds is said to wait. With stdin piped each line is delivered before the next is sent, and the first
//! that fails ends the chat and decides the exit code.

mod screen;

use std::{collections::VecDeque, pin::pin, time::Duration};

use p2pchat_host::duration;
use peerd_proto::{
    control::{self, ChatAnswer, ChatState, EventKind, Target, WaitUntil},
    wire::MessageId,
};
use registryd_proto::{Code, Username};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    client::{Connection, EventLine, Notice},
    command::send,
    context::{Context, GRACE, within},
    conversation::screen::Screen,
    error::Error,
    exit::Exit,
};

/// After how long a typed line that is not delivered is said to wait.
const LATE: Duration = Duration::from_secs(3);

/// How many earlier messages a terminal shows.
const HISTORY: u32 = 10;

/// Opens a chat with `peer`, carries the conversation on, ends it.
///
/// # Errors
/// [`Error`]; [`Error::NoChat`] where the peer says no, is busy or does not answer.
pub async fn run(context: &mut Context<'_>, peer: Username, ring: Duration) -> Result<Exit, Error> {
    let (mut calls, events) = within(context.timeout(), connect(context, &peer)).await?;
    context.output.remark(&format!("* ringing {peer}… Ctrl-C withdraws"));
    let limit = context.global.timeout.unwrap_or(ring.saturating_add(GRACE));
    let answer = within(limit, open(&mut calls, &peer, ring)).await?;
    if let Exit::Code(code) = outcome(&answer) {
        return Err(Error::NoChat { peer, code });
    }
    context.output.remark(&format!("* chat with {peer}; /quit or Ctrl-D ends it"));
    let terminal = Screen::is_wanted(context);
    let mut conversation = Conversation { peer, calls, events, view: View::default() };
    if terminal {
        conversation.history(context).await?;
        conversation.on_terminal(Screen::editor()?, context).await
    } else {
        conversation.on_pipe(Screen::pipe(), context).await
    }
}

/// What the answer to a request means as an exit code.
pub fn outcome(answer: &ChatAnswer) -> Exit {
    match answer.state {
        ChatState::Active | ChatState::Allowed => Exit::Done,
        ChatState::Pending | ChatState::TimedOut => Exit::Code(Code::TimedOut),
        ChatState::Interrupted => Exit::Code(Code::PeerOffline),
        ChatState::Rejected | ChatState::Ended => Exit::Code(Code::Rejected),
        ChatState::Busy => Exit::Code(Code::Busy),
    }
}

/// The connection that asks, and the one that listens from now on.
async fn connect(
    context: &Context<'_>,
    peer: &Username,
) -> Result<(Connection, Connection), Error> {
    let mut events = context.connect().await?;
    let listen = control::Listen { from: Some(peer.clone()), ..Default::default() };
    events.call(listen).await?;
    Ok((context.connect().await?, events))
}

/// Accepts the peer's request if there is one, else asks.
async fn open(
    calls: &mut Connection,
    peer: &Username,
    ring: Duration,
) -> Result<ChatAnswer, Error> {
    let requests = calls.call(control::Requests {}).await?.requests;
    if requests.iter().any(|request| request.from == *peer) {
        match calls.call(control::Accept { username: peer.clone() }).await.map_err(Error::from) {
            Ok(answer) if answer.state == ChatState::Active => return Ok(answer),
            // Messages alone waited, or the request was withdrawn in between.
            Ok(_) => {}
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let ring_ms = Some(u32::try_from(ring.as_millis()).unwrap_or(u32::MAX));
    Ok(calls.call(control::Chat { username: peer.clone(), ring_ms }).await?)
}

struct Conversation {
    peer: Username,
    calls: Connection,
    events: Connection,
    view: View,
}

/// What the user knows of the conversation.
#[derive(Default)]
struct View {
    /// Lines on their way, in the order in which they were typed.
    waiting: VecDeque<Waiting>,
    /// The highest number of a message that the history has shown.
    shown: u64,
    interrupted: bool,
    /// Whether an end of a chat with the peer was heard; maybe that of an earlier one.
    ended: bool,
}

struct Waiting {
    id: MessageId,
    since: Instant,
    /// Whether the user was told that it waits.
    told: bool,
}

impl Conversation {
    async fn history(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let target = Target::User(self.peer.clone());
        let verb = control::History { target, limit: Some(HISTORY), search: None, before: None };
        let calls = &mut self.calls;
        let answer = within(context.timeout(), async { Ok(calls.call(verb).await?) }).await?;
        for message in answer.messages {
            context.output.answer(&message)?;
            self.view.shown = self.view.shown.max(message.n.unwrap_or(0));
        }
        Ok(())
    }

    async fn on_terminal(
        mut self,
        mut screen: Screen,
        context: &mut Context<'_>,
    ) -> Result<Exit, Error> {
        // A window that is closed ends the chat: else it would hold both slots, and nobody would be there.
        let mut hangup = signal(SignalKind::hangup()).map_err(Error::Terminal)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Terminal)?;
        let over = loop {
            if self.is_over(context).await? {
                break true;
            }
            let late = self.view.waiting.iter().find(|w| !w.told).map(|w| w.since + LATE);
            tokio::select! {
                line = screen.line() => match line? {
                    Some(line) if line.trim() == "/quit" => break false,
                    Some(line) if line.is_empty() => {}
                    Some(line) => self.type_line(line, &mut screen, context).await?,
                    None => break false,
                },
                _ = hangup.recv() => break false,
                _ = terminate.recv() => break false,
                notice = self.events.notice() => self.view.hear(notice?, &mut screen, context)?,
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.view.tell_late(&mut screen, context)?;
                }
            }
        };
        let last = if over {
            format!("{} ended the chat", self.peer)
        } else {
            self.end(context).await?;
            format!("chat with {} ended", self.peer)
        };
        screen.close(&last, context);
        Ok(Exit::Done)
    }

    /// Makes a typed line durable; whether it arrives is told by an event.
    async fn type_line(
        &mut self,
        body: String,
        screen: &mut Screen,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        let verb = self.message(body, WaitUntil::Queued, context);
        let limit = context.timeout().saturating_add(GRACE);
        match within(limit, send::deliver(&mut self.calls, verb)).await {
            Ok(sent) => {
                self.view.waiting.push_back(Waiting {
                    id: sent.id,
                    since: Instant::now(),
                    told: false,
                });
                Ok(())
            }
            Err(error) if error.code() == Code::PeerdNotRunning => Err(error),
            Err(error) => screen.remark(&format!("not sent: {}", error.report().message), context),
        }
    }

    async fn on_pipe(
        mut self,
        mut screen: Screen,
        context: &mut Context<'_>,
    ) -> Result<Exit, Error> {
        let mut number = 0;
        let result = loop {
            tokio::select! {
                line = screen.line() => {
                    number += 1;
                    let sent = match line {
                        Ok(None) => break Ok(Exit::Done),
                        Ok(Some(line)) if line.is_empty() => Ok(()),
                        Ok(Some(line)) => self.pipe_line(line, &mut screen, context).await,
                        Err(error) => Err(error),
                    };
                    if let Err(source) = sent {
                        break Err(Error::Line { line: number, source: Box::new(source) });
                    }
                }
                notice = self.events.notice() => self.view.hear(notice?, &mut screen, context)?,
            }
        };
        // The first failure is the answer; one to end the chat comes after it.
        let ended = match self.is_over(context).await {
            Ok(true) => Ok(()),
            Ok(false) => self.end(context).await,
            Err(error) => Err(error),
        };
        result.and_then(|exit| ended.map(|()| exit))
    }

    /// Sends a line and waits until the peer has it, while events go on.
    async fn pipe_line(
        &mut self,
        body: String,
        screen: &mut Screen,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        if self.is_over(context).await? {
            return Err(Error::NoChat { peer: self.peer.clone(), code: Code::Rejected });
        }
        let verb = self.message(body, WaitUntil::Delivered, context);
        let limit = context.timeout().saturating_add(GRACE);
        let mut delivery = pin!(within(limit, send::deliver(&mut self.calls, verb)));
        let sent = loop {
            tokio::select! {
                sent = &mut delivery => break sent?,
                notice = self.events.notice() => self.view.hear(notice?, screen, context)?,
            }
        };
        if context.output.is_json() { screen.show(&sent, context) } else { Ok(()) }
    }

    fn message(&self, body: String, wait: WaitUntil, context: &Context<'_>) -> control::Send {
        control::Send {
            to: Target::User(self.peer.clone()),
            body,
            wait,
            timeout_ms: Some(duration::as_ms(context.timeout())),
            id: None,
            expires_ms: None,
        }
    }

    /// Whether the peer ended the chat. peerd knows: the end that was heard may be that of an earlier chat,
    /// or of the request that lost where both asked at once.
    async fn is_over(&mut self, context: &Context<'_>) -> Result<bool, Error> {
        if self.view.ended {
            let calls = &mut self.calls;
            let status =
                within(context.timeout(), async { Ok(calls.call(control::Status {}).await?) });
            let open = [ChatState::Active, ChatState::Interrupted];
            let chats = status.await?.chats;
            self.view.ended =
                !chats.iter().any(|chat| chat.peer == self.peer && open.contains(&chat.state));
        }
        Ok(self.view.ended)
    }

    /// Ends the chat; that it is over already is no failure.
    async fn end(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let verb = control::End { username: self.peer.clone() };
        let calls = &mut self.calls;
        match within(context.timeout(), async { Ok(calls.call(verb).await?) }).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Code::NotFound | Code::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl View {
    fn hear(
        &mut self,
        notice: Notice,
        screen: &mut Screen,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        let event = match notice {
            Notice::Event(event) => event,
            Notice::Lagged { resume } => {
                let text = format!("events before {resume} were missed: see p2pctl history");
                return screen.remark(&text, context);
            }
        };
        if self.is_shown(&event) { screen.show(&event, context) } else { Ok(()) }
    }

    /// Takes note of an event, and says whether the user sees it.
    fn is_shown(&mut self, event: &EventLine) -> bool {
        match event.known() {
            Some(EventKind::Message { room: None, .. }) => event.n > Some(self.shown),
            Some(EventKind::Delivered { id, room: None, .. }) => self.settle(&id),
            Some(EventKind::Failed { id, room: None, .. }) => {
                self.settle(&id);
                true
            }
            Some(EventKind::ChatEnded { .. }) => {
                self.ended = true;
                false
            }
            Some(EventKind::ChatInterrupted { .. }) => {
                self.interrupted = true;
                true
            }
            Some(EventKind::ChatActive { .. }) => std::mem::take(&mut self.interrupted),
            Some(EventKind::KeyChanged { .. } | EventKind::ForkFound { room: None, .. }) => true,
            _ => false,
        }
    }

    /// A line is no longer on its way; whether the user was told that it waits.
    fn settle(&mut self, id: &MessageId) -> bool {
        let at = self.waiting.iter().position(|waiting| waiting.id == *id);
        at.and_then(|at| self.waiting.remove(at)).is_some_and(|waiting| waiting.told)
    }

    fn tell_late(&mut self, screen: &mut Screen, context: &mut Context<'_>) -> Result<(), Error> {
        for waiting in &mut self.waiting {
            if !waiting.told && waiting.since.elapsed() >= LATE {
                waiting.told = true;
                screen.remark(&format!("queued, not delivered yet: {}", waiting.id), context)?;
            }
        }
        Ok(())
    }
}
