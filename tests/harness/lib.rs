//! The harness: the real programs, started, driven, killed and watched by tests, the demo and the benchmarks.
//!
//! [`Registry`] and [`Peer`] are running daemons with folders of their own; [`Peer::ctl`] runs p2pctl as a
//! script would. Everything is on loopback at ports that were free, below temporary folders, with an
//! environment that holds nothing of the caller's. Guards kill what they started when they are dropped,
//! show the logs if the test failed, and fail a test that passed if any log holds a panic.
//!
//! The harness panics where a test should fail: it is called by tests and by what is run by hand, never by a
//! program that ships. It never sleeps but between two looks of [`eventually`].

mod binaries;
mod commit;
mod ctl;
mod daemon;
mod http;
mod impostor;
mod listener;
mod network;
mod peer;
pub mod preload;
mod process;
mod progress;
mod proxy;
mod pty;
mod registry;
mod rpc;
mod small_disk;
mod soak;
mod stranger;
mod swarm;
mod users;
mod wait;

pub use binaries::{Binaries, binaries};
pub use commit::commit;
pub use ctl::{Ctl, CtlOutput, Running};
pub use daemon::Daemon;
pub use http::http_get;
pub use impostor::{Impostor, Link};
pub use listener::Listener;
pub use network::{Count, Host, Network, Quality, Town, User, Weather, converge};
pub use peer::{PASSWORD, Peer, PeerOptions};
pub use process::{
    Prefix, bare, command_and_environment, descriptor_limits, has_program, kill_9, resident_bytes,
    running_as_root,
};
pub use progress::ProgressLine;
pub use proxy::Proxy;
pub use pty::Terminal;
pub use registry::{Registry, free_udp_ports};
pub use rpc::Rpc;
pub use small_disk::SmallDisk;
pub use soak::{
    Fault, FaultFigures, Progress, Sample, SoakOptions, SoakReport, signals, soak, surroundings,
};
pub use stranger::RegistryClient;
pub use swarm::Swarm;
pub use users::{Call, Chance, Ground, Judged, Recorder, TALKS_WITHIN, Users, UsersOptions};
pub use wait::{DEADLINE, Met, eventually, never};
