//! What a power loss leaves of a folder, from the journal of one program's run.
//!
//! The model is as hard as POSIX lets it be. A synced write is on the disk. Of what was written and not
//! synced, each sector of 512 bytes is there or not, whatever came later is there or not as well, and so is
//! a change of length. A name that was made, moved or removed is certain only once its folder was synced.
//! SQLite's `-shm` file is rebuilt at the first opening, so anything may be in it: here it is noise.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::users::Chance;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// The bytes before each record's data.
const HEAD_BYTES: usize = 32;

/// One line of the journal; `preload.c` has the numbers.
#[derive(Debug)]
enum Record {
    Open { fd: i64, path: PathBuf },
    Data { fd: i64, at: usize, bytes: Vec<u8> },
    Length { fd: i64, length: usize },
    Synced { fd: i64 },
    Renamed { old: PathBuf, new: PathBuf },
    Removed { path: PathBuf },
}

/// A change of a file that is not synced.
#[derive(Debug)]
enum Change {
    Data { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A file as the disk has it, and what waits.
#[derive(Debug, Default)]
struct Inode {
    disk: Vec<u8>,
    waiting: Vec<Change>,
}

/// The journal of a run, and the folder as it was before.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    before: BTreeMap<PathBuf, Vec<u8>>,
    records: Vec<(u64, Record)>,
}

impl Disk {
    /// Reads a folder before the program starts on it.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn before(folder: &Path) -> Self {
        let mut before = BTreeMap::new();
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                before.insert(path.clone(), fs::read(path).expect("our own file"));
            }
        }
        Self { folder: folder.to_owned(), before, records: Vec::new() }
    }

    /// Takes in the journal of the run.
    ///
    /// # Panics
    /// If it is not one of `preload.c`.
    pub fn read_journal(&mut self, journal: &Path) {
        let bytes = fs::read(journal).expect("there is a journal");
        let mut at = 0;
        while at + HEAD_BYTES <= bytes.len() {
            let word = |n: usize| {
                let word = &bytes[at + n * 8..at + n * 8 + 8];
                i64::from_ne_bytes(word.try_into().expect("eight bytes"))
            };
            let end = at + HEAD_BYTES + size(word(3));
            // The last record may be cut by a kill.
            let Some(data) = bytes.get(at + HEAD_BYTES..end) else { break };
            let path = |data: &[u8]| PathBuf::from(String::from_utf8_lossy(data).into_owned());
            let mut paths = data.splitn(2, |byte| *byte == 0).map(path);
            let mut next = || paths.next().expect("a path");
            let fd = word(1);
            let record = match word(0) {
                1 => Record::Open { fd, path: next() },
                2 => Record::Data { fd, at: size(word(2)), bytes: data.to_vec() },
                3 => Record::Length { fd, length: size(word(2)) },
                4 => Record::Synced { fd },
                5 => Record::Renamed { old: next(), new: next() },
                6 => Record::Removed { path: next() },
                other => panic!("no record has the number {other}"),
            };
            self.records.push((end as u64, record));
            at = end;
        }
    }

    /// How many moments there are at which the power may fail: before the first record, and behind each.
    pub fn moments(&self) -> usize {
        self.records.len() + 1
    }

    /// How many bytes of the journal there were at this moment: what was acknowledged before they were
    /// exceeded must be on the disk.
    pub fn journal_bytes(&self, moment: usize) -> u64 {
        moment.checked_sub(1).map_or(0, |last| self.records[last].0)
    }

    /// Writes into `target` what one power loss at this moment leaves; `seed` decides what is lost.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn lose_power(&self, moment: usize, seed: u64, target: &Path) {
        let mut chance = Chance::of(seed);
        let mut replay = Replay::new(self);
        for (_, record) in &self.records[..moment] {
            replay.apply(record);
        }
        // Names change in order, as in a file system's own journal; how many of them are there is open.
        let kept = chance.index(replay.names_waiting.len() + 1);
        for (path, inode) in replay.names_waiting.drain(..kept) {
            change_name(&mut replay.names_disk, path, inode);
        }
        for (path, inode) in &replay.names_disk {
            let name = path.strip_prefix(&self.folder).expect("below the folder");
            let bytes = match name.to_string_lossy().ends_with("-shm") {
                true => (0..32_768).map(|_| chance.byte()).collect(),
                false => replay.inodes[*inode].after_loss(&mut chance),
            };
            let file = target.join(name);
            fs::write(&file, bytes).expect("our own folder");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
    }
}

