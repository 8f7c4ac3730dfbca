//! The least that a client of a local socket can do: connect, write a line, read a line. `status` is compared
//! with it.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

fn main() -> io::Result<()> {
    let path = env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"version\",\"params\":{}}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    io::stdout().write_all(line.as_bytes())
}
