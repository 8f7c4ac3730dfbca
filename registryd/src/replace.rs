//! Another database and key in the place of those that are there: all or nothing.
//!
//! What comes is made ready in a folder of its own inside the data folder, and synced. One rename of that
//! folder decides. From there on whoever takes the data folder's lock next goes on where the last one was
//! cut short, until the files have their names: see [`finish`]. What was there is never removed, but moved to
//! a folder `replaced-…` beside it.
//!
//! Invariant: the folder that waits to be put in place is complete, and as long as its database is in it, the
//! one outside with that name is the old one.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown, fchown},
    path::{Path, PathBuf},
};

use registryd_proto::Keypair;

use crate::{
    instance::{DATABASE_FILE, Instance, KEY_FILE, NEW_KEY_FILE},
    key_file,
};

/// Being made; removed by the next one.
const UNFINISHED: &str = "replacement.part";
/// Complete, and to be put in place; the rest of the name is the time.
const READY: &str = "replacement-";
/// What was there before; likewise.
const ASIDE: &str = "replaced-";

/// Another database and key that are being made ready.
#[derive(Debug)]
pub(crate) struct Replacement<'a> {
    instance: &'a Instance,
    place: PathBuf,
}

impl<'a> Replacement<'a> {
    /// An empty one. What an earlier one left unfinished is removed.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) fn begin(instance: &'a Instance) -> io::Result<Self> {
        let place = instance.folder().join(UNFINISHED);
        remove(&place)?;
        DirBuilder::new().mode(0o700).create(&place)?;
        Ok(Self { instance, place })
    }

    /// Where the database has to be made, as one file.
    pub(crate) fn database(&self) -> PathBuf {
        self.place.join(DATABASE_FILE)
    }

    /// Puts it in place with this key, and returns the folder where that is now what was there before, if
    /// anything was. `now_ms` names that folder.
    ///
    /// # Errors
    /// Whatever the system says. All is as it was, or the next one to take the data folder's lock finishes
    /// it; [`is_pending`] tells which.
    pub(crate) fn commit(self, keys: &Keypair, now_ms: u64) -> io::Result<Option<PathBuf>> {
        let folder = self.instance.folder();
        let key = self.place.join(KEY_FILE);
        key_file::write_new(&key, keys)?;
        let database = self.database();
        File::open(&database)?.sync_all()?;
        for path in [&key, &database, &self.place] {
            give_to_owner(folder, path)?;
        }
        sync(&self.place)?;
        fs::rename(&self.place, folder.join(format!("{READY}{now_ms}")))?;
        sync(folder)?;
        finish(folder)
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        // Renamed away if it was committed; else only litter is left if this fails.
        let _ = remove(&self.place);
    }
}

/// Whether a replacement waits to be finished: then database and key in the folder may not belong together.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn is_pending(folder: &Path) -> io::Result<bool> {
    Ok(ready(folder)?.is_some())
}

/// Puts in place what is ready, if anything is. Only for who holds the folder's lock. Returns where what was
/// there before is now.
///
/// # Errors
/// Whatever the system says: to be tried again, and nothing else to be done with the folder before.
pub(crate) fn finish(folder: &Path) -> io::Result<Option<PathBuf>> {
    let Some((place, time)) = ready(folder)? else { return Ok(None) };
    let aside = folder.join(format!("{ASIDE}{time}"));
    // Before the new one has its name: a log of the old database beside it would be taken for its own.
    if place.join(DATABASE_FILE).try_exists()? {
        let log = |ending: &str| format!("{DATABASE_FILE}{ending}");
        for name in [log("-wal"), log("-shm"), log("-journal"), DATABASE_FILE.to_owned()] {
            set_aside(folder, &name, &aside)?;
        }
        put(folder, DATABASE_FILE, &place, &aside)?;
    }
    if place.join(KEY_FILE).try_exists()? {
        for name in [NEW_KEY_FILE, KEY_FILE] {
            set_aside(folder, name, &aside)?;
        }
        put(folder, KEY_FILE, &place, &aside)?;
    }
    // Both are in place: whatever else somebody put beside them must not hold up every start.
    fs::remove_dir_all(&place)?;
    sync(folder)?;
    Ok(aside.exists().then_some(aside))
}

/// The replacement that is ready, and the time in its name.
fn ready(folder: &Path) -> io::Result<Option<(PathBuf, String)>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(READY));
        if let Some(time) = time
            && time.bytes().all(|b| b.is_ascii_digit())
        {
            return Ok(Some((entry.path(), time.to_owned())));
        }
    }
    Ok(None)
}

fn set_aside(folder: &Path, name: &str, aside: &Path) -> io::Result<()> {
    let path = folder.join(name);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    if !aside.exists() {
        DirBuilder::new().mode(0o700).create(aside)?;
        give_to_owner(folder, aside)?;
    }
    fs::rename(path, aside.join(name))
}

/// Gives a file of the replacement its name; what had it is on the disk under another one before.
fn put(folder: &Path, name: &str, place: &Path, aside: &Path) -> io::Result<()> {
    if aside.exists() {
        sync(aside)?;
    }
    sync(folder)?;
    fs::rename(place.join(name), folder.join(name))?;
    sync(folder)
}

