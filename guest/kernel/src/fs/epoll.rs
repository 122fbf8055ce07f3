//! What epoll(7) watches: sets of open files, each with what is wanted of it. A watch is known by descriptor and open file,
//! and goes with the last user of the open file. Whether something is ready is asked when somebody looks
//! ([`crate::syscall`]); here is only what is watched.

#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use abi::Errno;

/// Most sets of a guest.
const MOST_SETS: usize = 64;
/// Most watches of all sets.
const MOST: usize = 1024;
/// No watch, in links: slot 0 is never used.
const NONE: u16 = 0;

/// One open file that is watched.
#[derive(Clone, Copy)]
pub struct Watch {
    /// The descriptor it was given by.
    pub fd: u32,
    /// The open file.
    pub open: u16,
    /// What is wanted, and how it is to be told.
    pub events: u32,
    /// What the program wants to be told with it.
    pub data: u64,
    /// How often something had come and room had when it was told last; `None` if it has not been told.
    pub told: Option<(u32, u32)>,
    /// It has been told once, as it was to be, and waits to be changed.
    pub done: bool,
    next: u16,
}

impl Watch {
    /// A watch that has not been told of.
    pub const fn new(fd: u32, open: u16, events: u32, data: u64) -> Watch {
        Watch {
            fd,
            open,
            events,
            data,
            told: None,
            done: false,
            next: NONE,
        }
    }
}

/// One set: a list of watches, in the order they are told.
#[derive(Clone, Copy)]
struct Set {
    used: bool,
    first: u16,
    last: u16,
}

const UNUSED: Watch = Watch::new(0, 0, 0, 0);

#[cfg(target_os = "none")]
static ROOM: Reserve<[Watch; MOST]> = Reserve::new([UNUSED; MOST]);

/// All sets.
pub struct Sets {
    sets: [Set; MOST_SETS],
    watches: &'static mut [Watch],
    /// Slots given back.
    free: u16,
    /// Slots that have been used so far.
    used: u16,
    live: u16,
}

impl Sets {
    pub(super) const fn empty() -> Sets {
        Sets {
            sets: [Set {
                used: false,
                first: NONE,
                last: NONE,
            }; MOST_SETS],
            watches: &mut [],
            free: NONE,
            used: 1,
            live: 0,
        }
    }

    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let watches = ROOM.take().expect("a kernel has one table of watches");
        #[cfg(not(target_os = "none"))]
        let watches = Box::leak(vec![UNUSED; MOST].into_boxed_slice());
        self.watches = watches;
    }

    /// Watches and sets in use.
    pub fn live(&self) -> u64 {
        let sets = self.sets.iter().filter(|set| set.used).count();
        sets as u64 + u64::from(self.live)
    }

    /// A new set.
    ///
    /// # Errors
    /// ENFILE.
    pub fn make(&mut self) -> Result<u16, Errno> {
        let set = self.sets.iter().position(|set| !set.used).ok_or(Errno::ENFILE)?;
        self.sets[set].used = true;
        Ok(set as u16)
    }

    /// Set `set` is not needed any more.
    pub fn drop_set(&mut self, set: u16) {
        while self.sets[usize::from(set)].first != NONE {
            self.remove_after(set, NONE);
        }
        self.sets[usize::from(set)].used = false;
    }

    /// The watch number `watch`, to change.
    pub fn get(&mut self, watch: u16) -> &mut Watch {
        &mut self.watches[usize::from(watch)]
    }

    /// The watch number `watch`, to look at.
    pub fn peek(&self, watch: u16) -> &Watch {
        &self.watches[usize::from(watch)]
    }

    /// The watches of set `set`, by number.
    pub fn of(&self, set: u16) -> impl Iterator<Item = u16> + '_ {
        let some = |watch: u16| (watch != NONE).then_some(watch);
        core::iter::successors(some(self.sets[usize::from(set)].first), move |&watch| {
            some(self.watches[usize::from(watch)].next)
        })
    }

    /// The first watch of a set.
    pub fn first(&self, set: u16) -> Option<u16> {
        self.of(set).next()
    }

    /// The one after `watch`.
    pub fn after(&self, watch: u16) -> Option<u16> {
        let next = self.watches[usize::from(watch)].next;
        (next != NONE).then_some(next)
    }

    /// The watch of set `set` for this descriptor and open file.
    pub fn find(&self, set: u16, fd: u32, open: u16) -> Option<u16> {
        self.of(set).find(|&watch| {
            let watch = &self.watches[usize::from(watch)];
            (watch.fd, watch.open) == (fd, open)
        })
    }

    /// One more for set `set`, told last.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn add(&mut self, set: u16, watch: Watch) -> Result<(), Errno> {
        let slot = if self.free != NONE {
            self.free
        } else if usize::from(self.used) < MOST {
            self.used += 1;
            self.used - 1
        } else {
            return Err(Errno::ENOSPC);
        };
        if slot == self.free {
            self.free = self.watches[usize::from(slot)].next;
        }
        self.watches[usize::from(slot)] = watch;
        self.live += 1;
        self.append(set, slot);
        Ok(())
    }

    fn append(&mut self, set: u16, slot: u16) {
        self.watches[usize::from(slot)].next = NONE;
        let set = &mut self.sets[usize::from(set)];
        match set.last {
            NONE => set.first = slot,
            last => self.watches[usize::from(last)].next = slot,
        }
        set.last = slot;
    }

    /// Takes the watch that comes after `before` out of the list, the first one for none: its number.
    fn unlink_after(&mut self, set: u16, before: u16) -> u16 {
        let set = &mut self.sets[usize::from(set)];
        let slot = match before {
            NONE => set.first,
            before => self.watches[usize::from(before)].next,
        };
        let next = self.watches[usize::from(slot)].next;
        match before {
            NONE => set.first = next,
            before => self.watches[usize::from(before)].next = next,
        }
        if set.last == slot {
            set.last = before;
        }
        slot
    }

    fn remove_after(&mut self, set: u16, before: u16) {
        let slot = self.unlink_after(set, before);
        self.watches[usize::from(slot)].next = self.free;
        self.free = slot;
        self.live -= 1;
    }

    fn before(&self, set: u16, watch: u16) -> u16 {
        self.of(set)
            .take_while(|&other| other != watch)
            .last()
            .unwrap_or(NONE)
    }

    /// Takes watch `watch` out of set `set`.
    pub fn remove(&mut self, set: u16, watch: u16) {
        let before = self.before(set, watch);
        self.remove_after(set, before);
    }

    /// Watch `watch` of set `set` is told last from now on.
    pub fn put_last(&mut self, set: u16, watch: u16) {
        let before = self.before(set, watch);
        let slot = self.unlink_after(set, before);
        self.append(set, slot);
    }

    /// Open file `open` is no more: nobody watches it.
    pub fn forget(&mut self, open: u16) {
        if self.live == 0 {
            return;
        }
        for set in 0..MOST_SETS as u16 {
            while let Some(watch) = self.watching(set, open) {
                self.remove(set, watch);
            }
        }
    }

    fn watching(&self, set: u16, open: u16) -> Option<u16> {
        self.of(set).find(|&watch| self.peek(watch).open == open)
    }
}
