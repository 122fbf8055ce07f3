//! The entries of all directories: which name in which directory leads to which inode.
//!
//! Records of fixed size in one table. A record is found by a hash of the directory's path and its name; a
//! directory's records are linked in the order they were made, each with a number that grows, so that a listing
//! that goes on later (getdents64) knows where it was, whatever has been added or removed since. What a record has
//! no room for of a long name goes on in others.
//!
//! When the last name of a file that is still in use is removed, its record stays with the inode, for those who
//! want to know what it was called (`/proc/self/maps`).

use super::FileId;
use super::inode::NONE;
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use abi::Errno;
use abi::boot::{MAX_FILE_NAMES, NAME_UNIT};

/// Records of names, of which a long one takes several.
const MOST: usize = 8192;
const _: () = assert!(MAX_FILE_NAMES <= MOST / 4 * 3);
/// Bytes of a name in one record.
const PIECE: usize = NAME_UNIT;
const BUCKETS: usize = 1024;

/// Goes on with a hash (FNV-1a) that has come as far as `hash`.
pub fn hash(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The hash of no bytes.
pub const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of what is called `name` in a directory whose path has the hash `directory`.
pub fn hash_below(directory: u64, name: &[u8]) -> u64 {
    hash(hash(directory, b"/"), name)
}

/// The number that goes with a hash. Names that differ in their last byte only have hashes that differ in a few bits only,
/// so these are spread first: files get different numbers whatever they are called and in whichever order they are made,
/// and `ftok`, which looks at 16 bits, different keys.
pub const fn number_of(hash: u64) -> u64 {
    let mut bits = hash;
    // SplitMix64, as in `Kernel::random`.
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) >> 16
}

/// A record: 64 bytes.
#[derive(Clone, Copy)]
pub struct Name {
    /// What it leads to.
    pub file: FileId,
    /// The directory it is in.
    pub parent: FileId,
    /// The next one in the directory.
    pub next: u16,
    /// The one before.
    before: u16,
    /// Next with the same hash; next free record.
    chain: u16,
    /// Where the name goes on.
    more: u16,
    hash: u32,
    /// Its place in the directory's order.
    pub order: u32,
    /// Bytes of the whole name.
    len: u8,
    text: [u8; PIECE],
}

const UNUSED: Name = Name {
    file: NONE,
    parent: NONE,
    next: 0,
    before: 0,
    chain: 0,
    more: 0,
    hash: 0,
    order: 0,
    len: 0,
    text: [0; PIECE],
};

#[cfg(target_os = "none")]
static ROOM: Reserve<[Name; MOST]> = Reserve::new([UNUSED; MOST]);

/// All names.
pub struct Names {
    names: &'static mut [Name],
    buckets: [u16; BUCKETS],
    free: u16,
    /// Records used so far; record 0 never is.
    used: u16,
    /// Records in use.
    live: u16,
}

