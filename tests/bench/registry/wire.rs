//! A UDP socket that sends and receives many datagrams with one system call, so that playing a million
//! peers costs less than serving them.
//!
//! What the registry's side of the machine loses is not hidden: whoever sends too fast gets fewer answers.

use std::{
    array,
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg},
};
use socket2::SockRef;

/// Datagrams of one system call.
pub(crate) const BATCH: usize = 64;

/// The largest datagram taken whole; ours and the echo's are smaller.
const DATAGRAM_BYTES_MAX: usize = 128;

/// Room for the answers that arrive while datagrams are sealed; the system may give less.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A socket that talks to one address.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UdpSocket,
    sending: MultiHeaders<()>,
    receiving: MultiHeaders<()>,
    buffers: Box<[[u8; DATAGRAM_BYTES_MAX]; BATCH]>,
}

impl Wire {
    /// Connects to `to`; a receive waits no longer than `patience`.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn connect(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        let options = SockRef::from(&socket);
        options.set_recv_buffer_size(BUFFER_BYTES)?;
        options.set_send_buffer_size(BUFFER_BYTES)?;
        Ok(Self {
            socket,
            sending: MultiHeaders::preallocate(BATCH, None),
            receiving: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; DATAGRAM_BYTES_MAX]; BATCH]),
        })
    }

    /// Sends at most [`BATCH`] datagrams, and returns how many the system took. Nobody listening is no
    /// error: it looks like a loss, as it does to a peer.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn send<const BYTES: usize>(
        &mut self,
        datagrams: &[[u8; BYTES]],
    ) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|at| {
            [IoSlice::new(datagrams.get(at).map_or(&[][..], |datagram| &datagram[..]))]
        });
        let fd = self.socket.as_raw_fd();
        let none = [None; BATCH];
        // What an earlier datagram met is told at the next call, and that one is not sent.
        for _ in 0..BATCH {
            let flags = MsgFlags::empty();
            match sendmmsg(fd, &mut self.sending, &slices[..count], &none[..count], [], flags) {
                Ok(sent) => return Ok(sent.count()),
                Err(Errno::ECONNREFUSED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// Takes what has arrived, waiting for the first, and returns how many came; 0 after patience.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn receive(&mut self, each: impl FnMut(&[u8])) -> io::Result<usize> {
        self.take(MsgFlags::MSG_WAITFORONE, each)
    }

    /// Takes what has arrived, without waiting.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn receive_now(&mut self, each: impl FnMut(&[u8])) -> io::Result<usize> {
        self.take(MsgFlags::MSG_DONTWAIT, each)
    }

    fn take(&mut self, flags: MsgFlags, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut lengths = [0; BATCH];
        let mut count = 0;
        {
            let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let fd = self.socket.as_raw_fd();
            match recvmmsg(fd, &mut self.receiving, &mut slices, flags, None) {
                Ok(received) => {
                    for (length, message) in lengths.iter_mut().zip(received) {
                        *length = message.bytes;
                        count += 1;
                    }
                }
                Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (buffer, length) in self.buffers.iter().zip(lengths).take(count) {
            each(&buffer[..length.min(DATAGRAM_BYTES_MAX)]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_go_and_come_in_batches() {
        let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = other.local_addr().expect("bound");
        let mut wire = Wire::connect(to, Duration::from_secs(5)).expect("connected");
        let sent = wire.send(&[[1, 2], [3, 4], [5, 6]]).expect("sent");
        assert_eq!(sent, 3);
        let mut buffer = [0; 8];
        for expected in [[1, 2], [3, 4], [5, 6]] {
            let (length, from) = other.recv_from(&mut buffer).expect("received");
            assert_eq!(buffer[..length], expected);
            other.send_to(&buffer[..length], from).expect("answered");
        }
        let mut seen = Vec::new();
        while seen.len() < 6 {
            wire.receive(|datagram| seen.extend_from_slice(datagram)).expect("received");
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
        assert_eq!(wire.receive_now(|_| {}).expect("nothing"), 0);
    }

    #[test]
    fn nobody_listening_is_a_loss_and_no_error() {
        let gone = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = gone.local_addr().expect("bound");
        let mut wire = Wire::connect(to, Duration::from_millis(10)).expect("connected");
        drop(gone);
        for _ in 0..10 {
            assert!(wire.send(&[[1], [2]]).expect("no error") > 0);
            wire.receive(|_| {}).expect("no error");
        }
    }
}
