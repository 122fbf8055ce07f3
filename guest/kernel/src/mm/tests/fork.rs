//! Several address spaces that come from each other by fork, beside a model that knows what each page of each
//! holds. After each step: every leaf is right, the counts of frames are exactly the leaves over them, private
//! memory has one writer, attaches are counted, nothing leaks, and what became stale has been flushed.

use super::super::area::{Advice, Backing, Prot, Window};
use super::super::fault::{Access, Fault};
use super::super::pool::MOST_AREAS;
use super::super::space::Lowest;
use super::super::{AddressSpace, Memory, Place, Placement};
use super::fork_ops::{DOFORK, DONTFORK, DONTNEED, KEEPONFORK, Op, RW, WIPEONFORK, op, scarce};
use super::model::{FILE_LEN, SEGMENTS, WRITTEN, file_byte, segment, segment_byte};
use super::scarce::Scarce;
use super::{Booking, FILE, FakeWorld, LOADED, end, leaves, loaded_space, memory, tables};
use crate::arch::direct;
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Rights, lookup};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of shared anonymous memory, which no segment has, begin here.
const FIRST_OBJECT: i32 = 100;
/// Most processes at a time.
const PROCESSES: usize = 4;

fn virt(page: u64) -> GuestVirt {
    GuestVirt::new(page * PAGE_SIZE)
}

/// What is behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// What was last written, and what is there without.
    Private { written: Option<u8>, file: Option<u64> },
    /// A page of a shared thing: a segment (by id), or an anonymous object (from 100 on).
    Shared { object: i32, page: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    prot: Prot,
    behind: Behind,
    advice: Advice,
}

#[derive(Clone, Default)]
struct Process {
    pages: BTreeMap<u64, Page>,
}

pub(super) struct Test {
    pub(super) memory: Memory,
    pub(super) world: FakeWorld,
    pub(super) spaces: Vec<AddressSpace>,
    model: Vec<Process>,
    /// What has been written to shared pages.
    shared: BTreeMap<(i32, u64), u8>,
    objects: i32,
}

impl Test {
    pub(super) fn new() -> Test {
        let mut memory = memory();
        for offset in (0..FILE_LEN).step_by(PAGE_SIZE as usize) {
            direct::write(FILE.add(offset), &[file_byte(offset); PAGE_SIZE as usize]);
        }
        for id in 1..=SEGMENTS.len() as i32 {
            for page in 0..SEGMENTS[id as usize - 1].div_ceil(PAGE_SIZE) {
                let gpa = segment(id, Window::ReadWrite).gpa.add(page * PAGE_SIZE);
                direct::write(gpa.add(WRITTEN), &[segment_byte(id, page)]);
            }
        }
        let mut space = loaded_space(&mut memory);
        space.lowest = Lowest::Zero;
        Test {
            memory,
            world: FakeWorld::default(),
            spaces: vec![space],
            model: vec![Process::default()],
            shared: BTreeMap::new(),
            objects: FIRST_OBJECT,
        }
    }

    fn byte(&self, page: &Page) -> u8 {
        match page.behind {
            Behind::Private {
                written: Some(value), ..
            } => value,
            Behind::Private { file: Some(page), .. } => {
                let at = page * PAGE_SIZE + WRITTEN;
                if at < FILE_LEN { file_byte(at) } else { 0 }
            }
            Behind::Private { .. } => 0,
            Behind::Shared { object, page } => {
                let initial = if object < FIRST_OBJECT {
                    segment_byte(object, page)
                } else {
                    0
                };
                self.shared.get(&(object, page)).copied().unwrap_or(initial)
            }
        }
    }

