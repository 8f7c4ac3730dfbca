//! Values that name something on this machine: addresses and folders.

use std::{
    net::{Ipv6Addr, ToSocketAddrs as _},
    path::Path,
};

use rustix::fs::{Access, access};

use super::{Config, problem::Problem, read};
use crate::metrics::MetricsAddress;

/// Whether a text is `HOST:PORT` by its form.
pub(super) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_one = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', ']', ' ']),
    };
    host_is_one && port.parse::<u16>().is_ok()
}

/// What of a configuration cannot be used on this machine.
pub(super) fn problems(config: &Config, text: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |key: &str, what: Result<(), String>| {
        if let Err(what) = what {
            found.push(Problem::at(text, read::place(text, key), format!("{key}: {what}")));
        }
    };
    add("listen", resolves(&config.listen));
    add("data_dir", is_usable(&config.data_dir));
    if let Some(log_dir) = &config.log_dir {
        add("log_dir", is_usable(log_dir));
    }
    if let Some(MetricsAddress::Unix(path)) = &config.metrics.listen
        && let Some(folder) = path.parent()
    {
        add("metrics.listen", exists(folder));
    }
    found
}

fn resolves(listen: &str) -> Result<(), String> {
    match listen.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("{listen} has no address")),
        Err(error) => Err(format!("{listen} has no address: {error}")),
    }
}

/// Whether a folder is there and can be written to, or can be made.
fn is_usable(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(format!("{shown} cannot be made: {} is no folder", there.display()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("{shown} cannot be used: {}: {error}", there.display()))
}

fn exists(folder: &Path) -> Result<(), String> {
    if folder.is_dir() { Ok(()) } else { Err(format!("there is no folder {}", folder.display())) }
}
