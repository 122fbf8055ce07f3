//! 2 MiB pages of the host for segments of 2 MiB and more, without a setting or a reservation.
//!
//! A memfd has them only where the administrator turned them on (`shmem_enabled`; it is off nearly everywhere). A
//! tmpfs of one's own has its own setting: mounted nowhere, it is a descriptor and nothing else, and its files are
//! without a name (O_TMPFILE), so nothing outlives the process here either. Pages still come when they are first
//! touched, 512 at a time ([decision 13](../../../docs/decisions/0013-large-host-pages.md) has the figures).
//!
//! It takes the right to mount (CAP_SYS_ADMIN). Without it, or without transparent huge pages, segments are memfds.

use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Where segments on large pages come from.
#[derive(Debug, Default)]
pub(super) struct LargePages {
    /// The detached tmpfs, mounted when the first segment needs it; `None` where there can't be one.
    mount: OnceLock<Option<OwnedFd>>,
}

impl LargePages {
    /// Never any, as on a host that has none.
    pub(super) fn none() -> LargePages {
        LargePages {
            mount: OnceLock::from(None),
        }
    }

    /// A new, empty file whose pages are 2 MiB wherever it is long enough; `None` if the host has no such.
    pub(super) fn file(&self) -> Option<OwnedFd> {
        let mount = self.mount.get_or_init(|| {
            let mounted = mount();
            if let Err(error) = &mounted {
                tracing::debug!("segments are on pages of 4 KiB: {error}");
            }
            mounted.ok()
        });
        // O_EXCL: it can't be given a name later (open(2)).
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        openat(mount.as_ref()?, ".", flags, Mode::RUSR | Mode::WUSR).ok()
    }
}

/// A file of `len` bytes, zeros, like those that large segments are: for measuring what its pages alone make of an access.
/// `None` where segments have no large pages.
#[must_use]
pub fn large_file(len: u64) -> Option<OwnedFd> {
    let file = LargePages::default().file()?;
    ftruncate(&file, len).ok()?;
    Some(file)
}

fn mount() -> std::io::Result<OwnedFd> {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled")?;
    if setting.contains("[deny]") {
        return Err(std::io::Error::other("shmem_enabled is deny"));
    }
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // A large page wherever all of it lies within the file (Documentation/admin-guide/mm/transhuge.rst); no limits
    // of its own: how much a segment may have is checked before.
    for (key, value) in [
        ("source", "tombolo"),
        ("huge", "within_size"),
        ("size", "0"),
        ("nr_inodes", "0"),
        ("mode", "0700"),
    ] {
        fsconfig_set_string(&tmpfs, key, value)?;
    }
    fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
