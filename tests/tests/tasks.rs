//! Tasks: how threads and processes share memory, end each other and take each other's place, on several vCPUs at once.

use tests::{Run, Toolchain};

/// `source` writes and ends as on Linux, for both C libraries, on so many vCPUs.
fn as_on_linux(source: &str, vcpus: &[u32]) {
    for toolchain in [Toolchain::Musl, Toolchain::Glibc] {
        for vcpus in vcpus {
            Run::with(source, toolchain).vcpus(*vcpus).compare().expect_all(0);
        }
    }
}

#[test]
fn every_task_has_its_own_registers() {
    as_on_linux("registers.c", &[1, 2]);
}
