//! memfd_create, and seals: files without a name.

use super::open::{free_descriptor, install};
use crate::fs::FileId;
use crate::fs::inode::Kind;
use crate::fs::open::{O_LARGEFILE, O_RDWR, OpenFile, What};
use crate::fs::seal::Seals;
use crate::fs::tree::New;
use crate::mm::area::{Backing, Prot};
use crate::syscall::Call;
use crate::time;
use abi::Errno;
use paging::GuestVirt;

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 0x10;
/// Longest name, the NUL included.
const MOST_NAME: usize = 250;
const EXECUTABLE: u16 = 0o111;

/// memfd_create(2). Large pages of a program's choice (MFD_HUGETLB) there are none.
pub fn memfd_create(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [name, flags, ..] = call.args;
    let flags = flags as u32;
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 || flags & (MFD_NOEXEC_SEAL | MFD_EXEC) == MFD_NOEXEC_SEAL | MFD_EXEC {
        return Err(Errno::EINVAL);
    }
    // It means nothing.
    match call.read_path(name, &mut [0; MOST_NAME]) {
        Ok(_) => {}
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        Err(error) => return Err(error),
    }
    free_descriptor(call, 0)?;
    let [uid, gid] = call.process().credentials.fs;
    let seals = match flags {
        _ if flags & MFD_NOEXEC_SEAL != 0 => Seals::EXECUTE,
        _ if flags & MFD_ALLOW_SEALING != 0 => Seals::empty(),
        _ => Seals::SEAL,
    };
    let mode = if flags & MFD_NOEXEC_SEAL != 0 {
        0o666
    } else {
        0o777
    };
    let new = New {
        kind: Kind::Regular,
        mode,
        now: time::realtime(),
    };
    let kernel = &mut *call.kernel;
    // A number that no path gives.
    let number = crate::fs::names::number_of(crate::fs::names::hash(new.now, b"memory"));
    let file = kernel
        .files
        .make_unnamed(&mut kernel.memory, (uid, gid), new, number)?;
    let inode = kernel.files.inodes.get_mut(file);
    (inode.linkable, inode.seals) = (false, Some(seals));
    kernel.files.hold(file);
    match kernel.files.open.add(What::File(file), O_RDWR | O_LARGEFILE) {
        Ok(open) => {
            kernel.files.inodes.get_mut(file).writers += 1;
            install(call, open, 0, flags & MFD_CLOEXEC != 0)
        }
        Err(error) => {
            kernel.files.release(&mut kernel.memory, file);
            Err(error)
        }
    }
}

/// The file with seals that is open, if it is one that can have some.
fn sealed(call: &mut Call<'_>, open: &OpenFile) -> Result<FileId, Errno> {
    match open.what {
        What::File(file) if call.kernel.files.inodes.get(file).kind == Kind::Regular => Ok(file),
        _ => Err(Errno::EINVAL),
    }
}

/// fcntl(F_GET_SEALS).
pub fn seals(call: &mut Call<'_>, open: &OpenFile) -> Result<u64, Errno> {
    let file = sealed(call, open)?;
    let seals = call.kernel.files.inodes.get(file).seals;
    Ok(seals.unwrap_or(Seals::SEAL).bits().into())
}

/// fcntl(F_ADD_SEALS).
pub fn add_seals(call: &mut Call<'_>, open: &OpenFile, argument: u64) -> Result<u64, Errno> {
    if !open.can_write() {
        return Err(Errno::EPERM);
    }
    let mut more = Seals::from_bits(argument as u32).ok_or(Errno::EINVAL)?;
    let file = sealed(call, open)?;
    let inode = call.kernel.files.inodes.get(file);
    let (before, mode) = (inode.seals.unwrap_or(Seals::SEAL), inode.mode);
    if before.contains(Seals::SEAL) {
        return Err(Errno::EPERM);
    }
    if more.contains(Seals::WRITE) && !before.contains(Seals::WRITE) && can_be_written_by_mappings(call, file)
    {
        return Err(Errno::EBUSY);
    }
    if more.contains(Seals::EXECUTE) && mode & EXECUTABLE != 0 {
        more |= Seals::SHRINK | Seals::GROW | Seals::WRITING;
    }
    call.kernel.files.inodes.get_mut(file).seals = Some(before | more);
    Ok(0)
}

/// Whether some shared mapping of `file` may be written to, or could become such.
fn can_be_written_by_mappings(call: &mut Call<'_>, file: FileId) -> bool {
    let kernel = &mut *call.kernel;
    if !kernel.memory.areas.shows(file) {
        return false;
    }
    let memory = &kernel.memory;
    kernel.spaces.all().any(|space| {
        let mut at = GuestVirt::new(0);
        while let Some(area) = space.first_area(memory, at) {
            at = area.end;
            if let Backing::File(part) = area.backing
                && part.file == file
                && part.shared
                && area.may.contains(Prot::WRITE)
            {
                return true;
            }
        }
        false
    })
}
