//! The way between devices and the registry: requests in order over connections that break, HELLO over
//! datagrams that are lost, doubled, overtaken and repeated.
//!
//! A request that is lost on its way, or whose reply is, ends as unreachable: whether the registry carried it
//! out is not known.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use peerd::core::{CallId, Input, input::CallFailure};
use rand::RngExt as _;
use registryd_proto::{Answer, Request, SessionGrant, hello::Datagram};

use super::{
    conditions::pick,
    hello::{Heard, Said, Speaker},
    machine::{Event, INDEX, Machine},
};
use crate::counts::Fault;

/// The first port of HELLO sockets.
pub(super) const HELLO_PORT_MIN: u16 = 20_000;
/// Datagrams that an eavesdropper keeps.
const OVERHEARD_MAX: usize = 64;

/// What a device asks the registry: in order, over one connection.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last_arrival_ms: u64,
    last_report_ms: u64,
}

/// A request on its way.
pub(super) struct Call {
    node: usize,
    start: u64,
    from: IpAddr,
    call: CallId,
    /// `None`: asks for the key alone.
    request: Option<Request>,
    reply_is_lost: bool,
}

/// A reply on its way.
pub(super) struct Answered {
    node: usize,
    start: u64,
    index_start: u64,
    call: CallId,
    /// `None`: the key alone was asked for; `Err`: no reply.
    reply: Result<Option<Answer>, CallFailure>,
}

/// Where the eavesdropper is: no device ever has this address.
pub(in crate::whole) const ELSEWHERE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)), 9);

impl Machine {
    pub(super) fn ask(&mut self, node: usize, call: CallId, request: Option<Request>) {
        let lost = self.is_lost() || !self.net.reaches(node, INDEX);
        let reply_is_lost = self.is_lost();
        let way_ms = self.delay();
        let device = &mut self.devices[node];
        let (start, from) = (device.starts, device.ip);
        if lost {
            self.counts.count(Fault::LostCall);
            let reply = Err(CallFailure::Unreachable);
            return self.report_call(node, start, call, reply, true);
        }
        let at_ms = device.asked.last_arrival_ms.max(self.now_ms + way_ms);
        device.asked.last_arrival_ms = at_ms;
        let call = Call { node, start, from, call, request, reply_is_lost };
        self.push_at(at_ms, Event::Call(Box::new(call)));
    }

    pub(super) fn called(&mut self, call: Call) {
        let Call { node, start, from, call, request, reply_is_lost } = call;
        // What a device sent before its last start has died with its connection.
        if self.devices[node].starts != start {
            return;
        }
        let now = self.index_now();
        let key = self.devices[node].keys.peer.public();
        let reply = match request {
            _ if !self.index.is_up() => Err(CallFailure::Unreachable),
            None => Ok(None),
            Some(request) => match self.index.request(&key, from, request, now) {
                Some(answer) => Ok(Some(answer)),
                None => Err(CallFailure::Unreachable),
            },
        };
        self.settle_index();
        let cut = reply_is_lost || !self.net.reaches(INDEX, node);
        if cut {
            self.counts.count(Fault::LostCall);
        }
        let reply = if cut { Err(CallFailure::Unreachable) } else { reply };
        self.report_call(node, start, call, reply, cut);
    }

    /// Reports in order. What is lost is noticed late, unless the connection breaks.
    fn report_call(
        &mut self,
        node: usize,
        start: u64,
        call: CallId,
        reply: Result<Option<Answer>, CallFailure>,
        lost: bool,
    ) {
        let wait_ms = match lost {
            true => pick(&mut self.rng, &[50, 1_000, 5_000, 20_000]),
            false => self.delay(),
        };
        if self.devices[node].starts != start {
            return;
        }
        let index_start = self.index.starts;
        let asked = &mut self.devices[node].asked;
        let at_ms = asked.last_report_ms.max(self.now_ms + wait_ms);
        asked.last_report_ms = at_ms;
        let answered = Answered { node, start, index_start, call, reply };
        self.push_at(at_ms, Event::Answer(Box::new(answered)));
    }

    pub(super) fn answered(&mut self, answered: Answered) {
        let Answered { node, start, index_start, call, reply } = answered;
        let key = self.index.key();
        // A registry that crashed took its connections with it.
        let reply = match reply {
            Ok(_) if self.index.starts != index_start || !self.index.is_up() => {
                Err(CallFailure::Unreachable)
            }
            reply => reply,
        };
        let input = match reply {
            Ok(None) => Input::Probed { call, result: Ok(key) },
            Ok(Some(Answer::Ok(reply))) => Input::Registry { call, result: Ok((key, reply)) },
            Ok(Some(Answer::Error(failure))) => {
                Input::Registry { call, result: Err(CallFailure::Failed(failure)) }
            }
            Err(failure) => Input::Registry { call, result: Err(failure) },
        };
        self.input(node, start, input);
    }

