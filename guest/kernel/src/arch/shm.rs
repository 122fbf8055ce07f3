//! `up_shmat` and `up_shmdt`: NuttX's two low-level functions of shared memory, for x86-64.
//!
//! They edit page tables and do nothing else: keys, identifiers, permissions and counts are the business of
//! those above. Over NuttX's pair they have rights, roll a partial map back, use 2 MiB leaves where alignment
//! allows, and say what must be flushed. A [`Space`] is the process's tables, which NuttX takes from the
//! running task.

use abi::Errno;
use paging::{Flush, GuestPhys, GuestVirt, MapError, PAGE_SIZE, Rights, TableMemoryMut};

/// A process's page tables.
pub struct Space<'a, M: TableMemoryMut> {
    /// Where tables lie and new ones come from.
    pub memory: &'a mut M,
    /// The top-level table.
    pub root: GuestPhys,
}

/// The physical pages of what is attached.
#[derive(Clone, Copy, Debug)]
pub enum PageList<'a> {
    /// One contiguous run from here: what a window holds.
    Run(GuestPhys),
    /// The address of each page: NuttX's form.
    #[cfg_attr(not(test), expect(dead_code, reason = "a window holds segments in one run"))]
    Pages(&'a [GuestPhys]),
    /// What this table maps, which all who attach it link.
    Shared(GuestPhys),
}

/// Maps `npages` pages of `pages` at `vaddr`. Nothing needs flushing, except after a failure with a list: part
/// of it may have been there for a moment, and other vCPUs that run the program may have looked.
///
/// # Errors
/// ENOMEM when page tables run out, EINVAL when something is mapped in the range or the list is too short;
/// then the range is as it was.
pub fn up_shmat<M: TableMemoryMut>(
    space: &mut Space<'_, M>,
    pages: PageList<'_>,
    npages: u64,
    vaddr: GuestVirt,
    prot: Rights,
) -> Result<(), Errno> {
    let pages = match pages {
        PageList::Run(start) => return map_run(space, vaddr, start, npages, prot),
        PageList::Shared(table) => {
            return paging::link(space.memory, space.root, vaddr, table, npages, prot).map_err(errno);
        }
        PageList::Pages(pages) => pages.get(..npages as usize).ok_or(Errno::EINVAL)?,
    };
    let mut done = 0;
    while let Some((&start, rest)) = pages[done..].split_first() {
        let follows = |(i, page): (usize, &GuestPhys)| *page == start.add((i as u64 + 1) * PAGE_SIZE);
        let run = 1 + rest
            .iter()
            .enumerate()
            .take_while(|&(i, page)| follows((i, page)))
            .count();
        if let Err(error) = map_run(space, vaddr.add(done as u64 * PAGE_SIZE), start, run as u64, prot) {
            let _ = up_shmdt(space, vaddr, done as u64);
            return Err(error);
        }
        done += run;
    }
    Ok(())
}

fn map_run<M: TableMemoryMut>(
    space: &mut Space<'_, M>,
    vaddr: GuestVirt,
    start: GuestPhys,
    npages: u64,
    prot: Rights,
) -> Result<(), Errno> {
    paging::map(space.memory, space.root, vaddr, start, npages, prot).map_err(errno)
}

fn errno(error: MapError) -> Errno {
    match error {
        MapError::OutOfTables => Errno::ENOMEM,
        MapError::Occupied(_) => Errno::EINVAL,
    }
}