    pub(super) fn step(&mut self, who: usize, op: &Op, scarce: Scarce) {
        let who = who % self.spaces.len();
        let before: Vec<_> = (0..self.spaces.len())
            .map(|index| self.pages_mapped(index))
            .collect();
        self.world.flushed.clear();
        self.world.booked.clear();
        let inherited = self.attached(who, Advice::LEFT_OUT);
        let held = self.attached(who, Advice::empty());
        let processes = self.spaces.len();
        let withheld = scarce.begin(&mut self.memory, &mut self.world);
        let gone = self.apply(who, op, !matches!(scarce, Scarce::Nothing));
        withheld.end(&mut self.memory, &mut self.world);
        if gone {
            assert_eq!(
                self.world.booked,
                held.into_iter().map(Booking::Gone).collect::<Vec<_>>()
            );
        } else if self.spaces.len() > processes {
            assert_eq!(
                self.world.booked,
                inherited.into_iter().map(Booking::More).collect::<Vec<_>>()
            );
        }
        self.check_leaves(op);
        self.check_counts();
        self.check_attaches();
        for (index, before) in before.iter().enumerate() {
            if !gone {
                self.check_flushes(index, before, op);
            }
        }
    }

    /// Does `op` on both sides. Whether a process has gone.
    fn apply(&mut self, who: usize, op: &Op, scarce: bool) -> bool {
        let Test {
            memory,
            world,
            spaces,
            model,
            ..
        } = self;
        let processes = model.len();
        let space = &mut spaces[who];
        let pages_of = &mut model[who].pages;
        let settle = |answer: Result<(), Errno>, expected: Result<(), Errno>| {
            assert!(
                answer == expected || (scarce && matches!(answer, Err(Errno::ENOMEM | Errno::EAGAIN))),
                "{op:?}: {answer:?}"
            );
            answer.is_ok()
        };
        match *op {
            Op::Map {
                page,
                pages,
                prot,
                kind,
            } => {
                let file = (kind == 1).then_some(page % 8).filter(|_| pages < 40);
                let shared = kind == 2;
                let backing = match file {
                    Some(first) => Backing::Image {
                        phys: FILE.add(first * PAGE_SIZE),
                        len: FILE_LEN - first * PAGE_SIZE,
                    },
                    None if shared => Backing::SharedAnonymous {
                        byte: 0,
                        first: 0,
                        len: pages * PAGE_SIZE,
                    },
                    None => Backing::Anonymous,
                };
                let at = Placement::Fixed(virt(page));
                let answer = space.map(memory, world, at, pages * PAGE_SIZE, prot, Prot::all(), backing);
                if settle(answer.map(drop), Ok(())) {
                    self.objects += 1;
                    for offset in 0..pages {
                        let behind = if shared {
                            Behind::Shared {
                                object: self.objects,
                                page: offset,
                            }
                        } else {
                            Behind::Private {
                                written: None,
                                file: file.map(|first| first + offset),
                            }
                        };
                        pages_of.insert(
                            page + offset,
                            Page {
                                prot,
                                behind,
                                advice: Advice::empty(),
                            },
                        );
                    }
                }
            }
            Op::Unmap { page, pages } => {
                let answer = space.unmap(memory, world, virt(page), pages * PAGE_SIZE);
                if settle(answer, Ok(())) {
                    pages_of.retain(|at, _| !(page..page + pages).contains(at));
                }
            }
            Op::Protect { page, pages, prot } => {
                // Whole or not at all, so that a lack of memory is easy to follow.
                let area = space.area_at(memory, virt(page));
                let Some(pages) = area.map(|area| pages.min(area.end.get() / PAGE_SIZE - page)) else {
                    return false;
                };
                let answer = space.protect(memory, world, virt(page), pages * PAGE_SIZE, prot);
                if settle(answer, Ok(())) {
                    for (_, page) in pages_of.range_mut(page..page + pages) {
                        page.prot = prot;
                    }
                }
            }
            Op::Move { page, pages, to } => {
                let area = space.area_at(memory, virt(page));
                let Some(pages) = area.map(|area| pages.min(area.end.get() / PAGE_SIZE - page)) else {
                    return false;
                };
                if to < page + pages && page < to + pages {
                    return false;
                }
                let len = pages * PAGE_SIZE;
                // Even if it fails, the new range may have been cleared.
                if space.unmap(memory, world, virt(to), len).is_err() {
                    return false;
                }
                pages_of.retain(|at, _| !(to..to + pages).contains(at));
                let answer = space.remap(memory, world, virt(page), len, len, 3, virt(to));
                if settle(answer.map(drop), Ok(())) {
                    for offset in 0..pages {
                        let moved = pages_of.remove(&(page + offset)).unwrap();
                        pages_of.insert(to + offset, moved);
                    }
                }
            }
            Op::Advise { page, pages, advice } => {
                let Some(area) = space.area_at(memory, virt(page)) else {
                    return false;
                };
                let pages = pages.min(area.end.get() / PAGE_SIZE - page);
                let answer = space.advise(memory, world, virt(page), pages * PAGE_SIZE, advice);
                let refused = advice == WIPEONFORK && area.backing != Backing::Anonymous;
                let expected = if refused { Err(Errno::EINVAL) } else { Ok(()) };
                if settle(answer, expected) && answer.is_ok() {
                    for (_, page) in pages_of.range_mut(page..page + pages) {
                        match (advice, &mut page.behind) {
                            (DONTNEED, Behind::Private { written, .. }) => *written = None,
                            (DONTFORK, _) => page.advice |= Advice::LEFT_OUT,
                            (DOFORK, _) => page.advice -= Advice::LEFT_OUT,
                            (WIPEONFORK, _) => page.advice |= Advice::WIPED,
                            (KEEPONFORK, _) => page.advice -= Advice::WIPED,
                            _ => {}
                        }
                    }
                }
            }
            Op::Attach { page, id } => {
                let segment = segment(id, Window::ReadWrite);
                let pages = segment.mapped_size() / PAGE_SIZE;
                let can = space.can_attach(memory, Place::Replacing(virt(page)));
                assert!(scarce || can.is_ok());
                *world.attaches.entry(id).or_default() += 1;
                let answer = space.attach_replacing(memory, world, virt(page), segment, RW);
                assert!(
                    scarce || answer.map(drop) == can,
                    "{op:?}: {answer:?} after {can:?}"
                );
                if settle(answer.map(drop), Ok(())) {
                    for offset in 0..pages {
                        let behind = Behind::Shared {
                            object: id,
                            page: offset,
                        };
                        pages_of.insert(
                            page + offset,
                            Page {
                                prot: RW,
                                behind,
                                advice: Advice::empty(),
                            },
                        );
                    }
                } else {
                    *world.attaches.get_mut(&id).unwrap() -= 1;
                }
            }
            Op::Touch { page, access } => {
                let answer = space.fault(memory, world, virt(page).add(4000), access);
                let expected = match pages_of.get(&page) {
                    None => Err(Fault::NotMapped),
                    Some(page) if !page.prot.allows(access) => Err(Fault::NotAllowed),
                    Some(_) => Ok(()),
                };
                assert!(
                    answer == expected || (scarce && answer == Err(Fault::OutOfMemory)),
                    "{op:?}"
                );
                if answer.is_ok() {
                    let leaf = lookup(&memory.frames, space.root(), virt(page)).unwrap();
                    assert!(access != Access::Write || leaf.rights.contains(Rights::WRITE));
                }
            }
            Op::Write { page, value } => {
                let answer = space.write(memory, world, page * PAGE_SIZE + WRITTEN, &[value]);
                let allowed = pages_of
                    .get(&page)
                    .is_some_and(|page| page.prot.contains(Prot::WRITE));
                if !scarce || answer.is_ok() {
                    assert_eq!(answer.is_ok(), allowed, "{op:?}");
                }
                if answer.is_ok() {
                    match &mut pages_of.get_mut(&page).unwrap().behind {
                        Behind::Private { written, .. } => *written = Some(value),
                        Behind::Shared { object, page } => {
                            self.shared.insert((*object, *page), value);
                        }
                    }
                }
            }
            Op::Fork if processes < PROCESSES => {
                let answer = space.fork(memory, world);
                if let Ok(mut child) = answer {
                    child.loaded = LOADED;
                    assert_eq!(child.lowest, Lowest::Zero);
                    let mut pages = pages_of.clone();
                    pages.retain(|_, page| !page.advice.contains(Advice::LEFT_OUT));
                    for page in pages
                        .values_mut()
                        .filter(|page| page.advice.contains(Advice::WIPED))
                    {
                        page.behind = Behind::Private {
                            written: None,
                            file: None,
                        };
                    }
                    spaces.push(child);
                    model.push(Process { pages });
                } else {
                    settle(answer.map(drop), Ok(()));
                }
            }
            Op::Fork => {}
            Op::Exit if processes > 1 => {
                model.remove(who);
                end(memory, world, spaces.remove(who));
                return true;
            }
            Op::Exit => {}
        }
        false
    }

