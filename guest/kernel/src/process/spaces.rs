//! The guest's address spaces, and how many tasks use each: all threads of a process use one, and so do those of a
//! child that vfork(2) or clone(2) with CLONE_VM has made. Whoever takes the last user away ends it.

use super::slots::Slots;
use crate::arch::lent::Reserve;
use crate::mm::AddressSpace;
use abi::MAX_TASKS;
use core::ops::{Index, IndexMut};

/// One for each task, and one that execve(2) is making.
const MAX_SPACES: usize = MAX_TASKS + 1;

/// An entry of the table. All bytes of a free one are zero, so that the room for them stays in BSS.
#[repr(u8)]
enum Entry {
    Free,
    Used { users: u16, space: AddressSpace },
}

static ROOM: Reserve<[Entry; MAX_SPACES]> = Reserve::new([const { Entry::Free }; MAX_SPACES]);

/// All address spaces of the guest.
pub struct Spaces {
    entries: &'static mut [Entry],
    slots: Slots,
}

impl Spaces {
    /// No room for any, until [`Spaces::init`].
    pub const fn empty() -> Spaces {
        Spaces {
            entries: &mut [],
            slots: Slots::new(MAX_SPACES),
        }
    }

    /// Takes the room. Once.
    pub fn init(&mut self) {
        self.entries = ROOM.take().expect("a kernel boots once");
    }

    /// Adds `space`, which has one user. There is always room: see [`MAX_SPACES`].
    pub fn add(&mut self, space: AddressSpace) -> u16 {
        let number = self.slots.take().expect("every task has one space at most");
        self.entries[usize::from(number)] = Entry::Used { users: 1, space };
        number
    }

    /// One task more uses space `number`.
    pub fn share(&mut self, number: u16) {
        *self.users_mut(number) += 1;
    }

    /// How many tasks use space `number`.
    pub fn users(&mut self, number: u16) -> u16 {
        *self.users_mut(number)
    }

    /// One task less uses space `number`. Returns it if that was the last one, to be destroyed.
    #[must_use = "an address space that nobody uses must be destroyed"]
    pub fn release(&mut self, number: u16) -> Option<AddressSpace> {
        let users = self.users_mut(number);
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.slots.give(number);
        match core::mem::replace(&mut self.entries[usize::from(number)], Entry::Free) {
            Entry::Used { space, .. } => Some(space),
            Entry::Free => None,
        }
    }

    /// All that are in use.
    pub fn all(&mut self) -> impl Iterator<Item = &mut AddressSpace> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Used { space, .. } => Some(space),
            Entry::Free => None,
        })
    }

    fn users_mut(&mut self, number: u16) -> &mut u16 {
        match &mut self.entries[usize::from(number)] {
            Entry::Used { users, .. } => users,
            Entry::Free => unused(number),
        }
    }
}

impl Index<u16> for Spaces {
    type Output = AddressSpace;
    fn index(&self, number: u16) -> &AddressSpace {
        match &self.entries[usize::from(number)] {
            Entry::Used { space, .. } => space,
            Entry::Free => unused(number),
        }
    }
}

impl IndexMut<u16> for Spaces {
    fn index_mut(&mut self, number: u16) -> &mut AddressSpace {
        match &mut self.entries[usize::from(number)] {
            Entry::Used { space, .. } => space,
            Entry::Free => unused(number),
        }
    }
}

#[cold]
fn unused(number: u16) -> ! {
    panic!("no task uses address space {number}")
}