fn size(word: i64) -> usize {
    usize::try_from(word).expect("a length is not negative")
}

fn change_name(names: &mut BTreeMap<PathBuf, usize>, path: PathBuf, inode: Option<usize>) {
    match inode {
        Some(inode) => drop(names.insert(path, inode)),
        None => drop(names.remove(&path)),
    }
}

/// The folder while the journal is played.
struct Replay<'a> {
    folder: &'a Path,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    names_disk: BTreeMap<PathBuf, usize>,
    names_waiting: Vec<(PathBuf, Option<usize>)>,
    /// What a descriptor is open on; `None` is the folder itself.
    open: HashMap<i64, Option<usize>>,
}

impl<'a> Replay<'a> {
    fn new(disk: &'a Disk) -> Self {
        let inode = |bytes: &Vec<u8>| Inode { disk: bytes.clone(), waiting: Vec::new() };
        let inodes = disk.before.values().map(inode).collect();
        let names: BTreeMap<_, _> = disk.before.keys().cloned().zip(0..).collect();
        let (names_disk, names_waiting, open) = (names.clone(), Vec::new(), HashMap::new());
        Self { folder: &disk.folder, inodes, names, names_disk, names_waiting, open }
    }

    fn rename(&mut self, path: &Path, inode: Option<usize>) {
        change_name(&mut self.names, path.to_owned(), inode);
        self.names_waiting.push((path.to_owned(), inode));
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Open { fd, path } if path == self.folder => drop(self.open.insert(*fd, None)),
            Record::Open { fd, path } => {
                let inode = self.names.get(path).copied().unwrap_or_else(|| {
                    self.inodes.push(Inode::default());
                    let inode = self.inodes.len() - 1;
                    self.rename(path, Some(inode));
                    inode
                });
                self.open.insert(*fd, Some(inode));
            }
            Record::Data { fd, at, bytes } => {
                self.change(*fd, Change::Data { at: *at, bytes: bytes.clone() });
            }
            Record::Length { fd, length } => self.change(*fd, Change::Length(*length)),
            Record::Synced { fd } => match self.open[fd] {
                Some(inode) => self.inodes[inode].sync(),
                None => {
                    for (path, inode) in self.names_waiting.drain(..) {
                        change_name(&mut self.names_disk, path, inode);
                    }
                }
            },
            Record::Renamed { old, new } => {
                let inode = self.names.get(old).copied();
                self.rename(new, inode);
                self.rename(old, None);
            }
            Record::Removed { path } => self.rename(path, None),
        }
    }

    fn change(&mut self, fd: i64, change: Change) {
        let inode = self.open[&fd].expect("a folder is not written to");
        self.inodes[inode].waiting.push(change);
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.waiting) {
            match change {
                Change::Data { at, bytes } => put(&mut self.disk, at, &bytes),
                Change::Length(length) => self.disk.resize(length, 0),
            }
        }
    }

    /// The content with some of what waits, by chance: each change whole, not at all, or torn.
    fn after_loss(&self, chance: &mut Chance) -> Vec<u8> {
        let mut disk = self.disk.clone();
        for change in &self.waiting {
            match (change, chance.below(3)) {
                (_, 0) => {}
                (Change::Length(length), _) => disk.resize(*length, 0),
                (Change::Data { at, bytes }, 1) => put(&mut disk, *at, bytes),
                (Change::Data { at, bytes }, _) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let sector = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                        let end = bytes.len().min(from + sector);
                        if chance.below(2) == 0 {
                            put(&mut disk, at + from, &bytes[from..end]);
                        }
                        from = end;
                    }
                }
            }
        }
        disk
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