    /// The pages that are mapped, single ones also where one leaf maps many.
    fn pages_mapped(&self, index: usize) -> BTreeMap<u64, (u64, Rights)> {
        let mut pages = BTreeMap::new();
        for leaf in leaves(&self.memory, &self.spaces[index]) {
            for offset in (0..leaf.size).step_by(PAGE_SIZE as usize) {
                pages.insert(
                    (leaf.virt.get() + offset) / PAGE_SIZE,
                    (leaf.phys.get() + offset, leaf.rights),
                );
            }
        }
        pages
    }

    fn check_leaves(&self, op: &Op) {
        for (index, process) in self.model.iter().enumerate() {
            let mapped = self.pages_mapped(index);
            for (&page, &(phys, rights)) in &mapped {
                let Some(expected) = process.pages.get(&page) else {
                    panic!("process {index}: {:?} is mapped outside all areas", virt(page));
                };
                let counted = rights.contains(Rights::COUNTED);
                let private = matches!(expected.behind, Behind::Private { .. });
                let mut allowed = expected.prot.rights();
                if private && counted {
                    allowed -= Rights::WRITE;
                }
                assert_eq!(
                    rights - Rights::COUNTED,
                    allowed,
                    "process {index}: {:?}",
                    virt(page)
                );
                let mut byte = [0];
                direct::read(GuestPhys::new(phys + WRITTEN), &mut byte);
                assert_eq!(
                    byte[0],
                    self.byte(expected),
                    "process {index}: {:?} after {op:?}",
                    virt(page)
                );
            }
            for (&page, expected) in &process.pages {
                let written = match expected.behind {
                    Behind::Private { written, .. } => written.is_some(),
                    // What tables were missing for in a segment comes back when it is touched.
                    Behind::Shared { object, .. } if object < FIRST_OBJECT => false,
                    Behind::Shared { object, page } => self.shared.contains_key(&(object, page)),
                };
                assert!(
                    !written || mapped.contains_key(&page),
                    "process {index}: {:?} is lost",
                    virt(page)
                );
            }
            let mut at = GuestVirt::new(0);
            let mut covered = 0;
            while let Some(area) = self.spaces[index].areas.first_from(&self.memory.areas, at) {
                at = area.end;
                covered += area.len() / PAGE_SIZE;
                let inside = process
                    .pages
                    .range(area.start.get() / PAGE_SIZE..area.end.get() / PAGE_SIZE);
                for (page, expected) in inside {
                    let seen = (area.prot, area.advice);
                    assert_eq!(
                        seen,
                        (expected.prot, expected.advice),
                        "process {index}: {:?}",
                        virt(*page)
                    );
                }
            }
            assert_eq!(covered, process.pages.len() as u64, "process {index}");
        }
    }

