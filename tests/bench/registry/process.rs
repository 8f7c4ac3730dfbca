//! What the system says of a process: processor time, memory, and on which cores it may run.

use std::{fs, sync::OnceLock};

use rustix::{
    param::clock_ticks_per_second,
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// A process that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that was resident.
    pub(crate) peak: u64,
}

/// Which part of the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The last one: the generator's.
    Last,
    /// All but the last: for what is measured.
    Others,
    /// All.
    All,
}

impl Process {
    /// By its id.
    pub(crate) fn of(id: u32) -> Self {
        Self(id)
    }

    /// Processor time so far in seconds, of user and system; in steps of a hundredth as a rule. 0 if the
    /// process is gone.
    #[expect(clippy::cast_precision_loss, reason = "small numbers of ticks")]
    pub(crate) fn cpu_seconds(self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // Behind the name, which may hold anything, the first field is the third.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            behind.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        ticks as f64 / clock_ticks_per_second() as f64
    }

    /// Its memory; zeros if it is gone.
    pub(crate) fn memory(self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let kilobytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Memory {
            resident: kilobytes("VmRSS:").unwrap_or(0) * 1024,
            peak: kilobytes("VmHWM:").unwrap_or(0) * 1024,
        }
    }

    /// Lets all its threads run on these cores alone. Threads made later follow those that make them.
    pub(crate) fn run_on(self, cores: Cores) {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        for task in tasks {
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.and_then(Pid::from_raw) {
                place(Some(id), cores);
            }
        }
    }
}

/// Lets the thread that calls run on these cores alone.
pub(crate) fn run_here_on(cores: Cores) {
    place(None, cores);
}

/// A thread that is gone, and a system that does not want it, are left alone: figures are then less even.
fn place(thread: Option<Pid>, cores: Cores) {
    static WHOLE: OnceLock<Vec<usize>> = OnceLock::new();
    let all = WHOLE.get_or_init(|| {
        // At the first call nothing has been bound yet.
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
    });
    let Some((last, others)) = all.split_last() else { return };
    let wanted: &[usize] = match cores {
        Cores::All => all,
        _ if others.is_empty() => all,
        Cores::Last => std::slice::from_ref(last),
        Cores::Others => others,
    };
    let mut set = CpuSet::new();
    wanted.iter().for_each(|core| set.set(*core));
    let _ = sched_setaffinity(thread, &set);
}
