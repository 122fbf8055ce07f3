//! Frames: nobody gets what another has.

use super::super::frames::FrameRun;
use super::{FREE_START, HIGH, HIGH_LEN, LOW_END, memory};
use crate::arch::direct;
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, TableMemoryMut};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn pages(run: &FrameRun) -> impl Iterator<Item = u64> + use<> {
    let start = run.start.get();
    (0..run.count).map(move |page| start + page * PAGE_SIZE)
}

/// Looks where `soil` writes.
fn is_zero(page: u64) -> bool {
    let at = |offset| direct::load64(GuestPhys::new(page + offset));
    at(0) | at(PAGE_SIZE - 8) == 0
}

fn soil(page: u64) {
    direct::store64(GuestPhys::new(page), page | 1);
    direct::store64(GuestPhys::new(page + PAGE_SIZE - 8), page | 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn frames_have_one_owner_and_are_reused_only_after_release(
        steps in prop::collection::vec((0u8..8, 1u64..700, any::<prop::sample::Index>()), 1..120),
    ) {
        let mut memory = memory();
        let frames = &mut memory.frames;
        let total = frames.free_frames();
        prop_assert_eq!(total, (LOW_END - FREE_START + HIGH_LEN) / PAGE_SIZE);
        let mut held: Vec<FrameRun> = vec![];
        let mut tables: Vec<GuestPhys> = vec![];
        let mut retired = 0;
        let mut taken = BTreeSet::new();
        // Retired pages stay in `taken` until they are released.
        let mut waiting = vec![];
        for (what, most, index) in steps {
            match what {
                0..=2 => {
                    let run = if what == 0 { frames.take_large() } else { frames.take(most) };
                    let Some(run) = run else {
                        prop_assert!(what == 0 || frames.free_frames() == 0);
                        continue;
                    };
                    prop_assert!(run.count >= 1 && (run.count <= most || what == 0));
                    prop_assert!(what != 0 || (run.count == 512 && run.start.is_aligned(LARGE_PAGE_SIZE)));
                    for page in pages(&run) {
                        let inside = (FREE_START..LOW_END).contains(&page) || (HIGH..HIGH + HIGH_LEN).contains(&page);
                        prop_assert!(inside && frames.owns(GuestPhys::new(page)), "{page:#x}");
                        prop_assert!(taken.insert(page), "{page:#x} handed out twice");
                        prop_assert!(run.dirty || is_zero(page), "{page:#x} is not zero");
                        soil(page);
                    }
                    held.push(run);
                }
                3 => {
                    let Some(table) = frames.allocate() else { continue };
                    prop_assert!(taken.insert(table.get()) && is_zero(table.get()));
                    tables.push(table);
                }
                4 if !held.is_empty() => {
                    let run = held.swap_remove(index.index(held.len()));
                    for page in pages(&run) {
                        waiting.push(page);
                        if run.count != 512 || !run.start.is_aligned(LARGE_PAGE_SIZE) {
                            frames.retire_frames(GuestPhys::new(page), PAGE_SIZE);
                        }
                    }
                    if run.count == 512 && run.start.is_aligned(LARGE_PAGE_SIZE) {
                        frames.retire_frames(run.start, LARGE_PAGE_SIZE);
                    }
                    retired += run.count;
                }
                5 if !held.is_empty() => {
                    let run = held.swap_remove(index.index(held.len()));
                    pages(&run).for_each(|page| assert!(taken.remove(&page)));
                    frames.give_back(FrameRun { dirty: true, ..run });
                }
                6 if !tables.is_empty() => {
                    let table = tables.swap_remove(index.index(tables.len()));
                    frames.retire(table);
                    waiting.push(table.get());
                    retired += 1;
                }
                _ => {
                    frames.release();
                    waiting.drain(..).for_each(|page| assert!(taken.remove(&page)));
                    retired = 0;
                }
            }
            prop_assert_eq!(frames.free_frames(), total - taken.len() as u64);
            prop_assert_eq!(waiting.len() as u64, retired);
        }
        held.drain(..).for_each(|run| frames.give_back(run));
        tables.drain(..).for_each(|table| frames.retire(table));
        frames.release();
        prop_assert_eq!(frames.free_frames(), total);
    }
}

#[test]
fn every_frame_can_be_had_and_had_again() {
    let mut memory = memory();
    let total = memory.frames.free_frames();
    for _ in 0..2 {
        let mut all = BTreeSet::new();
        while let Some(run) = memory.frames.take(100) {
            all.extend(pages(&run));
        }
        assert_eq!(all.len() as u64, total);
        assert_eq!(
            (memory.frames.free_frames(), memory.frames.take_large()),
            (0, None)
        );
        for page in all {
            memory.frames.retire_frames(GuestPhys::new(page), PAGE_SIZE);
        }
        assert_eq!(memory.frames.take(1), None);
        memory.frames.release();
    }
}

#[test]
fn frames_that_come_back_in_order_make_runs_again() {
    let mut memory = memory();
    let run = memory.frames.take(16).unwrap();
    pages(&run).for_each(|page| memory.frames.retire_frames(GuestPhys::new(page), PAGE_SIZE));
    memory.frames.release();
    assert_eq!(memory.frames.take(64), Some(FrameRun { dirty: true, ..run }));
}

#[test]
fn neither_the_image_nor_a_window_nor_the_hole_is_owned() {
    let memory = memory();
    for address in [
        0,
        FREE_START - 1,
        LOW_END,
        HIGH - 1,
        HIGH + HIGH_LEN,
        1 << 38,
        u64::MAX,
    ] {
        assert!(!memory.frames.owns(GuestPhys::new(address)), "{address:#x}");
    }
    assert!(memory.frames.is_ram(GuestPhys::new(0x1000)) && !memory.frames.is_ram(GuestPhys::new(LOW_END)));
}
