//! The history checker: did a run keep the guarantees P1-P9?
//!
//! Drivers (the simulator, real users, the soak) append to a [`History`] what users called, were told and
//! saw; [`check()`] decides in one pass over each kind of record, in time and memory that grow with their
//! number alone. It knows nothing of daemons, networks or disks, takes no time and draws no chance: the same
//! history gives the same answer, so a failing one is kept as JSON lines and checked again.
//!
//! What is decided:
//!
//! | violation | guarantee |
//! |---|---|
//! | [`Violation::Lost`], [`Violation::HalfSent`] | P1: what was queued reaches every recipient who stays; what may have happened reaches all of them or none |
//! | [`Violation::Duplicated`], [`Violation::EndToldAgain`] | P2: shown once |
//! | [`Violation::OutOfOrder`], [`Violation::TwoOrders`] | P3: each author's order, the same for all |
//! | [`Violation::Invented`], [`Violation::Altered`], [`Violation::RefusedButShown`], [`Violation::GivenUpButShown`] | P4: shown ⇒ sent so |
//! | [`Violation::FalseDelivered`], [`Violation::Backwards`], [`Violation::CountBackwards`] | P5: told is durable |
//! | [`Violation::Pending`] | P6: nothing waits after healing |
//! | [`Violation::Leaked`] | P7: only members have it |
//! | [`Violation::Diverged`] | P8: members converge |
//! | [`Violation::FalseCount`], [`Violation::FalseTotal`] | P9: `k/n` is honest |
//! | [`Violation::Gap`], [`Violation::NumberBack`], [`Violation::Rewritten`] | events have durable numbers without gaps |
//! | the others | the history itself cannot be judged |
//!
//! What the end should be (P1, P6, P8) is judged only if the history says [`Record::Healed`], and only of
//! users who [`Record::Stayed`].

mod check;
mod history;
mod record;
mod summary;
mod violation;

pub use check::check;
pub use history::{History, ReadError};
pub use record::{Body, Conversation, Count, Name, Outcome, Reading, Record, Seen, State, Wait};
pub use summary::Summary;
pub use violation::{MessageRef, Violation};
