//! What the page-table engine costs on the host's CPU: `cargo bench -p paging`.
//!
//! In a guest on the software KVM the instructions count instead: docs/costs.md.

use criterion::{BatchSize, BenchmarkId, Criterion};
use paging::{
    GuestPhys, GuestVirt, PAGE_SIZE, Rights, TableMemory, TableMemoryMut, lookup, map, protect, unmap,
};
use std::hint::black_box;

const RIGHTS: Rights = Rights::WRITE.union(Rights::USER);
const AT: GuestVirt = GuestVirt::new(0x7000_0000_0000);
const FROM: GuestPhys = GuestPhys::new(0x40_0000_0000);
/// Not aligned to 2 MiB: each page has an entry of its own.
const BETWEEN: GuestPhys = GuestPhys::new(FROM.get() + PAGE_SIZE);

/// Tables in a row, number 0 the root; those given back are taken first.
struct Tables {
    tables: Vec<[u64; 512]>,
    free: Vec<GuestPhys>,
}

impl Tables {
    fn new() -> Tables {
        let mut tables = Tables {
            tables: Vec::with_capacity(1024),
            free: Vec::new(),
        };
        assert_eq!(tables.allocate(), Some(ROOT));
        tables
    }
}

const ROOT: GuestPhys = GuestPhys::new(0);

impl TableMemory for Tables {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        self.tables[(table.get() / PAGE_SIZE) as usize][index]
    }
}

impl TableMemoryMut for Tables {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        self.tables[(table.get() / PAGE_SIZE) as usize][index] = value;
    }

    fn allocate(&mut self) -> Option<GuestPhys> {
        if let Some(table) = self.free.pop() {
            return Some(table);
        }
        self.tables.push([0; 512]);
        Some(GuestPhys::new((self.tables.len() as u64 - 1) * PAGE_SIZE))
    }

    fn retire(&mut self, table: GuestPhys) {
        self.free.push(table);
    }
}

fn mapped(phys: GuestPhys, pages: u64) -> Tables {
    let mut tables = Tables::new();
    map(&mut tables, ROOT, AT, phys, pages, RIGHTS).expect("there are tables");
    tables
}

/// 4 KiB to 1 GiB.
fn sizes(criterion: &mut Criterion) {
    for (kind, phys) in [("small", BETWEEN), ("large", FROM)] {
        let mut group = criterion.benchmark_group(kind);
        for pages in [1, 256, 16384, 262_144] {
            group.bench_with_input(
                BenchmarkId::new("map and unmap", pages),
                &pages,
                |bench, &pages| {
                    let mut tables = Tables::new();
                    bench.iter(|| {
                        map(&mut tables, ROOT, AT, phys, pages, RIGHTS).expect("there are tables");
                        let flush = unmap(&mut tables, ROOT, AT, pages, |_, leaf| _ = black_box(leaf));
                        drop(black_box(flush));
                    });
                },
            );
            group.bench_with_input(BenchmarkId::new("protect", pages), &pages, |bench, &pages| {
                bench.iter_batched_ref(
                    || mapped(phys, pages),
                    |tables| black_box(protect(tables, ROOT, AT, pages, Rights::USER).is_ok()),
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

fn look_up(criterion: &mut Criterion) {
    let tables = mapped(BETWEEN, 16384);
    criterion.bench_function("lookup", |bench| {
        let mut page = 0;
        bench.iter(|| {
            page = (page + 4099) % 16384;
            lookup(&tables, ROOT, GuestVirt::new(AT.get() + page * PAGE_SIZE))
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    sizes(&mut criterion);
    look_up(&mut criterion);
    criterion.final_summary();
}
