//! [`Table`]: things that several tasks or processes may have in common, each with a count of its users.

use super::slots::Slots;
use core::ops::{Index, IndexMut};

/// One of them, or a free entry, whose value means nothing.
pub struct Entry<T> {
    users: u16,
    value: T,
}

impl<T> Entry<T> {
    /// A free entry.
    pub const fn free(value: T) -> Entry<T> {
        Entry { users: 0, value }
    }
}

/// All things of one kind.
pub struct Table<T: 'static> {
    entries: &'static mut [Entry<T>],
    slots: Slots,
}

impl<T> Table<T> {
    /// A table for `size` things, without room for any until [`Table::init`].
    pub const fn empty(size: usize) -> Table<T> {
        Table {
            entries: &mut [],
            slots: Slots::new(size),
        }
    }

    /// Gives it its room. Once.
    pub fn init(&mut self, room: &'static mut [Entry<T>]) {
        self.entries = room;
    }

    /// Takes a free entry, which has one user and the value it had before. Tables are as large as there can be users.
    pub fn take(&mut self) -> u16 {
        let number = self.slots.take().expect("there are no more things than users");
        self.entries[usize::from(number)].users = 1;
        number
    }

    /// Number `number` has one user more.
    pub fn share(&mut self, number: u16) {
        self.entries[usize::from(number)].users += 1;
    }

    /// The values of all entries.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// How many users number `number` has.
    pub fn users(&self, number: u16) -> u16 {
        self.entries[usize::from(number)].users
    }

    /// Number `number` has one user less. Whether that was the last one: then the entry is free, and its value is to be
    /// taken out of it, if it has to end.
    #[must_use = "what nobody uses has to end"]
    pub fn release(&mut self, number: u16) -> bool {
        let users = &mut self.entries[usize::from(number)].users;
        *users -= 1;
        let last = *users == 0;
        if last {
            self.slots.give(number);
        }
        last
    }
}

impl<T> Index<u16> for Table<T> {
    type Output = T;
    fn index(&self, number: u16) -> &T {
        &self.entries[usize::from(number)].value
    }
}

impl<T> IndexMut<u16> for Table<T> {
    fn index_mut(&mut self, number: u16) -> &mut T {
        &mut self.entries[usize::from(number)].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_ends_with_its_last_user() {
        let mut table = Table::empty(2);
        table.init(Box::leak(Box::new([Entry::free(0), Entry::free(0)])));
        let (first, second) = (table.take(), table.take());
        table[first] = 7;
        table[second] = 8;
        table.share(first);
        assert_eq!((table.users(first), table.users(second)), (2, 1));
        assert!(!table.release(first));
        assert!(table.release(second));
        assert_eq!(table[first], 7);
        assert!(table.release(first));
        assert_eq!(table.take(), first);
    }
}
