//! The checker: holds disks against the guarantees, at each commit and at the end of a run.
//!
//! A node whose disk went back to a backup has lost what its user was told since; what it lost alone is
//! nobody's fault. Such a node is excused from what it cannot keep: order across its own streams, and the
//! state of its messages from before. Everything else still holds for it and for all others.

use std::collections::{BTreeMap, BTreeSet};

use peerd::core::{
    durable::Write,
    memory::{Disk, Stored, StreamRef},
};
use peerd_proto::{
    control::{EventKind, MessageState},
    wire::{Context, Header, MessageId},
};

use crate::{
    Host, Violation,
    node::{Node, fingerprint},
    plan::Plan,
};

/// Everything that users tried to send, by its id.
pub type Ledger = BTreeMap<MessageId, Said>;

/// A message as its user meant it.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its text.
    pub text: String,
    /// Whether the user ever cancelled it, or let it expire.
    pub given_up: bool,
}

/// The epoch of an entry; 0 in a 1:1 conversation.
fn epoch_of(header: &Header) -> u64 {
    match header.context {
        Context::Room { epoch } => epoch,
        Context::Direct { .. } => 0,
    }
}

/// P5 and P7, at each commit. A message waits for no recipient who left, so only those who stayed count.
pub fn on_commit<H: Host>(
    plan: &Plan,
    nodes: &[Node<H>],
    at: usize,
    write: &Write,
) -> Option<Violation> {
    match write {
        Write::Entry { entry, .. } if entry.header().author == plan.public(at) => {
            let (me, header) = (&nodes[at], entry.header());
            let own = (plan.group(at).conversation, header.author, header.stream);
            let heads = me.disk.streams().filter(|(stream, _)| **stream != own);
            let below = header.seq.checked_sub(1).and_then(|seq| me.disk.entry(&own, seq));
            let late = heads
                .filter_map(|(_, entries)| entries.last_key_value())
                .map(|(_, stored)| stored)
                .chain(below)
                .any(|stored| stored.entry.header().lamport >= header.lamport);
            // What comes back from others after a restore was written before.
            let news = me.rollbacks == 0;
            (late && news).then(|| Violation::Lamport { author: at, id: header.id.clone() })
        }
        Write::Entry { entry, .. } if entry.body().is_some() => {
            let epoch = epoch_of(entry.header());
            let id = entry.header().id.clone();
            (!plan.may_have(at, epoch)).then_some(Violation::Leaked { at, id })
        }
        Write::Outgoing(row) if row.state == MessageState::Delivered => {
            let stream = (plan.group(at).conversation, plan.public(at), row.stream);
            let lacks = |node: &usize| {
                let stored = nodes[*node].disk.entry(&stream, row.seq);
                let stayed = (row.epoch..=plan.epoch(at)).all(|e| plan.was_member(*node, e));
                let recipient = *node != at && stayed;
                recipient
                    && nodes[*node].rollbacks == 0
                    && stored.is_none_or(|s| s.entry.body().is_none())
            };
            let lacking = plan.group(at).nodes.clone().find(lacks)?;
            Some(Violation::NotOnDisk { author: at, at: lacking, id: row.id.clone() })
        }
        _ => None,
    }
}

/// All that must hold once faults are healed and the nodes in `up` had time to talk.
pub fn at_the_end<H: Host>(
    plan: &Plan,
    nodes: &[Node<H>],
    ledger: &Ledger,
    up: &[usize],
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        shown(nodes, at, &node.disk, ledger, &mut found);
        order(at, &node.disk, &mut found);
        told(at, node, &mut found);
    }
    for group in &plan.groups {
        let here = up.iter().copied().filter(|node| group.nodes.contains(node));
        let members: Vec<usize> = here.filter(|node| plan.is_member(*node)).collect();
        for author in &members {
            kept(plan, nodes, ledger, *author, &members, &mut found);
        }
        converged(plan, nodes, &members, &mut found);
    }
    found
}

/// P2, P4, and P3 across the streams of authors that lost nothing.
fn shown<H: Host>(
    nodes: &[Node<H>],
    at: usize,
    disk: &Disk,
    ledger: &Ledger,
    found: &mut Vec<Violation>,
) {
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
    for event in disk.events() {
        if matches!(event.kind, EventKind::ForkFound { .. }) {
            found.push(Violation::Forked { at });
        }
        let Some((author, id, text)) = Plan::message(&event.kind) else { continue };
        let number = Plan::number(id);
        if !seen.insert((author, id.clone())) {
            found.push(Violation::ShownTwice { at, id: id.clone() });
        }
        if ledger.get(id).is_none_or(|said| said.text != text)
            || number.is_none_or(|(by, _)| by != author)
        {
            found.push(Violation::Forged { at, id: id.clone() });
        }
        let number = number.map_or(0, |(_, n)| n);
        let last = newest.entry(author).or_default();
        if number < *last && nodes[author].rollbacks == 0 {
            found.push(Violation::Order { at, id: id.clone() });
        }
        *last = number;
    }
}

