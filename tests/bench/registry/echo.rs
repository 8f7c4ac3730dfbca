//! The limits of the HELLO port: what a process can do that only sends back what it gets.
//!
//! The echo is this program started once more, so that it runs beside the generator as the registry does:
//! plain, on tokio's runtime with a datagram for each two system calls, or with many for each two.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::SockRef;

use super::{process::Process, wire::BATCH};

/// The size of an echo's datagram.
pub(crate) const ECHO_BYTES: usize = 64;

const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How an echo takes its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manner {
    /// One at a time, with tokio.
    Plain,
    /// Many with one system call.
    Batched,
}

/// A running echo; killed when dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    /// Starts one at a free port of loopback.
    ///
    /// # Errors
    /// Those of starting a process.
    pub(crate) fn start(manner: Manner) -> io::Result<Self> {
        let word = match manner {
            Manner::Plain => "plain",
            Manner::Batched => "batched",
        };
        let mut child = Command::new(env::current_exe()?)
            .args(["echo", word])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process::of(self.child.id())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends back what comes, until killed.
///
/// # Errors
/// Those of the socket.
pub(crate) fn serve(manner: Manner) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES)?;
    writeln!(io::stdout(), "{}", socket.local_addr()?)?;
    io::stdout().flush()?;
    match manner {
        Manner::Plain => plain(socket),
        Manner::Batched => batched(&socket),
    }
}

fn plain(socket: UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let echo = runtime.spawn(async move {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut buffer = [0; ECHO_BYTES];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..length], from).await?;
        }
    });
    runtime.block_on(echo).map_err(io::Error::other)?
}

fn batched(socket: &UdpSocket) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let mut receiving = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut sending = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut buffers = [[0_u8; ECHO_BYTES]; BATCH];
    loop {
        let mut from = [None; BATCH];
        let mut count = 0;
        {
            let mut slices = buffers.each_mut().map(|buffer| [io::IoSliceMut::new(buffer)]);
            let flags = MsgFlags::MSG_WAITFORONE;
            for (place, message) in
                from.iter_mut().zip(recvmmsg(fd, &mut receiving, &mut slices, flags, None)?)
            {
                *place = message.address;
                count += 1;
            }
        }
        let slices = buffers.each_ref().map(|buffer| [io::IoSlice::new(buffer)]);
        let (slices, from) = (&slices[..count], &from[..count]);
        sendmmsg(fd, &mut sending, slices, from, [], MsgFlags::empty())?;
    }
}
