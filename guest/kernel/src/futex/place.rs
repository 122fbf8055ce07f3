//! What a program's address means as a futex word: who can reach it, and by what it is known to all who can.

use super::shared::SharedWord;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::mm::area::{Backing, FilePart, Prot};
use crate::mm::{Access, Run};
use crate::process::task::FutexKey;
use ::futex::FUTEX_BITSET_MATCH_ANY;
use abi::Errno;
use abi::memory::USER_END;
use abi::object::WORD_OF_OBJECT;
use paging::GuestVirt;

/// Whom a call means (`FUTEX_PRIVATE_FLAG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whoever else has the word mapped, too.
    Shared,
    /// The process alone.
    Private,
}

/// Where a word's waiters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this kernel's queues.
    Local(FutexKey),
    /// In the broker's.
    Segment(SharedWord),
}

impl Kernel {
    /// What the word at `address` is to task `task`, which means `scope` and will access it so. The order of checks is
    /// that of Linux's `get_futex_key`: of a private word there is none but of its address.
    ///
    /// # Errors
    /// EINVAL if the address is crooked; EFAULT.
    pub fn place_of(
        &mut self,
        cpu: &'static Cpu,
        task: u16,
        address: u64,
        scope: Scope,
        access: Access,
    ) -> Result<Place, Errno> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let private = |flagged| {
            Place::Local(FutexKey::Private {
                space: self.tasks[usize::from(task)].space,
                address,
                flagged,
            })
        };
        let (flagged, unflagged) = (private(true), private(false));
        if scope == Scope::Private {
            return if address > USER_END {
                Err(Errno::EFAULT)
            } else {
                Ok(flagged)
            };
        }
        self.with_space(cpu, task, |space, memory, world| {
            let area = space
                .area_at(memory, GuestVirt::new(address))
                .filter(|area| area.prot.allows(access))
                .ok_or(Errno::EFAULT)?;
            match area.backing {
                Backing::Segment(part) => {
                    let into = address - area.start.get();
                    if into >= part.left() {
                        return Err(Errno::EFAULT);
                    }
                    Ok(Place::Segment(SharedWord {
                        id: part.id as u64,
                        offset: part.offset + into,
                    }))
                }
                Backing::File(part) if part.shared && memory.contents.object(part.file).is_some() => {
                    // Where it isn't shown yet the host couldn't look at it.
                    space.run(memory, world, address, 4, access)?;
                    let serial = memory.contents.object(part.file).ok_or(Errno::EFAULT)?;
                    Ok(Place::Segment(SharedWord {
                        id: WORD_OF_OBJECT | serial,
                        offset: part.offset + address - area.start.get(),
                    }))
                }
                Backing::SharedAnonymous { byte, .. } => {
                    // Beyond the end of it there is nothing.
                    space.run(memory, world, address, 4, access)?;
                    let into = address - area.start.get();
                    Ok(Place::Local(FutexKey::Anonymous(byte + into)))
                }
                Backing::File(FilePart { shared: true, .. }) => {
                    match space.run(memory, world, address, 4, access)? {
                        Run::Ram(gpa, _) => Ok(Place::Local(FutexKey::Shared(gpa.get()))),
                        Run::Segment(_) => Err(Errno::EFAULT),
                    }
                }
                // As Linux: nobody will ever change it, so it makes no sense as a futex.
                Backing::Anonymous if !area.prot.contains(Prot::WRITE) => Err(Errno::EFAULT),
                _ => Ok(unflagged),
            }
        })
    }

    /// Wakes one of those who wait for the word at `address` of task `task`, wherever they have it mapped, as the
    /// kernel does for a thread that ends. Nothing happens if there is no such word.
    pub fn wake_word(&mut self, cpu: &'static Cpu, task: u16, address: u64) {
        if let Ok(place) = self.place_of(cpu, task, address, Scope::Shared, Access::Read) {
            // Nobody is left to be told of an error.
            let _ = self.wake_at(cpu, place, 1, FUTEX_BITSET_MATCH_ANY);
        }
    }

    /// Wakes at most `count` of those who wait for a word, with a bit of `bitset`. How many.
    ///
    /// # Errors
    /// What the broker says.
    pub fn wake_at(
        &mut self,
        cpu: &'static Cpu,
        place: Place,
        count: u64,
        bitset: u32,
    ) -> Result<u64, Errno> {
        match place {
            Place::Local(key) => Ok(self.wake_futex(cpu, key, count, bitset)),
            Place::Segment(word) => self.wake_shared(cpu, word, count, bitset),
        }
    }
}
