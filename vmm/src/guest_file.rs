//! Files of the host that travel with a guest: their bytes lie in its RAM beside its programs, under a name of their
//! own ([`abi::boot::BootFile`]). What a program does with them is the guest kernel's business.

use crate::error::VmmError;
use crate::image::MAX_FILE;
use abi::boot::{MAX_FILE_NAMES, MAX_FILES, NAME_UNIT};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Bytes of the longest name: Linux's PATH_MAX without the NUL.
const MAX_NAME: usize = 4095;
/// Bytes of the longest part of a name: Linux's NAME_MAX.
const MAX_PART: usize = 255;

/// A file that travels with a guest. Guests that share the `Arc` each get a copy of their own.
#[derive(Debug, PartialEq, Eq)]
pub struct GuestFile {
    name: PathBuf,
    bytes: Vec<u8>,
}

impl GuestFile {
    /// Reads the file at `path`; `name` is its name in the guest, without one the absolute path on the host (with
    /// `.` and `..` taken out by their letter, symbolic links kept).
    ///
    /// # Errors
    /// [`VmmError::File`] if it can't be read or is not a regular file, [`VmmError::Config`] for a name no file in a
    /// guest can have.
    pub fn load(path: impl AsRef<Path>, name: Option<&Path>) -> Result<GuestFile, VmmError> {
        let path = path.as_ref();
        let failed = |source: io::Error| VmmError::File {
            path: path.to_owned(),
            source,
        };
        let name = match name {
            Some(name) => name.to_owned(),
            None => without_dots(&std::path::absolute(path).map_err(failed)?),
        };
        // Before it is opened: opening a FIFO would wait.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(VmmError::Config(format!(
                "{}: not a regular file",
                path.display()
            )));
        }
        if metadata.len() > MAX_FILE {
            return Err(VmmError::Config(format!(
                "{}: {} bytes: a file in a guest has at most {MAX_FILE}",
                path.display(),
                metadata.len()
            )));
        }
        GuestFile::from_bytes(name, std::fs::read(path).map_err(failed)?)
    }

    /// A file with these contents.
    ///
    /// # Errors
    /// [`VmmError::Config`] unless `name` is absolute, at most 4095 bytes long, and has no component that is empty,
    /// `.`, `..` or longer than 255 bytes, nor a NUL: a file has one name. Not in `/dev/shm`, whose files are the group's,
    /// nor elsewhere in `/dev`, in `/proc` or in `/sys`, which are the kernel's, nor below a file that is.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Result<GuestFile, VmmError> {
        let (name, bytes) = (name.into(), bytes.into());
        match check_name(name.as_os_str().as_bytes()) {
            Ok(()) => Ok(GuestFile { name, bytes }),
            Err(why) => Err(VmmError::Config(format!(
                "a file named {} in a guest: {why}",
                name.display()
            ))),
        }
    }

    /// Its absolute name in the guest.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.as_os_str().as_bytes()
    }

    /// Its contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a file in a guest can have this name.
///
/// # Errors
/// Why not.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    let Some(rest) = name.strip_prefix(b"/") else {
        return Err("the name is not absolute");
    };
    if name.len() > MAX_NAME {
        return Err("the name is longer than 4095 bytes");
    }
    if name.contains(&0) {
        return Err("there is a NUL in the name");
    }
    let parts = || rest.split(|&byte| byte == b'/');
    if parts().any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err("a part of the name is empty, `.` or `..`");
    }
    if parts().any(|part| part.len() > MAX_PART) {
        return Err("a part of the name is longer than 255 bytes");
    }
    taken(rest).map_or(Ok(()), Err)
}

/// Whether a guest has places for files with these names, all at once.
///
/// # Errors
/// Why not, with the name it is about.
pub(crate) fn check_names<'n>(names: impl Iterator<Item = &'n [u8]>) -> Result<(), String> {
    let mut files = BTreeSet::new();
    for name in names {
        if let Err(why) = check_name(name) {
            return Err(format!("a file named {} in a guest: {why}", name.escape_ascii()));
        }
        if !files.insert(name) {
            return Err(format!("two files are named {}", name.escape_ascii()));
        }
    }
    let mut all = files.clone();
    for name in &files {
        for directory in directories(name) {
            if files.contains(directory) {
                let [below, file] = [name, directory].map(|name| name.escape_ascii());
                return Err(format!("no file can be named {below}: {file} is a file, too"));
            }
            all.insert(directory);
        }
    }
    let units = |name: &&[u8]| {
        let last = name.iter().rev().take_while(|&&byte| byte != b'/').count();
        last.div_ceil(NAME_UNIT)
    };
    let units: usize = all.iter().map(units).sum();
    if all.len() > MAX_FILES || units > MAX_FILE_NAMES {
        return Err(format!(
            "{} files in {} directories, with {units} units of names: together they can be {MAX_FILES}, with \
             {MAX_FILE_NAMES} (a name of up to {NAME_UNIT} bytes is one)",
            files.len(),
            all.len() - files.len()
        ));
    }
    Ok(())
}

/// The directories on the way to `name`, without the root.
fn directories(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = name.iter().enumerate().skip(1);
    ends.filter(|&(_, &byte)| byte == b'/')
        .map(|(end, _)| &name[..end])
}