/// What listeners were told is what the log holds, once and in its order.
fn told<H>(at: usize, node: &Node<H>, found: &mut Vec<Violation>) {
    let mut last = 0;
    for (n, print) in &node.told {
        let held = n.checked_sub(1).and_then(|n| node.disk.events().get(usize::try_from(n).ok()?));
        if *n <= last || held.is_none_or(|event| fingerprint(event) != *print) {
            found.push(Violation::Told { at, n: *n });
        }
        last = *n;
    }
}

/// P3 within each stream.
fn order(at: usize, disk: &Disk, found: &mut Vec<Violation>) {
    for (_, entries) in disk.streams() {
        let mut last = 0;
        for stored in entries.values() {
            let Some(n) = stored.shown else { continue };
            if n < last {
                found.push(Violation::Order { at, id: stored.entry.header().id.clone() });
            }
            last = n;
        }
    }
}

/// P1 and P6: every message of a member is with every other one that should have it, or was given up and
/// is with nobody.
fn kept<H: Host>(
    plan: &Plan,
    nodes: &[Node<H>],
    ledger: &Ledger,
    author: usize,
    members: &[usize],
    found: &mut Vec<Violation>,
) {
    let disk = &nodes[author].disk;
    let me = plan.public(author);
    if !disk.streams().any(|((_, by, _), _)| *by == me) && disk.outgoing().next().is_none() {
        return;
    }
    let shown: BTreeMap<usize, BTreeSet<&MessageId>> = plan
        .group(author)
        .nodes
        .clone()
        .map(|node| {
            let events = nodes[node].disk.events().iter();
            let shown = events.filter_map(|event| Plan::message(&event.kind));
            (node, shown.filter(|(by, ..)| *by == author).map(|(_, id, _)| id).collect())
        })
        .collect();
    let has_shown = |node: usize, id: &MessageId| shown[&node].contains(id);
    for ((_, by, _), entries) in disk.streams() {
        if *by != plan.public(author) {
            continue;
        }
        for Stored { entry, .. } in entries.values().filter(|s| s.entry.body().is_some()) {
            let (id, epoch) = (&entry.header().id, epoch_of(entry.header()));
            let given_up = ledger.get(id).is_some_and(|said| said.given_up);
            if nodes[author].rollbacks > 0 && given_up {
                continue;
            }
            for node in members.iter().filter(|n| **n != author && plan.was_member(**n, epoch)) {
                // Who lost it with its disk is not served again what was given up in the meantime.
                let excused = given_up && nodes[*node].rollbacks > 0;
                if !excused && !has_shown(*node, id) {
                    found.push(Violation::Lost { author, at: *node, id: id.clone() });
                }
            }
        }
    }
    let all_up =
        plan.group(author).nodes.clone().all(|n| members.contains(&n) || !plan.is_member(n));
    for row in disk.outgoing() {
        match row.state {
            MessageState::Queued if all_up => {
                found.push(Violation::Pending { author, id: row.id.clone() });
            }
            MessageState::Queued | MessageState::Delivered => {}
            _ if plan.is_direct(author)
                && nodes[author].rollbacks == 0
                && has_shown(plan.other(author), &row.id) =>
            {
                let id = row.id.clone();
                found.push(Violation::GivenUpButShown { at: plan.other(author), id });
            }
            _ => {}
        }
    }
}

/// P8: members hold the same streams equally far, unless nobody can serve the next one.
fn converged<H: Host>(
    plan: &Plan,
    nodes: &[Node<H>],
    members: &[usize],
    found: &mut Vec<Violation>,
) {
    let heads = |node: usize| -> BTreeMap<StreamRef, u64> {
        nodes[node]
            .disk
            .streams()
            .map(|(stream, entries)| (*stream, entries.len() as u64))
            .collect()
    };
    for (a, b) in members.iter().zip(members.iter().skip(1)) {
        let (left, right) = (heads(*a), heads(*b));
        for stream in left.keys().chain(right.keys()) {
            let of = |heads: &BTreeMap<StreamRef, u64>| heads.get(stream).copied().unwrap_or(0);
            let behind = if of(&left) < of(&right) { *a } else { *b };
            let next = of(&left).min(of(&right)) + 1;
            if of(&left) != of(&right) && can_be_served(plan, nodes, members, behind, stream, next)
            {
                found.push(Violation::Diverged { a: *a, b: *b, stream: stream.2 });
                break;
            }
        }
    }
}

/// Whether some member can give `node` an entry. A body that it may read and that only an author had who is
/// gone holds up that author's stream: rather that than lose it while another member may come with it.
fn can_be_served<H: Host>(
    plan: &Plan,
    nodes: &[Node<H>],
    members: &[usize],
    node: usize,
    stream: &StreamRef,
    seq: u64,
) -> bool {
    let author_is_here = members.iter().any(|member| plan.public(*member) == stream.1);
    members.iter().filter_map(|member| nodes[*member].disk.entry(stream, seq)).any(|stored| {
        let header = stored.entry.header();
        if let Some(origin) = header.origin {
            let before = (stream.0, stream.1, origin.stream);
            let held = nodes[node].disk.held(&before);
            if held < origin.seq {
                return can_be_served(plan, nodes, members, node, &before, held + 1);
            }
        }
        author_is_here
            || stored.entry.body().is_some()
            || stored.entry.is_void()
            || !plan.may_have(node, epoch_of(header))
    })
}