    pub(super) fn start_hello(&mut self, node: usize, grant: &SessionGrant) {
        self.next_hello_port = self.next_hello_port.checked_add(1).unwrap_or(HELLO_PORT_MIN);
        let port = self.next_hello_port;
        self.devices[node].hello = Some(Speaker::new(grant, port, self.now_ms));
        self.plan_hello(node, self.now_ms);
    }

    /// The next HELLO of a device: a plan before it is void.
    fn plan_hello(&mut self, node: usize, at_ms: u64) {
        let device = &mut self.devices[node];
        device.hellos += 1;
        let (start, hello) = (device.starts, device.hellos);
        self.push_at(at_ms, Event::Hello { node, start, hello });
    }

    pub(super) fn hello_due(&mut self, node: usize, start: u64, hello: u64) {
        let (now_ms, device) = (self.now_ms, &mut self.devices[node]);
        if device.starts != start || device.hellos != hello {
            return;
        }
        let ip = device.ip;
        let Some(speaker) = &mut device.hello else { return };
        let Said { datagram, silent } = speaker.say(now_ms);
        let (from, due_ms) = (SocketAddr::new(ip, speaker.port), speaker.next_due());
        if let Some(bytes) = datagram {
            self.say_hello(node, from, bytes);
        }
        if let Some(input) = silent {
            self.input(node, start, Input::Hello(input));
        }
        if self.devices[node].starts == start && self.devices[node].hellos == hello {
            self.plan_hello(node, due_ms.max(now_ms + 1));
        }
    }

    fn say_hello(&mut self, node: usize, from: SocketAddr, bytes: Datagram) {
        if !self.cuts.contains(&(node, INDEX)) {
            for delay_ms in self.ways() {
                self.push(delay_ms, Event::ToIndex { from, bytes });
            }
        }
    }

    /// A datagram arrives at the registry. What an eavesdropper keeps is old from then on; one that has not
    /// arrived yet is as good as a late one, wherever it comes from.
    pub(super) fn heard_by_index(&mut self, from: SocketAddr, bytes: Datagram) {
        let now = self.index_now();
        self.index.datagram(from, &bytes, now);
        if self.overheard.len() < OVERHEARD_MAX {
            self.overheard.push((from, bytes));
        } else {
            let at = self.rng.random_range(0..OVERHEARD_MAX);
            self.overheard[at] = (from, bytes);
        }
        self.settle_index();
    }

    /// An eavesdropper sends an old datagram again, from where it came or from elsewhere.
    pub fn replay(&mut self, which: usize, elsewhere: bool) {
        if self.overheard.is_empty() {
            return;
        }
        self.counts.count(Fault::OldDatagram);
        let (mut from, bytes) = self.overheard[which % self.overheard.len()];
        if elsewhere {
            from = ELSEWHERE;
        }
        self.push(1, Event::ToIndex { from, bytes });
    }

    /// An eavesdropper sends all that it kept again, from its own address.
    pub fn replay_all(&mut self) {
        for which in 0..self.overheard.len() {
            self.replay(which, true);
        }
    }

    /// When a datagram arrives: never, once or twice.
    fn ways(&mut self) -> Vec<u64> {
        if self.is_lost() {
            self.counts.count(Fault::LostDatagram);
            return Vec::new();
        }
        let twice = self.rng.random_range(0..100) < self.conditions.duplicates;
        (0..1 + u8::from(twice)).map(|_| self.delay()).collect()
    }

    pub(super) fn settle_index(&mut self) {
        let now = self.index_now();
        let (datagrams, wake_ms) = self.index.settle(now);
        for (to, bytes) in datagrams {
            let node = self.devices.iter().position(|device| device.ip == to.ip());
            if node.is_none_or(|node| self.cuts.contains(&(INDEX, node))) {
                continue;
            }
            for delay_ms in self.ways() {
                self.push(delay_ms, Event::FromIndex { to, bytes });
            }
        }
        let Some(at_ms) = wake_ms else { return self.index_wake_ms = None };
        if self.index_wake_ms.is_none_or(|planned| at_ms < planned || planned < self.now_ms) {
            let (start, at_ms) = (self.index.starts, at_ms.max(self.now_ms + 1));
            self.index_wake_ms = Some(at_ms);
            self.push_at(at_ms, Event::IndexWake { start });
        }
    }

    /// A datagram arrives at an address: at whoever has it and listens there.
    pub(super) fn heard(&mut self, to: SocketAddr, bytes: &Datagram) {
        let now_ms = self.now_ms;
        let at = |d: &super::machine::Device| {
            d.ip == to.ip() && d.hello.as_ref().is_some_and(|hello| hello.port == to.port())
        };
        let Some(node) = self.devices.iter().position(at) else { return };
        let device = &mut self.devices[node];
        let start = device.starts;
        let Some(speaker) = &mut device.hello else { return };
        let Heard { input, due_ms } = speaker.hear(bytes, now_ms);
        if let Some(at_ms) = due_ms {
            self.plan_hello(node, at_ms.max(now_ms + 1));
        }
        if let Some(input) = input {
            self.input(node, start, Input::Hello(input));
        }
    }
}