    /// The counts are the leaves over each frame, and every frame is somewhere.
    fn check_counts(&self) {
        let frames = &self.memory.frames;
        // Leaves over each frame: small ones, large ones.
        let mut users = BTreeMap::<u64, (u32, u32)>::new();
        let mut marked = BTreeSet::new();
        // Shared ones are there once.
        let mut tables_used = BTreeSet::new();
        for space in &self.spaces {
            tables_used.extend(tables(&self.memory, space));
            for leaf in leaves(&self.memory, space)
                .into_iter()
                .filter(|leaf| frames.owns(leaf.phys))
            {
                for offset in (0..leaf.size).step_by(PAGE_SIZE as usize) {
                    let (small, large) = users.entry(leaf.phys.get() + offset).or_default();
                    *if leaf.size == PAGE_SIZE { small } else { large } += 1;
                    if leaf.rights.contains(Rights::COUNTED) {
                        marked.insert(leaf.phys.get() + offset);
                    }
                }
            }
        }
        for (&phys, &(small, large)) in &users {
            let (small_or_all, whole) = frames.counted(GuestPhys::new(phys));
            if !marked.contains(&phys) {
                assert_eq!(small + large, 1, "frame {phys:#x} is not counted");
                continue;
            }
            let first = GuestPhys::new(phys).align_down(LARGE_PAGE_SIZE);
            let (of_first, first_whole) = frames.counted(first);
            if large > 0 && first_whole {
                assert_eq!((small, large), (0, of_first), "frame {phys:#x}, in a large page");
            } else {
                assert_eq!((small + large, false), (small_or_all, whole), "frame {phys:#x}");
            }
        }
        let in_use = (users.len() + tables_used.len()) as u64;
        assert_eq!(frames.free_frames() + in_use, frames.total(), "frames leak");
    }

