//! What the rule book of System V shared memory costs on the host's CPU, with few and with as many segments as Linux allows:
//! `cargo bench -p shm`.

use abi::ipc::{IPC_CREAT, IPC_PRIVATE};
use criterion::{BenchmarkId, Criterion};
use shm::{Credentials, Found, Limits, Registry};
use std::hint::black_box;

const ROOT: Credentials<'static> = Credentials {
    pid: 10,
    task: 10,
    uid: 0,
    gid: 0,
    groups: &[],
};

/// `count` segments with the keys from 1.
fn filled(count: i32) -> (Registry<()>, Vec<i32>) {
    let mut registry = Registry::new(Limits::default());
    let ids = (1..=count)
        .map(|key| {
            let got = registry.get(&ROOT, key, 4096, IPC_CREAT | 0o600, 1, |_| Ok(()));
            got.expect("there is room").id()
        })
        .collect();
    (registry, ids)
}

fn calls(criterion: &mut Criterion) {
    for count in [1, 64, 4095] {
        let (mut registry, ids) = filled(count);
        let mut group = criterion.benchmark_group(format!("{count} segments"));
        let mut next = 0;
        let mut any = move || {
            next = (next + 1009) % count as usize;
            next
        };
        group.bench_function(BenchmarkId::from_parameter("get by key"), |bench| {
            bench.iter(|| registry.get(&ROOT, any() as i32 + 1, 4096, 0o600, 1, |_| Ok(())));
        });
        group.bench_function(BenchmarkId::from_parameter("attach and detach"), |bench| {
            bench.iter(|| {
                let id = ids[any()];
                registry.attach(id, 10, 1, 1).expect("it is there");
                black_box(registry.detach(id, 10, 1, 1).is_ok())
            });
        });
        group.bench_function(BenchmarkId::from_parameter("stat"), |bench| {
            bench.iter(|| registry.stat(&ROOT, ids[any()], Found::ById).is_ok());
        });
        group.bench_function(BenchmarkId::from_parameter("make and remove"), |bench| {
            bench.iter(|| {
                let got = registry.get(&ROOT, IPC_PRIVATE, 4096, 0o600, 1, |_| Ok(()));
                black_box(registry.remove(&ROOT, got.expect("there is room").id()).is_ok())
            });
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    calls(&mut criterion);
    criterion.final_summary();
}
