//! What processes that fork may do, at random.

use super::super::area::Prot;
use super::super::fault::Access;
use super::model::SEGMENTS;
use super::scarce::Scarce;
use abi::PAGE_SIZE;
use proptest::prelude::*;

pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);
pub(super) const SMALL: u64 = 0x1000_0000 / PAGE_SIZE - 8;
pub(super) const LARGE: u64 = 0x4000_0000 / PAGE_SIZE;

pub(super) const DONTNEED: u64 = 4;
pub(super) const DONTFORK: u64 = 10;
pub(super) const DOFORK: u64 = 11;
pub(super) const WIPEONFORK: u64 = 18;
pub(super) const KEEPONFORK: u64 = 19;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Map {
        page: u64,
        pages: u64,
        prot: Prot,
        kind: u8,
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
    Move {
        page: u64,
        pages: u64,
        to: u64,
    },
    Advise {
        page: u64,
        pages: u64,
        advice: u64,
    },
    Attach {
        page: u64,
        id: i32,
    },
    Touch {
        page: u64,
        access: Access,
    },
    Write {
        page: u64,
        value: u8,
    },
    Fork,
    Exit,
}

fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0u64..32).prop_map(|page| SMALL + page),
        2 => (0u64..6, 0u64..3).prop_map(|(block, page)| LARGE + block * 256 + page),
        1 => (0u64..3).prop_map(|block| LARGE + block * 512),
    ]
}

fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..5, 4 => 4u64..40, 1 => 500u64..530, 2 => Just(1024u64)]
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![6 => Just(RW), 2 => Just(Prot::READ), 1 => Just(Prot::empty())]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)];
    let advice = prop_oneof![
        3 => Just(DONTNEED), 2 => Just(DONTFORK), 1 => Just(DOFORK), 1 => Just(WIPEONFORK), 1 => Just(KEEPONFORK)
    ];
    prop_oneof![
        4 => (page(), pages(), prot(), 0u8..4)
            .prop_map(|(page, pages, prot, kind)| Op::Map { page, pages, prot, kind }),
        1 => (page(), pages()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        2 => (page(), pages(), prot()).prop_map(|(page, pages, prot)| Op::Protect { page, pages, prot }),
        2 => (page(), pages(), page()).prop_map(|(page, pages, to)| Op::Move { page, pages, to }),
        2 => (page(), pages(), advice).prop_map(|(page, pages, advice)| Op::Advise { page, pages, advice }),
        2 => (page(), 1..=SEGMENTS.len() as i32).prop_map(|(page, id)| Op::Attach { page, id }),
        2 => (page(), access).prop_map(|(page, access)| Op::Touch { page, access }),
        9 => (page(), 1u8..255).prop_map(|(page, value)| Op::Write { page, value }),
        4 => Just(Op::Fork),
        1 => Just(Op::Exit),
    ]
}

pub(super) fn scarce() -> impl Strategy<Value = Scarce> {
    prop_oneof![
        10 => Just(Scarce::Nothing),
        2 => (0u64..24).prop_map(Scarce::Frames),
        1 => (0usize..6).prop_map(Scarce::Areas),
        1 => (0u32..3).prop_map(Scarce::Broker),
    ]
}