/// Root that works in the folder of another user leaves nothing that this user cannot read.
pub(crate) fn give_to_owner(folder: &Path, path: &Path) -> io::Result<()> {
    match owner_to_be(folder, &fs::metadata(path)?)? {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// The same for a file that is open, whatever has its name meanwhile.
pub(crate) fn give_file_to_owner(folder: &Path, file: &File) -> io::Result<()> {
    match owner_to_be(folder, &file.metadata()?)? {
        Some((user, group)) => fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// User and group of the folder, if what is held is to be given to them.
fn owner_to_be(folder: &Path, held: &Metadata) -> io::Result<Option<(u32, u32)>> {
    let owner = fs::metadata(folder)?;
    let is_theirs = (owner.uid(), owner.gid()) == (held.uid(), held.gid());
    let give = !is_theirs && rustix::process::geteuid().is_root();
    Ok(give.then(|| (owner.uid(), owner.gid())))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A name beside another one, with this ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: PathBuf) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn filled(folder: &Path) {
        for name in ["registry.db", "registry.db-wal", "registry.key"] {
            fs::write(folder.join(name), format!("old {name}")).expect("written");
        }
    }

    fn commit(instance: &Instance) -> io::Result<Option<PathBuf>> {
        let replacement = Replacement::begin(instance).expect("begun");
        fs::write(replacement.database(), "new").expect("written");
        replacement.commit(&Keypair::from_secret(&[7; 32]), 99)
    }

    fn assert_replaced(folder: &Path) {
        assert_eq!(text(folder.join("registry.db")).as_deref(), Some("new"));
        assert!(!folder.join("registry.db-wal").exists(), "the old log is gone");
        let key = key_file::read(&folder.join("registry.key")).expect("readable").expect("there");
        assert_eq!(key.public(), Keypair::from_secret(&[7; 32]).public());
        for name in ["registry.db", "registry.db-wal", "registry.key"] {
            let kept = text(folder.join("replaced-99").join(name));
            assert_eq!(kept, Some(format!("old {name}")));
        }
        assert!(!is_pending(folder).expect("a folder"));
    }

    #[test]
    fn what_was_there_is_kept() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        filled(folder.path());
        let aside = commit(&instance).expect("committed").expect("something was there");
        assert_eq!(aside, folder.path().join("replaced-99"));
        assert_replaced(folder.path());
        assert!(!folder.path().join(UNFINISHED).exists());
    }

    #[test]
    fn an_empty_folder_has_nothing_to_keep() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        assert_eq!(commit(&instance).expect("committed"), None);
        assert_eq!(text(folder.path().join("registry.db")).as_deref(), Some("new"));
    }

    #[test]
    fn one_that_was_cut_short_anywhere_is_finished_by_the_next_lock() {
        // Each step of `finish` is a change of one name; a state is what the first `cut` of them left.
        for cut in 0..7 {
            let folder = tempfile::tempdir().expect("temporary folder");
            let root = folder.path();
            filled(root);
            let place = root.join("replacement-99");
            fs::create_dir(&place).expect("made");
            fs::write(place.join("registry.db"), "new").expect("written");
            let keys = Keypair::from_secret(&[7; 32]);
            key_file::write_new(&place.join("registry.key"), &keys).expect("written");
            let aside = root.join("replaced-99");
            let steps: [&dyn Fn(); 6] = [
                &|| fs::create_dir(&aside).expect("made"),
                &|| {
                    fs::rename(root.join("registry.db-wal"), aside.join("registry.db-wal"))
                        .expect("moved")
                },
                &|| fs::rename(root.join("registry.db"), aside.join("registry.db")).expect("moved"),
                &|| fs::rename(place.join("registry.db"), root.join("registry.db")).expect("moved"),
                &|| {
                    fs::rename(root.join("registry.key"), aside.join("registry.key"))
                        .expect("moved")
                },
                &|| {
                    fs::rename(place.join("registry.key"), root.join("registry.key"))
                        .expect("moved")
                },
            ];
            steps.iter().take(cut).for_each(|step| step());
            assert!(is_pending(root).expect("a folder"));
            drop(Instance::lock(root).expect("free"));
            assert_replaced(root);
        }
    }

    #[test]
    fn what_else_lies_with_a_replacement_holds_up_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        filled(folder.path());
        let place = folder.path().join("replacement-99");
        fs::create_dir_all(place.join("more")).expect("made");
        for name in ["registry.db", "more/notes"] {
            fs::write(place.join(name), "new").expect("written");
        }
        key_file::write_new(&place.join("registry.key"), &Keypair::from_secret(&[7; 32]))
            .expect("written");
        drop(Instance::lock(folder.path()).expect("free"));
        assert_replaced(folder.path());
    }

    #[test]
    fn one_that_was_not_complete_changes_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        filled(folder.path());
        let instance = Instance::lock(folder.path()).expect("free");
        let replacement = Replacement::begin(&instance).expect("begun");
        fs::write(replacement.database(), "half").expect("written");
        // As a kill would: nothing is tidied up.
        std::mem::forget(replacement);
        drop(instance);
        let instance = Instance::lock(folder.path()).expect("free");
        assert_eq!(text(folder.path().join("registry.db")).as_deref(), Some("old registry.db"));
        drop(Replacement::begin(&instance).expect("the leftover is no hindrance"));
        assert!(!folder.path().join(UNFINISHED).exists());
    }
}
