//! Random sequences of everything an address space can do, beside the model; with memory, areas or the broker
//! failing at times. After each step: same mappings, same fragments of attaches, right leaves with right
//! contents, every frame accounted for, and everything that became stale flushed.

use super::super::area::{Advice, Area, Backing, Prot, Window};
use super::super::fault::Access;
use super::super::frames::FrameRun;
use super::super::tree::MOST_AREAS;
use super::super::{AddressSpace, Memory, Placement};
use super::model::{
    Behind, FILE_LEN, LAST, Mapping, Model, SEGMENTS, WRITTEN, file_byte, segment, segment_byte,
};
use super::{FILE, FakeWorld, end, leaves, loaded_space, memory, tables};
use crate::arch::direct;
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Leaf, Rights};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pages that given addresses come from: a small region for much overlap, and one for large pages.
const SMALL: u64 = 0x1000_0000 / PAGE_SIZE - 8;
const LARGE: u64 = 0x4000_0000 / PAGE_SIZE;
/// Where the break starts.
const BREAK: u64 = SMALL + 40;

#[derive(Clone, Debug)]
enum Op {
    Map {
        placement: u8,
        page: u64,
        pages: u64,
        prot: Prot,
        file: Option<u64>,
    },
    Unmap {
        page: u64,
        pages: u64,
    },
    Protect {
        page: u64,
        pages: u64,
        prot: Prot,
    },
    Remap {
        old: u64,
        old_pages: u64,
        new_pages: u64,
        flags: u64,
        to: u64,
    },
    Break {
        pages: u64,
        bytes: u64,
    },
    Advise {
        page: u64,
        pages: u64,
    },
    Touch {
        page: u64,
        access: Access,
    },
    Write {
        page: u64,
        value: u8,
    },
    Attach {
        at: Option<u64>,
        id: i32,
        window: Window,
    },
    Detach {
        page: u64,
    },
}

/// What is scarce during a step.
#[derive(Clone, Copy, Debug)]
enum Scarce {
    Nothing,
    Frames(u64),
    Areas(usize),
    Broker(u32),
}

fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0u64..32).prop_map(|page| SMALL + page),
        2 => (32u64..64).prop_map(|page| SMALL + page),
        2 => (0u64..10, 0u64..3).prop_map(|(block, page)| LARGE + block * 256 + page),
        2 => (0u64..6).prop_map(|block| LARGE + block * 512),
    ]
}

fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..5, 3 => 4u64..40, 1 => 500u64..530, 1 => Just(1024u64)]
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![4 => Just(Prot::READ | Prot::WRITE), 2 => Just(Prot::READ), 1 => Just(Prot::empty()),
        1 => Just(Prot::READ | Prot::EXECUTE), 1 => Just(Prot::all())]
}

fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)];
    let window = prop_oneof![3 => Just(Window::ReadWrite), 1 => Just(Window::ReadOnly)];
    prop_oneof![
        4 => (0u8..4, page(), pages(), prot(), prop::option::of(0u64..18))
            .prop_map(|(placement, page, pages, prot, file)| Op::Map { placement, page, pages, prot, file }),
        3 => (page(), pages()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        4 => (page(), pages(), prot()).prop_map(|(page, pages, prot)| Op::Protect { page, pages, prot }),
        3 => (page(), pages(), pages(), 0u64..4, page()).prop_map(|(old, old_pages, new_pages, flags, to)| {
            Op::Remap { old, old_pages, new_pages, flags, to }
        }),
        1 => (0u64..30, 0u64..5000).prop_map(|(pages, bytes)| Op::Break { pages, bytes }),
        1 => (page(), pages()).prop_map(|(page, pages)| Op::Advise { page, pages }),
        4 => (page(), access).prop_map(|(page, access)| Op::Touch { page, access }),
        6 => (page(), 1u8..255).prop_map(|(page, value)| Op::Write { page, value }),
        4 => (prop::option::of(page()), 1..=SEGMENTS.len() as i32, window)
            .prop_map(|(at, id, window)| Op::Attach { at, id, window }),
        2 => page().prop_map(|page| Op::Detach { page }),
    ]
}

