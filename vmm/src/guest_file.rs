//! Files of the host that travel with a guest: their bytes lie in its RAM beside its programs, under a name of their
//! own ([`abi::boot::BootFile`]). What a program does with them is the guest kernel's business.

use crate::error::VmmError;
use crate::image::MAX_FILE;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Bytes of the longest name: Linux's PATH_MAX without the NUL.
const MAX_NAME: usize = 4095;

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
    /// `.` or `..`, nor a NUL: a file has one name. Not in `/dev/shm`, whose files are the group's, nor elsewhere in `/dev`, in
    /// `/proc` or in `/sys`, which are the kernel's.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Result<GuestFile, VmmError> {
        let (name, bytes) = (name.into(), bytes.into());
        let text = name.as_os_str().as_bytes();
        let wrong = |why: &str| {
            Err(VmmError::Config(format!(
                "a file named {} in a guest: {why}",
                name.display()
            )))
        };
        let Some(rest) = text.strip_prefix(b"/") else {
            return wrong("the name is not absolute");
        };
        if text.len() > MAX_NAME {
            return wrong("the name is longer than 4095 bytes");
        }
        if text.contains(&0) {
            return wrong("there is a NUL in the name");
        }
        if rest
            .split(|&byte| byte == b'/')
            .any(|part| matches!(part, b"" | b"." | b".."))
        {
            return wrong("a part of the name is empty, `.` or `..`");
        }
        if let Some(why) = taken(rest) {
            return wrong(why);
        }
        Ok(GuestFile { name, bytes })
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

/// Why there can be no file by this name, which is given without the first `/`: what a guest has there is its kernel's.
fn taken(name: &[u8]) -> Option<&'static str> {
    let mut parts = name.split(|&byte| byte == b'/');
    match [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default) {
        [b"dev", b"shm", _] => Some("/dev/shm is the group's"),
        [b"dev", ..] => Some("/dev has the guest's devices only"),
        [b"proc", ..] => Some("/proc is what the guest's kernel tells of itself"),
        [b"sys", ..] => Some("/sys is what the guest's kernel tells of itself"),
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
        ] {
            let error = GuestFile::from_bytes(name, *b"").unwrap_err();
            assert_eq!(error.exit_status(), 125, "{name:?}");
        }
        assert!(GuestFile::from_bytes("/".to_owned() + &"a".repeat(4095), *b"").is_err());
        assert!(GuestFile::from_bytes("/a/.b/..c", *b"").is_ok());
    }
}