/// Why there can be no file by this name, which is given without the first `/`: what a guest has there is its kernel's.
fn taken(name: &[u8]) -> Option<&'static str> {
    let mut parts = name.split(|&byte| byte == b'/');
    match [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default) {
        [b"dev", b"shm", _] => Some("/dev/shm is the group's"),
        [b"dev", ..] => Some("/dev has the guest's devices only"),
        [b"proc", ..] => Some("/proc is what the guest's kernel tells of itself"),
        [b"sys", ..] => Some("/sys is what the guest's kernel tells of itself"),
        [b"etc", b"passwd" | b"group", below] if !below.is_empty() => Some("that is below a file"),
        [b"tmp" | b"etc" | b"var", b"", _] | [b"var", b"tmp", b""] => Some("that is a directory"),
        _ => None,
    }
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // Of the root it does nothing, as on Linux.
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_absolute_path_unless_another_name_is_given() {
        let path = std::env::temp_dir().join(format!("tombolo-file-{}", std::process::id()));
        std::fs::write(&path, b"contents").unwrap();
        let roundabout = path
            .parent()
            .unwrap()
            .join("./x/..")
            .join(path.file_name().unwrap());
        let (own, other) = (
            GuestFile::load(&path, None),
            GuestFile::load(&path, Some(Path::new("/etc/motd"))),
        );
        let directory = std::env::current_dir().unwrap();
        let renamed = GuestFile::load("Cargo.toml", None).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(own.as_ref().unwrap().bytes(), b"contents");
        assert_eq!(own.unwrap().name(), path.as_os_str().as_bytes());
        assert_eq!(without_dots(&roundabout), path);
        assert_eq!(other.unwrap().name(), b"/etc/motd");
        assert_eq!(
            renamed.name(),
            directory.join("Cargo.toml").as_os_str().as_bytes()
        );
    }

    #[test]
    fn what_can_not_be_read_is_named_and_the_commands_fault() {
        for (path, why) in [
            ("/no/such/file", "No such file"),
            ("/tmp", "directory"),
            ("/dev/null", "regular"),
        ] {
            let error = GuestFile::load(path, None).unwrap_err();
            assert!(
                error.to_string().contains(path) && error.to_string().contains(why),
                "{error}"
            );
            assert_eq!(error.exit_status(), 125);
        }
    }

    #[test]
    fn a_name_is_absolute_and_plain() {
        for name in [
            "",
            "a",
            "/",
            "/a/",
            "//a",
            "/a//b",
            "/a/./b",
            "/..",
            "/a\0b",
            "/dev/shm/a",
            "/dev/shm",
            "/dev/null",
            "/proc/version",
            "/proc",
            "/sys/a/b",
            "/tmp",
            "/var/tmp",
            "/etc/passwd/a",
            "/etc/group/a/b",
        ] {
            let error = GuestFile::from_bytes(name, *b"").unwrap_err();
            assert_eq!(error.exit_status(), 125, "{name:?}");
        }
        let long = |parts: usize, len: usize| ("/".to_owned() + &"a".repeat(len)).repeat(parts);
        for (name, is_one) in [
            (long(1, 255), true),
            (long(1, 256), false),
            (long(1, 256) + "/b", false),
            (long(15, 255) + &long(1, 254), true),
            (long(16, 255), false),
            ("/a/.b/..c".to_owned(), true),
            ("/etc/passwd".to_owned(), true),
        ] {
            assert_eq!(GuestFile::from_bytes(&name, *b"").is_ok(), is_one, "{name}");
        }
    }

    #[test]
    fn names_that_can_not_all_be_in_one_guest_are_told() {
        let check = |names: &[&str]| check_names(names.iter().map(|name| name.as_bytes()));
        assert_eq!(check(&["/a", "/b/c", "/b/d/e", "/bb"]), Ok(()));
        for (names, why) in [
            (&["/a", "/b", "/a"][..], "two files are named /a"),
            (&["/a", "/a/b"], "no file can be named /a/b: /a is a file, too"),
            (
                &["/a/b/c/d", "/a/b"],
                "no file can be named /a/b/c/d: /a/b is a file, too",
            ),
            (
                &["/b", "/dev/shm/a"],
                "a file named /dev/shm/a in a guest: /dev/shm is the group's",
            ),
        ] {
            assert_eq!(check(names).unwrap_err(), why);
        }
    }

    #[test]
    fn files_directories_and_names_are_counted_to_the_limit() {
        let check = |names: &[String]| check_names(names.iter().map(|name| name.as_bytes()));
        // In two directories.
        let mut names: Vec<_> = (2..MAX_FILES).map(|number| format!("/d/e/{number}")).collect();
        assert_eq!(check(&names), Ok(()));
        names.push("/d/f".to_owned());
        let why = check(&names).unwrap_err();
        assert!(
            why.starts_with("3071 files in 2 directories, with 3073 units"),
            "{why}"
        );
        let mut names: Vec<_> = (0..MAX_FILE_NAMES / 6)
            .map(|number| format!("/{number:0>255}"))
            .collect();
        assert_eq!(check(&names), Ok(()));
        names.push("/f".to_owned());
        assert!(check(&names).unwrap_err().contains("6145 units"));
    }
}