fn scarce() -> impl Strategy<Value = Scarce> {
    prop_oneof![
        8 => Just(Scarce::Nothing),
        1 => (0u64..6).prop_map(Scarce::Frames),
        1 => (6u64..20).prop_map(Scarce::Frames),
        1 => (0usize..3).prop_map(Scarce::Areas),
        1 => (0u32..2).prop_map(Scarce::Broker),
    ]
}

struct Test {
    memory: Memory,
    world: FakeWorld,
    space: AddressSpace,
    model: Model,
}

impl Test {
    fn new() -> Test {
        let mut memory = memory();
        for offset in (0..FILE_LEN).step_by(PAGE_SIZE as usize) {
            // To the page's end: what lies past the valid bytes must not be seen.
            direct::write(FILE.add(offset), &[file_byte(offset); PAGE_SIZE as usize]);
        }
        for id in 1..=SEGMENTS.len() as i32 {
            for window in [Window::ReadWrite, Window::ReadOnly] {
                for page in 0..SEGMENTS[id as usize - 1].div_ceil(PAGE_SIZE) {
                    let gpa = segment(id, window).gpa.add(page * PAGE_SIZE);
                    direct::write(gpa.add(WRITTEN), &[segment_byte(id, page)]);
                    direct::write(gpa.add(LAST), &[segment_byte(id, page)]);
                }
            }
        }
        let mut space = loaded_space(&mut memory);
        space.set_program_end(GuestVirt::new(BREAK * PAGE_SIZE - 5));
        let model = Model {
            brk_start: BREAK * PAGE_SIZE,
            brk: BREAK * PAGE_SIZE,
            ..Model::default()
        };
        Test {
            memory,
            world: FakeWorld::default(),
            space,
            model,
        }
    }

    /// Does `op` on both sides while something is scarce, and checks everything.
    fn step(&mut self, op: &Op, scarce: Scarce) {
        let before = self.pages_mapped();
        self.world.flushed.clear();
        let mut hog = vec![];
        let mut areas = None;
        match scarce {
            Scarce::Nothing => {}
            Scarce::Frames(leave) => {
                while let Some(most) = self
                    .memory
                    .frames
                    .free_frames()
                    .checked_sub(leave)
                    .filter(|&most| most > 0)
                {
                    hog.push(self.memory.frames.take(most).unwrap());
                }
            }
            Scarce::Areas(left) => areas = Some((left, self.memory.areas.pretend_available(left))),
            Scarce::Broker(left) => self.world.refuses_after = Some(left),
        }
        let candidates = self.apply(op, scarce);
        for run in hog {
            self.memory.frames.give_back(FrameRun { dirty: true, ..run });
        }
        if let Some((left, available)) = areas {
            let used = left as isize - self.memory.areas.available() as isize;
            self.memory
                .areas
                .pretend_available((available as isize - used) as usize);
        }
        self.world.refuses_after = None;

        let mappings = self.mappings();
        let same = |model: &&Model| Model::regions(&model.mappings) == Model::regions(&mappings);
        let Some(model) = candidates.iter().find(same) else {
            panic!(
                "after {op:?}\nmodel {:#?}\nkernel {mappings:#?}",
                candidates.last()
            );
        };
        self.model = model.clone();
        self.check_fragments(&mappings);
        self.check_leaves(&mappings);
        self.check_flushes(&before, op);
        self.check_accounts();
    }

    /// The kernel's areas as mappings.
    fn mappings(&self) -> Vec<Mapping> {
        let mut mappings = vec![];
        let mut at = GuestVirt::new(0);
        while let Some(area) = self.space.areas.first_from(&self.memory.areas, at) {
            mappings.push(Mapping::of(area));
            at = area.end;
        }
        mappings
    }

