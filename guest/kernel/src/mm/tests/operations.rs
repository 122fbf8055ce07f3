//! What an address space can do, at random: each operation done by the kernel and by the model.

use super::super::Placement;
use super::super::area::{Advice, Backing, Prot, Window};
use super::super::fault::{Access, Fault};
use super::model::{Behind, FILE_LEN, Mapping, Model, SEGMENTS, WRITTEN, linked, segment};
use super::properties::{BREAK, LARGE, SMALL, Test};
use super::scarce::Scarce;
use super::{FILE, leaves};
use abi::{Errno, PAGE_SIZE};
use proptest::prelude::*;

const DONTNEED: u64 = 4;
const DONTFORK: u64 = 10;
const DOFORK: u64 = 11;

#[derive(Clone, Debug)]
pub(super) enum Op {
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
        advice: u64,
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
        /// In the place of what is there (`SHM_REMAP`).
        over: bool,
    },
    Detach {
        page: u64,
    },
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

pub(super) fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)];
    let advice = prop_oneof![2 => Just(DONTNEED), 2 => Just(DONTFORK), 1 => Just(DOFORK)];
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
        2 => (page(), pages(), advice).prop_map(|(page, pages, advice)| Op::Advise { page, pages, advice }),
        4 => (page(), access).prop_map(|(page, access)| Op::Touch { page, access }),
        6 => (page(), 1u8..255).prop_map(|(page, value)| Op::Write { page, value }),
        4 => (prop::option::of(page()), 1..=SEGMENTS.len() as i32, window, any::<bool>())
            .prop_map(|(at, id, window, over)| Op::Attach { at, id, window, over }),
        2 => page().prop_map(|page| Op::Detach { page }),
    ]
}

impl Test {
    /// Does `op` on both sides, compares the answers, and returns the states the model allows now.
    pub(super) fn apply(&mut self, op: &Op, scarce: Scarce) -> Vec<Model> {
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
                        advice: Advice::empty(),
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
            Op::Advise {
                page,
                pages,
                advice: DONTNEED,
            } => {
                let answer = space.advise(memory, world, virt(page), pages * PAGE_SIZE, DONTNEED);
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
            Op::Advise { page, pages, advice } => {
                let answer = space.advise(memory, world, virt(page), pages * PAGE_SIZE, advice);
                let change = |kept: Advice| match advice {
                    DONTFORK => kept | Advice::LEFT_OUT,
                    _ => kept - Advice::LEFT_OUT,
                };
                let prefixes = (0..8).map(|limit| {
                    let mut model = model.clone();
                    let _ = model.advise(page, page + pages, change, limit);
                    model
                });
                let prefixes = prefixes.collect();
                let expected = model.advise(page, page + pages, change, usize::MAX);
                if scarce && answer == Err(Errno::EAGAIN) {
                    [prefixes, vec![model.clone()]].concat()
                } else {
                    settle(answer, expected, vec![])
                }
            }
            Op::Touch { page, access } => {
                let answer = space.fault(memory, world, virt(page).add(4000), access);
                if !(hopeless && answer == Err(Fault::OutOfMemory)) {
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
                        Behind::Segment {
                            id, window, origin, ..
                        } => {
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
            Op::Attach { at, id, window, over } => {
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
                    Some(at) if over || model.is_free(at, at + pages) => Ok(at),
                    Some(_) => Err(Errno::EINVAL),
                    None => {
                        let (claimed, align) = linked(pages);
                        Ok(model.highest_gap(claimed, align).unwrap())
                    }
                };
                let room = space.room_at(memory, at.map(virt));
                let fits = at.is_none_or(|at| model.is_free(at, at + pages));
                assert_eq!(room >= segment.mapped_size(), fits);
                // The broker counts first.
                *world.attaches.entry(id).or_default() += 1;
                let answer = match at.map(virt) {
                    Some(at) if over => space.attach_replacing(memory, world, at, segment, prot),
                    at => space.attach(memory, world, at, segment, prot),
                };
                match (answer, expected) {
                    (Ok(answer), Ok(start)) => {
                        assert_eq!(answer, virt(start), "{op:?}");
                        model.attached += 1;
                        let behind = Behind::Segment {
                            id,
                            window,
                            attach: model.attached,
                            origin: start,
                        };
                        model.unmap(start, start + pages);
                        model.add(Mapping {
                            start,
                            end: start + pages,
                            prot,
                            may,
                            behind,
                            advice: Advice::empty(),
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
    let kept = old_pages.min(new_pages);
    if fixed && old_pages == new_pages {
        return move_all(model, old, old_pages, to);
    }
    if (fixed || old_pages < new_pages) && old + kept > mapping.end {
        return (Err(Errno::EFAULT), partly);
    }
    if !fixed && old_pages >= new_pages {
        model.unmap(old + new_pages, old + old_pages);
        return (Ok(old), partly);
    }
    let end = mapping.end;
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
        model.unmap(old + kept, old + old_pages);
        partly.push(model.clone());
        to
    } else {
        model.highest_gap(new_pages, 1).unwrap()
    };
    model.shift(old, old + kept, to, new_pages);
    (Ok(to), partly)
}

/// mremap that only moves: mapping by mapping, as long as none of several is an attach.
fn move_all(model: &mut Model, old: u64, pages: u64, to: u64) -> (Result<u64, Errno>, Vec<Model>) {
    let end = old + pages;
    let mut partly = vec![];
    for page in old..end {
        let Some(mapping) = model.at(page).copied() else {
            continue;
        };
        let from = mapping.start.max(old);
        if page > from {
            continue;
        }
        if mapping.segment().is_some() && (from > old || mapping.end < end) {
            return (Err(Errno::EFAULT), partly);
        }
        let stop = mapping.end.min(end);
        let at = to + from - old;
        model.unmap(at, at + stop - from);
        partly.push(model.clone());
        model.shift(from, stop, at, stop - from);
        partly.push(model.clone());
    }
    (Ok(to), partly)
}
