//! The guest's address spaces. All threads of a process use one, and so do those of a child that vfork(2) or clone(2)
//! with CLONE_VM has made. Whoever takes the last user away ends it.

use super::shared::{Entry, Table};
use crate::arch::lent::Reserve;
use crate::mm::AddressSpace;
use abi::MAX_TASKS;
use core::ops::{Index, IndexMut};

/// One for each task, and one that execve(2) is making.
const MAX_SPACES: usize = MAX_TASKS + 1;

/// What an entry of the table holds. All bytes of a free one are zero, so that the room for them stays in BSS.
#[repr(u8)]
enum Place {
    Free,
    Used(AddressSpace),
}

static ROOM: Reserve<[Entry<Place>; MAX_SPACES]> =
    Reserve::new([const { Entry::free(Place::Free) }; MAX_SPACES]);

/// All address spaces of the guest, by number.
pub struct Spaces(Table<Place>);

impl Spaces {
    /// No room for any, until [`Spaces::init`].
    pub const fn empty() -> Spaces {
        Spaces(Table::empty(MAX_SPACES))
    }

    /// Takes the room. Once.
    pub fn init(&mut self) {
        self.0.init(ROOM.take().expect("a kernel boots once"));
    }

    /// Adds `space`, which has one user.
    pub fn add(&mut self, space: AddressSpace) -> u16 {
        let number = self.0.take();
        self.0[number] = Place::Used(space);
        number
    }

    /// One task more uses space `number`.
    pub fn share(&mut self, number: u16) {
        self.0.share(number);
    }

    /// How many tasks use space `number`.
    pub fn users(&self, number: u16) -> u16 {
        self.0.users(number)
    }

    /// One task less uses space `number`. Returns it if that was the last one, to be destroyed.
    #[must_use = "an address space that nobody uses must be destroyed"]
    pub fn release(&mut self, number: u16) -> Option<AddressSpace> {
        if !self.0.release(number) {
            return None;
        }
        match core::mem::replace(&mut self.0[number], Place::Free) {
            Place::Used(space) => Some(space),
            Place::Free => None,
        }
    }

    /// All that are in use.
    pub fn all(&mut self) -> impl Iterator<Item = &mut AddressSpace> {
        self.0.values_mut().filter_map(|place| match place {
            Place::Used(space) => Some(space),
            Place::Free => None,
        })
    }
}

impl Index<u16> for Spaces {
    type Output = AddressSpace;
    fn index(&self, number: u16) -> &AddressSpace {
        match &self.0[number] {
            Place::Used(space) => space,
            Place::Free => unused(number),
        }
    }
}

impl IndexMut<u16> for Spaces {
    fn index_mut(&mut self, number: u16) -> &mut AddressSpace {
        match &mut self.0[number] {
            Place::Used(space) => space,
            Place::Free => unused(number),
        }
    }
}

#[cold]
fn unused(number: u16) -> ! {
    panic!("no task uses address space {number}")
}
