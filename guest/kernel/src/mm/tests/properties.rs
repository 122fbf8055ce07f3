//! Random sequences of everything an address space can do, beside the model; with memory, areas or the broker
//! failing at times. After each step: same mappings, same fragments of attaches, the same told to the broker in the
//! same order, right leaves with right contents, every frame accounted for, and everything that became stale flushed.

use super::super::area::{Advice, Area, Backing, Prot, Window};
use super::super::pool::MOST_AREAS;
use super::super::{AddressSpace, Memory};
use super::model::{
    Behind, FILE_LEN, LAST, Mapping, Model, SEGMENTS, WRITTEN, file_byte, segment, segment_byte,
};
use super::operations::{Op, op};
use super::scarce::Scarce;
use super::{Booking, FILE, FakeWorld, end, leaves, loaded_space, memory, tables};
use crate::arch::direct;
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Leaf, Rights};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pages that given addresses come from: a small region for much overlap, and one for large pages.
pub(super) const SMALL: u64 = 0x1000_0000 / PAGE_SIZE - 8;
pub(super) const LARGE: u64 = 0x4000_0000 / PAGE_SIZE;
/// Where the break starts.
pub(super) const BREAK: u64 = SMALL + 40;

fn scarce() -> impl Strategy<Value = Scarce> {
    prop_oneof![
        8 => Just(Scarce::Nothing),
        1 => (0u64..6).prop_map(Scarce::Frames),
        1 => (6u64..20).prop_map(Scarce::Frames),
        1 => (0usize..3).prop_map(Scarce::Areas),
        1 => (0u32..2).prop_map(Scarce::Broker),
    ]
}

pub(super) struct Test {
    pub(super) memory: Memory,
    pub(super) world: FakeWorld,
    pub(super) space: AddressSpace,
    pub(super) model: Model,
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
        space.set_program_end(GuestVirt::new(BREAK * PAGE_SIZE - 5), 0);
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
        self.world.booked.clear();
        self.model.booked.clear();
        let withheld = scarce.begin(&mut self.memory, &mut self.world);
        let candidates = self.apply(op, scarce);
        withheld.end(&mut self.memory, &mut self.world);

        let mappings = self.mappings();
        let same = |model: &&Model| Model::regions(&model.mappings) == Model::regions(&mappings);
        let Some(model) = candidates.iter().find(same) else {
            panic!(
                "after {op:?}\nmodel {:#?}\nkernel {mappings:#?}",
                candidates.last()
            );
        };
        self.model = model.clone();
        if matches!(scarce, Scarce::Nothing) {
            assert_eq!(self.world.booked, self.model.booked, "told the broker by {op:?}");
        }
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
            let zeros = pair[0].behind == Behind::Zeros && pair[0].is_like(&pair[1]);
            assert!(!(zeros && pair[0].end == pair[1].start), "not merged: {pair:?}");
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
                Behind::Segment {
                    id, window, origin, ..
                } => {
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
        let Test { mut memory, mut world, space, model } = test;
        world.booked.clear();
        end(&mut memory, &mut world, space);
        let ends: Vec<_> = model.mappings.iter().filter_map(Mapping::segment).map(Booking::Gone).collect();
        prop_assert_eq!(&world.booked, &ends);
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
