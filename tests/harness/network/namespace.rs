//! Network namespaces of the kernel, by the program `ip`: made, entered, moved and removed.
//!
//! Names hold the id of the process that made them, so that what a killed process left is known and removed
//! by the next one. Nothing is ever configured outside the namespaces.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::process::Prefix;

/// Where `ip netns` keeps what a namespace has of its own in the place of `/etc`.
const ETC: &str = "/etc/netns";
/// Where `ip netns` keeps the namespaces.
const RUN: &str = "/run/netns";
/// Before the id of the process.
const TAG: &str = "p2pt";
/// The name of the device inside.
const DEVICE: &str = "net0";

/// A namespace; dropped, it is removed, and with it what lies in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty one, with a loopback of its own. The first call removes what dead processes left.
    ///
    /// # Panics
    /// If the system refuses.
    pub(super) fn new() -> Self {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let name = format!("{TAG}{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = Self { name };
        fs::create_dir_all(namespace.etc()).expect("a folder below /etc");
        for file in ["hosts", "resolv.conf"] {
            fs::write(namespace.etc().join(file), "").expect("our own folder");
        }
        ip(&["netns", "add", &namespace.name], "");
        namespace.inside("link set lo up\n");
        namespace
    }

    /// A name for a device that is about to be moved in: unique on the machine while it is outside.
    pub(super) fn device_name(&self) -> String {
        self.name.clone()
    }

    /// Takes a device in, with one address, and sends everything that is not this machine through it.
    pub(super) fn take(&self, device: &str, address: Ipv4Addr) {
        ip(&["link", "set", device, "netns", &self.name], "");
        // The kernel's own talk over IPv6 would be counted as somebody's.
        let quiet = format!("echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        let mut shell = self.prefix().command(Path::new("/bin/sh"));
        let status = shell.args(["-c", &quiet]).status();
        assert!(status.expect("a shell").success(), "IPv6 cannot be switched off");
        self.inside(&format!(
            "link set {device} name {DEVICE}\n\
             addr add {address}/32 dev {DEVICE}\n\
             link set {DEVICE} up\n\
             route add default dev {DEVICE}\n"
        ));
    }

    /// Another address in the place of the present one, with a moment without any, as when a machine is
    /// carried from one network to another.
    pub(super) fn readdress(&self, old: Ipv4Addr, new: Ipv4Addr) {
        self.inside(&format!(
            "link set {DEVICE} down\n\
             addr del {old}/32 dev {DEVICE}\n\
             addr add {new}/32 dev {DEVICE}\n\
             link set {DEVICE} up\n\
             route add default dev {DEVICE}\n"
        ));
    }

    /// Asks this name server for what `hosts` does not hold. In place: the file is bound into processes.
    pub(super) fn set_name_server(&self, server: Ipv4Addr) {
        let text = format!("nameserver {server}\noptions timeout:5 attempts:2\n");
        fs::write(self.etc().join("resolv.conf"), text).expect("our own file");
    }

    /// What `/etc/hosts` holds inside, also for processes that run.
    pub(super) fn set_hosts(&self, lines: &str) {
        let text = format!("127.0.0.1 localhost\n{lines}");
        fs::write(self.etc().join("hosts"), text).expect("our own file");
    }

    /// The command line that runs another one inside.
    pub(super) fn prefix(&self) -> Prefix {
        Prefix::new(&["ip", "netns", "exec", &self.name])
    }

    fn etc(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }

    fn inside(&self, commands: &str) {
        ip(&["-n", &self.name, "-batch", "-"], commands);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what processes that are gone have left.
fn sweep() {
    let names = [RUN, ETC].iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        if maker(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

/// The id of the process that made a namespace, if it is one of ours.
fn maker(name: &str) -> Option<&str> {
    let (pid, _) = name.strip_prefix(TAG)?.split_once('n')?;
    pid.bytes().all(|b| b.is_ascii_digit()).then_some(pid)
}

fn remove(name: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "del", name]).stderr(Stdio::null());
    let _ = command.status();
    let _ = fs::remove_dir_all(Path::new(ETC).join(name));
}

/// Runs `ip`.
fn ip(args: &[&str], stdin: &str) {
    let mut command = Command::new("ip");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ip can be run");
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?} failed: {said}{stdin}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_namespaces_are_known() {
        assert_eq!(maker("p2pt123n4"), Some("123"));
        for name in ["p2pt", "p2ptn4", "p2pt12x3n4", "other", "p2pt1"] {
            assert!(maker(name).is_none_or(str::is_empty), "{name}");
        }
    }
}