impl Names {
    pub(super) const fn empty() -> Names {
        Names {
            names: &mut [],
            buckets: [0; BUCKETS],
            free: 0,
            used: 0,
            live: 0,
        }
    }

    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let names = ROOM.take().expect("a kernel has one table of names");
        #[cfg(not(target_os = "none"))]
        let names = Box::leak(vec![UNUSED; MOST].into_boxed_slice());
        self.names = names;
        self.used = 1;
    }

    /// Records in use.
    pub fn live(&self) -> u16 {
        self.live
    }

    /// The record `name`.
    pub fn get(&self, name: u16) -> &Name {
        &self.names[usize::from(name)]
    }

    /// Has `name` lead to `file`.
    pub(super) fn redirect(&mut self, name: u16, file: FileId) {
        self.names[usize::from(name)].file = file;
    }

    /// The length of a name in bytes.
    pub fn len(&self, name: u16) -> usize {
        usize::from(self.get(name).len)
    }

    /// Copies a name into `to`, which has room for it; its length.
    pub fn copy(&self, name: u16, to: &mut [u8]) -> usize {
        let len = self.len(name);
        let mut at = name;
        for piece in to[..len].chunks_mut(PIECE) {
            let record = self.get(at);
            piece.copy_from_slice(&record.text[..piece.len()]);
            at = record.more;
        }
        len
    }

    fn is(&self, name: u16, text: &[u8]) -> bool {
        if self.len(name) != text.len() {
            return false;
        }
        let mut at = name;
        text.chunks(PIECE).all(|piece| {
            let record = self.get(at);
            at = record.more;
            record.text[..piece.len()] == *piece
        })
    }

    /// The record of `text`, whose hash is `hash`, in `parent`.
    pub fn find(&self, parent: FileId, hash: u64, text: &[u8]) -> Option<u16> {
        let mut at = self.buckets[hash as usize % BUCKETS];
        while at != 0 {
            let record = self.get(at);
            if record.hash == hash as u32 && record.parent == parent && self.is(at, text) {
                return Some(at);
            }
            at = record.chain;
        }
        None
    }

    /// Makes a record that `text` leads to `file` in `parent`, after `last`, which ends that directory's list.
    ///
    /// # Errors
    /// ENOSPC.
    pub(super) fn add(
        &mut self,
        (parent, last, order): (FileId, u16, u32),
        hash: u64,
        text: &[u8],
        file: FileId,
    ) -> Result<u16, Errno> {
        let more = self.write(text)?;
        let bucket = &mut self.buckets[hash as usize % BUCKETS];
        let chain = core::mem::replace(bucket, more);
        let record = &mut self.names[usize::from(more)];
        (record.file, record.parent) = (file, parent);
        (record.before, record.next, record.order) = (last, 0, order);
        (record.chain, record.hash, record.len) = (chain, hash as u32, text.len() as u8);
        if last != 0 {
            self.names[usize::from(last)].next = more;
        }
        Ok(more)
    }

    /// A record that is in no directory, with the name that `name` has: for what has lost that to something else. None if
    /// there is no room.
    pub(super) fn copy_of(&mut self, name: u16) -> Option<u16> {
        let mut text = [0; super::NAME_MAX];
        let len = self.copy(name, &mut text);
        let parent = self.get(name).parent;
        let copy = self.write(&text[..len]).ok()?;
        let record = &mut self.names[usize::from(copy)];
        (record.parent, record.len) = (parent, len as u8);
        Some(copy)
    }

    /// A new record with this text, which only its length is missing from.
    ///
    /// # Errors
    /// ENOSPC.
    fn write(&mut self, text: &[u8]) -> Result<u16, Errno> {
        let records = text.len().div_ceil(PIECE);
        if usize::from(self.live) + records >= MOST {
            return Err(Errno::ENOSPC);
        }
        // From the end, so that each knows where it goes on.
        let mut more = 0;
        for piece in text.chunks(PIECE).rev() {
            let at = self.take();
            let record = &mut self.names[usize::from(at)];
            record.text[..piece.len()].copy_from_slice(piece);
            record.more = more;
            more = at;
        }
        Ok(more)
    }

    fn take(&mut self) -> u16 {
        self.live += 1;
        if self.free == 0 {
            self.used += 1;
            return self.used - 1;
        }
        let at = self.free;
        self.free = self.get(at).chain;
        at
    }

    /// Takes `name` out of its directory: what is before it there and what is after. The record stays.
    pub(super) fn detach(&mut self, name: u16) -> (u16, u16) {
        let Name {
            before,
            next,
            chain,
            hash,
            ..
        } = *self.get(name);
        let bucket = hash as usize % BUCKETS;
        if self.buckets[bucket] == name {
            self.buckets[bucket] = chain;
        } else {
            let mut at = usize::from(self.buckets[bucket]);
            while self.names[at].chain != name {
                at = usize::from(self.names[at].chain);
            }
            self.names[at].chain = chain;
        }
        if before != 0 {
            self.names[usize::from(before)].next = next;
        }
        if next != 0 {
            self.names[usize::from(next)].before = before;
        }
        (before, next)
    }

    /// Gives back a record that was detached.
    pub(super) fn discard(&mut self, name: u16) {
        let mut at = name;
        while at != 0 {
            let record = &mut self.names[usize::from(at)];
            record.chain = core::mem::replace(&mut self.free, at);
            at = core::mem::take(&mut record.more);
            self.live -= 1;
        }
    }

    /// A name that leads to `file`, wherever it is.
    pub(super) fn any_of(&self, file: FileId, but: u16) -> Option<u16> {
        let mut all = (0..BUCKETS).flat_map(|bucket| {
            let mut at = self.buckets[bucket];
            core::iter::from_fn(move || {
                let here = (at != 0).then_some(at)?;
                at = self.get(here).chain;
                Some(here)
            })
        });
        all.find(|&name| name != but && self.get(name).file == file)
    }
}
