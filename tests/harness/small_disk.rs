//! A disk with little space, for tests that fill it: a tmpfs, which only root can mount.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::running_as_root;

/// A disk with little space, mounted in a home. Dropped, it is gone with the home.
#[derive(Debug)]
pub struct SmallDisk {
    home: PathBuf,
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB in a folder of `home`; `None`, told loudly, where this user cannot mount.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub fn mount(home: &Path, folder: &str, mib: u32) -> Option<Self> {
        if !running_as_root() {
            eprintln!("SKIPPED: a small disk can only be mounted by root");
            return None;
        }
        let place = home.join(folder);
        fs::create_dir_all(&place).expect("our own folder");
        let mut mount = Command::new("mount");
        let size = format!("size={mib}m,mode=700");
        mount.args(["-t", "tmpfs", "-o", &size, "p2pchat-test"]).arg(&place);
        if !mount.status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: a small disk cannot be mounted here");
            return None;
        }
        Some(Self { home: home.to_owned(), place })
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }

    /// Takes all the space that is left.
    ///
    /// # Panics
    /// If the file system refuses in another way than for want of space.
    pub fn fill(&self) {
        let mut filler =
            File::options().create(true).append(true).open(self.filler()).expect("a file");
        for bytes in [1 << 20, 1 << 16, 1 << 12, 1] {
            let zeros = vec![0; bytes];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// If it took nothing.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.place).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays", self.place.display());
        // The guard of the home could not remove what was mounted in it.
        let _ = fs::remove_dir_all(&self.home);
    }
}
