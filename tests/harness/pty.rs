//! A program on a terminal, with somebody who types and reads.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wait::{DEADLINE, eventually};

/// A pseudo-terminal with a program on it. Dropped, the program is killed.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Starts `command` with a terminal of 80 columns as stdin, stdout and stderr.
    ///
    /// # Panics
    /// If the system has no terminal left or the program cannot be started.
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a free terminal");
        grantpt(&master).expect("our own terminal");
        unlockpt(&master).expect("our own terminal");
        let name = ptsname(&master, Vec::new()).expect("our own terminal");
        let name = name.to_str().expect("a path of the system");
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(master.as_fd(), size).expect("our own terminal");
        let slave = File::options().read(true).write(true).open(name).expect("our own terminal");
        let handle = || slave.try_clone().expect("a descriptor is free");
        command.stdin(handle()).stdout(handle()).stderr(handle()).env("TERM", "xterm");
        let child = command.spawn().expect("the program can be started");
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("a descriptor is free");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().expect("no holder panics").extend_from_slice(&buffer[..count]);
            }
        });
        Self { keyboard, screen, child }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// All that the program wrote, with its escape sequences.
    ///
    /// # Panics
    /// Never.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no holder panics")).into_owned()
    }

    /// Waits until the screen's text holds `text`, and returns all of it.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        eventually(&format!("the terminal shows {text:?}"), DEADLINE, || {
            Some(self.screen()).filter(|s| s.contains(text))
        })
    }

    /// Waits for the program's end and returns its exit code.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let status = eventually("the program on the terminal ends", DEADLINE, || {
            self.child.try_wait().expect("our own child")
        });
        status.code()
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
