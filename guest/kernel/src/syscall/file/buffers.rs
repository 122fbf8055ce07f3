//! Where a program's bytes are: in one piece, or in the pieces an array of vectors tells of. What is asked for is checked
//! as a whole before a byte is moved; whether there is memory behind it shows when they are.

use super::content::Region;
use crate::mm::is_below_end;
use crate::syscall::Call;
use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most bytes one call moves (Linux's MAX_RW_COUNT).
pub const MOST: u64 = 0x7fff_f000;
const MOST_VECTORS: u64 = 1024;
/// How many vectors of an array are kept at hand.
const AT_HAND: usize = 8;

/// `struct iovec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IoVec {
    base: u64,
    len: u64,
}

/// Where a program's bytes are.
pub trait Buffers {
    /// In how many pieces.
    fn count(&self) -> u64;

    /// How many bytes are asked for: in one piece they may be more than one call moves.
    ///
    /// # Errors
    /// EFAULT if they are not all where a program's memory can be (`access_ok` in Linux's `vfs_read`).
    fn asked(&self) -> Result<u64, Errno>;

    /// Piece number `index`.
    ///
    /// # Errors
    /// EFAULT, EINVAL: the array may have changed since it was checked.
    fn get(&self, call: &mut Call<'_>, index: u64) -> Result<Region, Errno>;

    /// Puts `bytes` where the pieces are, one after the other.
    ///
    /// # Errors
    /// EFAULT; what comes before is there.
    fn scatter(&self, call: &mut Call<'_>, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        for index in 0..self.count() {
            let Region { address, len } = self.get(call, index)?;
            let (piece, after) = rest.split_at(rest.len().min(len as usize));
            call.with_space(|space, memory, world| space.write(memory, world, address, piece))?;
            rest = after;
        }
        Ok(())
    }

    /// Fills `bytes` from the pieces, one after the other.
    ///
    /// # Errors
    /// EFAULT.
    fn gather(&self, call: &mut Call<'_>, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        for index in 0..self.count() {
            let Region { address, len } = self.get(call, index)?;
            let take = rest.len().min(len as usize);
            let (piece, after) = rest.split_at_mut(take);
            call.with_space(|space, memory, world| space.read(memory, world, address, piece))?;
            rest = after;
        }
        Ok(())
    }

    /// How many bytes in all, as far as one call moves them.
    ///
    /// # Errors
    /// As [`Buffers::get`].
    fn total(&self, call: &mut Call<'_>) -> Result<u64, Errno> {
        let mut total = 0u64;
        for index in 0..self.count() {
            total = total.saturating_add(self.get(call, index)?.len);
        }
        Ok(total.min(MOST))
    }
}

/// One piece.
pub struct One(Region);

impl Buffers for One {
    fn count(&self) -> u64 {
        1
    }

    fn asked(&self) -> Result<u64, Errno> {
        let Region { address, len } = self.0;
        if is_below_end(address, len) {
            Ok(len)
        } else {
            Err(Errno::EFAULT)
        }
    }

    fn get(&self, _call: &mut Call<'_>, _index: u64) -> Result<Region, Errno> {
        let Region { address, len } = self.0;
        Ok(Region {
            address,
            len: len.min(MOST),
        })
    }
}

impl One {
    /// That of `len` bytes at `address`.
    pub fn new(address: u64, len: u64) -> One {
        One(Region { address, len })
    }
}

/// A program's array of vectors, all of it checked before anything is moved. Those beyond the first few are read
/// again when their turn comes, and checked again.
pub struct Vectors {
    first: [IoVec; AT_HAND],
    array: u64,
    count: u64,
    asked: u64,
}

impl Vectors {
    /// The `count` vectors at `array`.
    ///
    /// # Errors
    /// EINVAL for more than 1024 and for a length below 0, wherever in the array; else EFAULT if the array can't be read,
    /// or a vector is not all where a program's memory can be, be it empty (`import_iovec`).
    pub fn new(call: &mut Call<'_>, array: u64, count: u64) -> Result<Vectors, Errno> {
        if count > MOST_VECTORS {
            return Err(Errno::EINVAL);
        }
        let mut vectors = Vectors {
            first: [IoVec { base: 0, len: 0 }; AT_HAND],
            array,
            count,
            asked: 0,
        };
        let here = &mut vectors.first[..AT_HAND.min(count as usize)];
        call.with_space(|space, memory, world| space.read(memory, world, array, here.as_mut_bytes()))?;
        let mut all_below_end = true;
        for index in 0..count {
            let IoVec { base, len } = vectors.vector(call, index)?;
            // A single one is cut before it is looked at (`__import_iovec_ubuf`).
            let reach = if count == 1 { len.min(MOST) } else { len };
            all_below_end &= is_below_end(base, reach);
            vectors.asked = vectors.asked.saturating_add(len).min(MOST);
        }
        if all_below_end {
            Ok(vectors)
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Number `index`.
    fn vector(&self, call: &mut Call<'_>, index: u64) -> Result<IoVec, Errno> {
        let vector = match self.first.get(index as usize) {
            Some(vector) => *vector,
            None => call.read(self.array.wrapping_add(index * size_of::<IoVec>() as u64))?,
        };
        if vector.len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(vector)
    }
}

impl Buffers for Vectors {
    fn count(&self) -> u64 {
        self.count
    }

    fn asked(&self) -> Result<u64, Errno> {
        Ok(self.asked)
    }

    fn get(&self, call: &mut Call<'_>, index: u64) -> Result<Region, Errno> {
        let IoVec { base, len } = self.vector(call, index)?;
        Ok(Region {
            address: base,
            len: len.min(MOST),
        })
    }
}

/// Does something with each piece until one is not done whole; how much was done. An error counts only if nothing
/// was done before.
pub fn each<B: Buffers>(
    call: &mut Call<'_>,
    buffers: &B,
    mut work: impl FnMut(&mut Call<'_>, Region, u64) -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    let mut done = 0;
    for index in 0..buffers.count() {
        let part = buffers.get(call, index).and_then(|region| {
            let region = Region {
                len: region.len.min(MOST - done),
                ..region
            };
            if region.len == 0 {
                return Ok((0, 0));
            }
            work(call, region, done).map(|moved| (moved, region.len))
        });
        match part {
            Ok((moved, len)) => {
                done += moved;
                if moved < len {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