/// Removes what is mapped in `npages` pages from `vaddr`; pages without a mapping are fine. Spend the answer
/// before any of it is used again.
///
/// The range must not cut a 2 MiB leaf, nor what a shared table maps: fragments of an attach came to be by changes that
/// have split it.
pub fn up_shmdt<M: TableMemoryMut>(space: &mut Space<'_, M>, vaddr: GuestVirt, npages: u64) -> Flush {
    match paging::unmap(space.memory, space.root, vaddr, npages, |_, _| {}) {
        Ok(flush) => flush,
        Err(error) => unreachable!("{npages} pages at {vaddr:?} cut a large page: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paging::{LARGE_PAGE_SIZE, TableMemory, for_each_leaf, lookup};
    use std::collections::HashMap;

    const ROOT: GuestPhys = GuestPhys::new(0x1000);
    const BASE: GuestVirt = GuestVirt::new(0x7000_0000_0000);
    const USER: Rights = Rights::USER;

    #[derive(Default)]
    struct Tables {
        words: HashMap<(u64, usize), u64>,
        made: u64,
        retired: u64,
        left: u64,
    }

    impl TableMemory for Tables {
        fn load(&self, table: GuestPhys, index: usize) -> u64 {
            self.words.get(&(table.get(), index)).copied().unwrap_or(0)
        }
    }

    impl TableMemoryMut for Tables {
        fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
            self.words.insert((table.get(), index), value);
        }
        fn allocate(&mut self) -> Option<GuestPhys> {
            self.left = self.left.checked_sub(1)?;
            self.made += 1;
            Some(ROOT.add(self.made * PAGE_SIZE))
        }
        fn retire(&mut self, _table: GuestPhys) {
            self.retired += 1;
        }
    }

    fn tables(left: u64) -> Tables {
        Tables {
            left,
            ..Tables::default()
        }
    }

    fn leaves(tables: &Tables, pages: u64) -> Vec<(u64, u64, u64)> {
        let mut seen = vec![];
        for_each_leaf(tables, ROOT, BASE, pages, |leaf| {
            seen.push((leaf.virt.get() - BASE.get(), leaf.phys.get(), leaf.size));
        });
        seen
    }

    fn scattered() -> Vec<GuestPhys> {
        [7, 8, 9, 3, 1, 2]
            .map(|page| GuestPhys::new(0x80_0000 + page * PAGE_SIZE))
            .to_vec()
    }

    #[test]
    fn a_list_of_scattered_pages_appears_in_its_order() {
        let mut memory = tables(10);
        let mut space = Space {
            memory: &mut memory,
            root: ROOT,
        };
        let pages = scattered();
        up_shmat(&mut space, PageList::Pages(&pages), 6, BASE, USER | Rights::WRITE).unwrap();
        let expected: Vec<_> = pages
            .iter()
            .enumerate()
            .map(|(i, page)| (i as u64 * PAGE_SIZE, page.get(), PAGE_SIZE))
            .collect();
        assert_eq!(leaves(&memory, 6), expected);
        assert_eq!(lookup(&memory, ROOT, BASE).unwrap().rights, USER | Rights::WRITE);
    }

    #[test]
    fn aligned_runs_and_contiguous_lists_get_large_leaves() {
        let start = GuestPhys::new(0x40_0000_0000);
        let list: Vec<_> = (0..513).map(|page| start.add(page * PAGE_SIZE)).collect();
        for pages in [PageList::Run(start), PageList::Pages(&list)] {
            let mut memory = tables(10);
            up_shmat(
                &mut Space {
                    memory: &mut memory,
                    root: ROOT,
                },
                pages,
                513,
                BASE,
                USER,
            )
            .unwrap();
            let second = start.get() + LARGE_PAGE_SIZE;
            let expected = vec![
                (0, start.get(), LARGE_PAGE_SIZE),
                (LARGE_PAGE_SIZE, second, PAGE_SIZE),
            ];
            assert_eq!(leaves(&memory, 513), expected);
        }
    }

    #[test]
    fn a_map_that_runs_out_of_tables_is_rolled_back() {
        // The list begins in the last two pages of one leaf table; the next one is not to be had.
        let pages = scattered();
        let near_end = BASE.add(LARGE_PAGE_SIZE - 3 * PAGE_SIZE);
        let mut memory = tables(3);
        let mut space = Space {
            memory: &mut memory,
            root: ROOT,
        };
        let result = up_shmat(&mut space, PageList::Pages(&pages), 6, near_end, USER);
        assert_eq!(result, Err(Errno::ENOMEM));
        assert_eq!(leaves(&memory, 1024), []);
        assert_eq!(memory.retired, memory.made);
    }

    #[test]
    fn nothing_that_is_mapped_is_replaced() {
        let mut memory = tables(10);
        let mut space = Space {
            memory: &mut memory,
            root: ROOT,
        };
        let taken = GuestPhys::new(0x5000);
        up_shmat(&mut space, PageList::Run(taken), 1, BASE.add(3 * PAGE_SIZE), USER).unwrap();
        let pages = scattered();
        assert_eq!(
            up_shmat(&mut space, PageList::Pages(&pages), 6, BASE, USER),
            Err(Errno::EINVAL)
        );
        assert_eq!(leaves(&memory, 6), [(3 * PAGE_SIZE, 0x5000, PAGE_SIZE)]);
    }

    #[test]
    fn a_list_shorter_than_asked_for_is_refused() {
        let mut memory = tables(10);
        let mut space = Space {
            memory: &mut memory,
            root: ROOT,
        };
        assert_eq!(
            up_shmat(&mut space, PageList::Pages(&[]), 1, BASE, USER),
            Err(Errno::EINVAL)
        );
        assert_eq!(memory.made, 0);
    }

    #[test]
    fn detaching_tolerates_empty_entries_and_names_what_is_stale() {
        let mut memory = tables(10);
        let mut space = Space {
            memory: &mut memory,
            root: ROOT,
        };
        let start = GuestPhys::new(0x9000);
        up_shmat(&mut space, PageList::Run(start), 2, BASE.add(4 * PAGE_SIZE), USER).unwrap();
        let flush = up_shmdt(&mut space, BASE, 16);
        assert_eq!((flush.start(), flush.pages()), (BASE.add(4 * PAGE_SIZE), 2));
        assert!(!up_shmdt(&mut space, BASE, 16).needs_flush());
        assert_eq!(memory.retired, memory.made);
    }
}