    /// The segments of a process's fragments, in order of address, without those of areas with `advice`.
    fn attached(&self, who: usize, advice: Advice) -> Vec<i32> {
        let mut ids = vec![];
        self.spaces[who].areas.for_each(&self.memory.areas, |area| {
            if !area.advice.intersects(advice) {
                ids.extend(area.segment().map(|segment| segment.id));
            }
        });
        ids
    }

    fn check_attaches(&self) {
        let mut counts = BTreeMap::<i32, i64>::new();
        let mut areas = 0;
        for who in 0..self.spaces.len() {
            self.spaces[who]
                .areas
                .for_each(&self.memory.areas, |_| areas += 1);
            for id in self.attached(who, Advice::empty()) {
                *counts.entry(id).or_default() += 1;
            }
        }
        for (id, &counted) in &self.world.attaches {
            assert_eq!(
                counted,
                counts.get(id).copied().unwrap_or(0),
                "attaches of segment {id}"
            );
        }
        assert_eq!(self.memory.areas.available(), MOST_AREAS - areas, "areas leak");
    }

    fn check_flushes(&self, index: usize, before: &BTreeMap<u64, (u64, Rights)>, op: &Op) {
        let now = self.pages_mapped(index);
        for (page, &(phys, rights)) in before {
            let kept = now
                .get(page)
                .is_some_and(|&(to, new)| to == phys && new.contains(rights - Rights::COUNTED));
            let flushed = || {
                self.world
                    .flushed
                    .iter()
                    .any(|(start, end)| (start..end).contains(&page))
            };
            assert!(
                kept || flushed(),
                "process {index}: {:?} is stale after {op:?}",
                virt(*page)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn processes_that_fork_do_as_the_model_does(
        steps in prop::collection::vec((0..PROCESSES, op(), scarce()), 1..60),
        order in prop::collection::vec(0..PROCESSES, PROCESSES),
    ) {
        let mut test = Test::new();
        for (who, op, scarce) in &steps {
            test.step(*who, op, *scarce);
        }
        for who in order {
            if !test.spaces.is_empty() {
                let who = who % test.spaces.len();
                test.model.remove(who);
                end(&mut test.memory, &mut test.world, test.spaces.remove(who));
                test.check_counts();
                test.check_attaches();
            }
        }
        prop_assert_eq!(test.memory.frames.free_frames(), test.memory.frames.total());
        prop_assert_eq!(test.memory.areas.available(), MOST_AREAS);
    }
}