    /// The pages that are mapped, single ones also where one leaf maps many.
    fn pages_mapped(&self) -> BTreeMap<u64, (u64, Rights)> {
        let mut pages = BTreeMap::new();
        for leaf in leaves(&self.memory, &self.space) {
            for offset in (0..leaf.size).step_by(PAGE_SIZE as usize) {
                let page = (leaf.virt.get() + offset) / PAGE_SIZE;
                pages.insert(page, (leaf.phys.get() + offset, leaf.rights));
            }
        }
        pages
    }

    fn check_fragments(&self, mappings: &[Mapping]) {
        let fragments = |mappings: &[Mapping]| {
            mappings
                .iter()
                .filter(|mapping| mapping.segment().is_some())
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(fragments(mappings), fragments(&self.model.mappings));
        for id in 1..=SEGMENTS.len() as i32 {
            let counted = self.world.attaches.get(&id).copied().unwrap_or(0);
            assert_eq!(
                counted,
                self.model.attaches(id) as i64,
                "attaches of segment {id}"
            );
        }
        // Equal neighbours without anything to tell them apart are one area.
        for pair in mappings.windows(2) {
            let zeros = pair.iter().all(|mapping| mapping.behind == Behind::Zeros);
            let equal =
                pair[0].end == pair[1].start && (pair[0].prot, pair[0].may) == (pair[1].prot, pair[1].may);
            assert!(!(zeros && equal), "not merged: {pair:?}");
        }
    }

    fn check_leaves(&self, mappings: &[Mapping]) {
        let mut owned = BTreeSet::new();
        let mapped = self.pages_mapped();
        for (&page, &(phys, rights)) in &mapped {
            let virt = Model::virt(page);
            let mapping = mappings
                .iter()
                .find(|mapping| (mapping.start..mapping.end).contains(&page));
            let mapping = mapping.unwrap_or_else(|| panic!("{virt:?} is mapped outside all areas"));
            assert_eq!(rights, mapping.prot.rights(), "rights at {virt:?}");
            let private = self.memory.frames.owns(GuestPhys::new(phys));
            match mapping.behind {
                Behind::Segment { id, window, origin } => {
                    let expected = segment(id, window).gpa.add((page - origin) * PAGE_SIZE);
                    assert_eq!(GuestPhys::new(phys), expected, "{virt:?}");
                    assert!(!rights.contains(Rights::WRITE) || window == Window::ReadWrite);
                }
                _ => assert!(
                    private || !rights.contains(Rights::WRITE),
                    "{virt:?} can write {phys:#x}"
                ),
            }
            assert!(!private || owned.insert(phys), "frame {phys:#x} is mapped twice");
            for offset in [WRITTEN, LAST] {
                let mut byte = [0];
                direct::read(GuestPhys::new(phys + offset), &mut byte);
                assert_eq!(
                    byte[0],
                    self.model.byte(page, offset),
                    "contents at {virt:?} + {offset}"
                );
            }
        }
        for page in self.model.private.keys() {
            assert!(
                mapped.contains_key(page),
                "what was written to {:?} is lost",
                Model::virt(*page)
            );
        }
    }

    fn check_flushes(&self, before: &BTreeMap<u64, (u64, Rights)>, op: &Op) {
        let now = self.pages_mapped();
        for (page, was) in before {
            if now.get(page) != Some(was) {
                let flushed = self
                    .world
                    .flushed
                    .iter()
                    .any(|(start, end)| (start..end).contains(&page));
                assert!(flushed, "{:?} is stale after {op:?}", Model::virt(*page));
            }
        }
    }

    fn check_accounts(&self) {
        let frames = &self.memory.frames;
        let owned = leaves(&self.memory, &self.space)
            .into_iter()
            .filter(|leaf| frames.owns(leaf.phys));
        let private: u64 = owned.map(|leaf: Leaf| leaf.size / PAGE_SIZE).sum();
        let tables = tables(&self.memory, &self.space).len() as u64;
        assert_eq!(
            frames.free_frames() + private + tables,
            frames.total(),
            "frames leak"
        );
        assert_eq!(
            self.memory.areas.available(),
            MOST_AREAS - self.mappings().len(),
            "areas leak"
        );
    }

    /// Does `op` on both sides, compares the answers, and returns the states the model allows now.
    fn apply(&mut self, op: &Op, scarce: Scarce) -> Vec<Model> {
        // A page and the three tables that lead to it must do.
        let hopeless = matches!(scarce, Scarce::Frames(0..4));
        let scarce = !matches!(scarce, Scarce::Nothing);
        let Test {
            memory,
            world,
            space,
            model,
        } = self;
        let before = model.clone();
        let virt = Model::virt;
        // When memory is short, no memory is an answer, and nothing has happened.
        let settle = |answer: Result<(), Errno>, expected: Result<(), Errno>, partly: Vec<Model>| {
            if scarce && answer == Err(Errno::ENOMEM) && expected != answer {
                return [vec![before.clone()], partly].concat();
            }
            assert_eq!(answer, expected, "{op:?}");
            vec![]
        };
        let allowed = match *op {
            Op::Map {
                placement,
                page,
                pages,
                prot,
                file,
            } => {
                let backing = match file {
                    Some(first) => Backing::Image {
                        phys: FILE.add(first * PAGE_SIZE),
                        len: FILE_LEN - first * PAGE_SIZE,
                    },
                    None => Backing::Anonymous,
                };
                let len = pages * PAGE_SIZE - 9;
                let (at, expected) = match placement {
                    0 => (Placement::Anywhere, Ok(model.highest_gap(pages, 1).unwrap())),
                    1 if model.is_free(page, page + pages) => (Placement::Hint(virt(page)), Ok(page)),
                    1 => (
                        Placement::Hint(virt(page).add(77)),
                        Ok(model.highest_gap(pages, 1).unwrap()),
                    ),
                    2 => (Placement::Fixed(virt(page)), Ok(page)),
                    _ if model.is_free(page, page + pages) => {
                        (Placement::FixedNoReplace(virt(page)), Ok(page))
                    }
                    _ => (Placement::FixedNoReplace(virt(page)), Err(Errno::EEXIST)),
                };
                let answer = space.map(memory, world, at, len, prot, Prot::all(), backing);
                if let (Ok(answer), Ok(start)) = (answer, expected) {
                    assert_eq!(answer, virt(start), "{op:?}");
                    model.unmap(start, start + pages);
                    let behind = file.map_or(Behind::Zeros, |first| Behind::File {
                        origin: start - first,
                    });
                    model.add(Mapping {
                        start,
                        end: start + pages,
                        prot,
                        may: Prot::all(),
                        behind,
                    });
                }
                settle(answer.map(drop), expected.map(drop), vec![])
            }
            Op::Unmap { page, pages } => {
                let answer = space.unmap(memory, world, virt(page), pages * PAGE_SIZE - 1);
                if answer.is_ok() {
                    model.unmap(page, page + pages);
                }
                settle(answer, Ok(()), vec![])
            }
            Op::Protect { page, pages, prot } => {
                let answer = space.protect(memory, world, virt(page), pages * PAGE_SIZE, prot);
                let prefixes = (0..8).map(|limit| {
                    let mut model = model.clone();
                    let _ = model.protect(page, page + pages, prot, limit);
                    model
                });
                let prefixes = prefixes.collect();
                let expected = model.protect(page, page + pages, prot, usize::MAX);
                if scarce && answer == Err(Errno::ENOMEM) {
                    prefixes
                } else {
                    settle(answer, expected, vec![])
                }
            }
            Op::Remap {
                old,
                old_pages,
                new_pages,
                flags,
                to,
            } => {
                let bytes = |pages| pages * PAGE_SIZE;
                let answer = space.remap(
                    memory,
                    world,
                    virt(old),
                    bytes(old_pages),
                    bytes(new_pages),
                    flags,
                    virt(to),
                );
                let (expected, partly) = remap(model, old, old_pages, new_pages, flags, to);
                if scarce && answer == Err(Errno::ENOMEM) {
                    [vec![before.clone()], partly].concat()
                } else {
                    assert_eq!(answer, expected.map(virt), "{op:?}");
                    vec![]
                }
            }
            Op::Break { pages, bytes } => {
                let wanted = BREAK * PAGE_SIZE + pages * PAGE_SIZE - PAGE_SIZE + bytes;
                let answer = space.set_break(memory, world, wanted);
                if !(scarce && answer == model.brk) {
                    model.set_break(wanted);
                    assert_eq!(answer, model.brk, "{op:?}");
                }
                vec![]
            }
            Op::Advise { page, pages } => {
                let answer = space.advise(memory, world, virt(page), pages * PAGE_SIZE, 4);
                let mapped = |page: u64| model.at(page).is_some();
                let expected = if (page..page + pages).all(mapped) {
                    Ok(())
                } else {
                    Err(Errno::ENOMEM)
                };
                if !(scarce && answer == Err(Errno::ENOMEM)) {
                    assert_eq!(answer, expected, "{op:?}");
                    model.private.retain(|at, _| !(page..page + pages).contains(at));
                } else {
                    // Some of it may be gone: what is still there tells.
                    let there = leaves(memory, space);
                    let is_there = |page: u64| {
                        there.iter().any(|leaf| {
                            (leaf.virt.get()..leaf.virt.get() + leaf.size).contains(&(page * PAGE_SIZE))
                        })
                    };
                    model
                        .private
                        .retain(|&at, _| !(page..page + pages).contains(&at) || is_there(at));
                }
                vec![]
            }
            Op::Touch { page, access } => {
                let answer = space.fault(memory, world, virt(page).add(4000), access);
                if !(hopeless && answer == Err(super::super::Fault::OutOfMemory)) {
                    assert_eq!(answer, model.access(page, access), "{op:?}");
                }
                vec![]
            }
            Op::Write { page, value } => {
                let answer = space.write(memory, world, page * PAGE_SIZE + WRITTEN, &[value]);
                if answer.is_ok() || !scarce {
                    let expected = model.access(page, Access::Write).map_err(|_| Errno::EFAULT);
                    assert_eq!(answer, expected, "{op:?}");
                }
                if answer.is_ok() {
                    match model.at(page).unwrap().behind {
                        Behind::Segment { id, window, origin } => {
                            model.shared.insert((id, window, page - origin), value);
                        }
                        _ => {
                            model.private.insert(page, value);
                        }
                    }
                    let mut back = [0];
                    space
                        .read(memory, world, page * PAGE_SIZE + WRITTEN, &mut back)
                        .unwrap();
                    assert_eq!(back, [value]);
                }
                vec![]
            }
            Op::Attach { at, id, window } => {
                let segment = segment(id, window);
                let pages = segment.mapped_size() / PAGE_SIZE;
                let read_only = window == Window::ReadOnly;
                let prot = if read_only {
                    Prot::READ
                } else {
                    Prot::READ | Prot::WRITE
                };
                let may = if read_only {
                    Prot::READ | Prot::EXECUTE
                } else {
                    Prot::all()
                };
                let expected = match at {
                    Some(at) if model.is_free(at, at + pages) => Ok(at),
                    Some(_) => Err(Errno::EINVAL),
                    None if pages >= 512 => Ok(model.highest_gap(pages.next_multiple_of(512), 512).unwrap()),
                    None => Ok(model.highest_gap(pages, 1).unwrap()),
                };
                let room = space.room_at(memory, at.map(virt));
                assert_eq!(room >= segment.mapped_size(), expected.is_ok());
                // The broker counts first.
                *world.attaches.entry(id).or_default() += 1;
                let answer = space.attach(memory, world, at.map(virt), segment, prot);
                match (answer, expected) {
                    (Ok(answer), Ok(start)) => {
                        assert_eq!(answer, virt(start), "{op:?}");
                        let behind = Behind::Segment {
                            id,
                            window,
                            origin: start,
                        };
                        model.add(Mapping {
                            start,
                            end: start + pages,
                            prot,
                            may,
                            behind,
                        });
                    }
                    _ => *world.attaches.get_mut(&id).unwrap() -= 1,
                }
                settle(answer.map(drop), expected.map(drop), vec![])
            }
            Op::Detach { page } => {
                let answer = space.detach(memory, world, virt(page));
                assert_eq!(answer, model.detach(page), "{op:?}");
                vec![]
            }
        };
        if allowed.is_empty() {
            vec![model.clone()]
        } else {
            allowed
        }
    }
}

/// mremap on the model: the answer, and the states that a lack of memory may leave (as in Linux).
fn remap(
    model: &mut Model,
    old: u64,
    old_pages: u64,
    new_pages: u64,
    flags: u64,
    to: u64,
) -> (Result<u64, Errno>, Vec<Model>) {
    let (may_move, fixed) = (flags & 1 != 0, flags & 2 != 0);
    let mut partly = vec![];
    if fixed && (!may_move || (to < old + old_pages && old < to + new_pages)) {
        return (Err(Errno::EINVAL), partly);
    }
    let Some(mapping) = model.at(old).copied() else {
        return (Err(Errno::EFAULT), partly);
    };
    if old_pages >= new_pages {
        if fixed && old + old_pages > mapping.end {
            return (Err(Errno::EFAULT), partly);
        }
        model.unmap(old + new_pages, old + old_pages);
        partly.push(model.clone());
        if !fixed {
            return (Ok(old), partly);
        }
    } else if old + old_pages > mapping.end {
        return (Err(Errno::EFAULT), partly);
    }
    let kept = old_pages.min(new_pages);
    let end = model.at(old).unwrap().end;
    if !fixed && old + kept == end && model.is_free(end, old + new_pages) {
        let index = model
            .mappings
            .iter()
            .position(|mapping| mapping.end == end)
            .unwrap();
        let mut grown = model.mappings.remove(index);
        grown.end = old + new_pages;
        model.add(grown);
        return (Ok(old), partly);
    }
    if !may_move {
        return (Err(Errno::ENOMEM), partly);
    }
    let to = if fixed {
        model.unmap(to, to + new_pages);
        partly.push(model.clone());
        to
    } else {
        model.highest_gap(new_pages, 1).unwrap()
    };
    model.shift(old, old + kept, to, new_pages);
    (Ok(to), partly)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn an_address_space_does_as_the_model_does(
        steps in prop::collection::vec((op(), scarce()), 1..60),
    ) {
        let mut test = Test::new();
        for (op, scarce) in &steps {
            test.step(op, *scarce);
        }
        let Test { mut memory, mut world, space, .. } = test;
        end(&mut memory, &mut world, space);
        prop_assert_eq!(memory.frames.free_frames(), memory.frames.total());
        prop_assert_eq!(memory.areas.available(), MOST_AREAS);
        prop_assert!(world.attaches.values().all(|&left| left == 0), "{:?}", world.attaches);
    }
}

#[test]
fn the_universe_of_the_model_can_be_mapped() {
    const { assert!(SMALL * PAGE_SIZE > MMAP_MIN_ADDR && (LARGE + 6 * 512 + 2048) * PAGE_SIZE < USER_END) };
    assert_eq!(Model::virt(LARGE).get() % LARGE_PAGE_SIZE, 0);
    let area = Area {
        start: Model::virt(SMALL),
        end: Model::virt(SMALL + 1),
        prot: Prot::READ,
        may: Prot::all(),
        backing: Backing::Image {
            phys: FILE,
            len: FILE_LEN,
        },
        advice: Advice::empty(),
    };
    assert_eq!(Mapping::of(&area).behind, Behind::File { origin: SMALL });
}
