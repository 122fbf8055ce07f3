//! Boots one guest with one program and prints its whole outcome: `cargo run --example boot -- PROGRAM [ARGS…]`.

use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use tombolo::config::{DEFAULT_MEMORY, GroupConfig, GuestConfig, ProcessConfig, Stdin};
use tombolo::device::output::HostOutput;
use tombolo::group::Group;
use tombolo::image::Program;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let path = std::env::args_os()
        .nth(1)
        .ok_or_else(|| anyhow::anyhow!("usage: boot PROGRAM [ARGS…]"))?;
    let program = Arc::new(Program::load(path)?);
    let number = |name: &str, default: u32| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let process = ProcessConfig {
        program,
        args,
        env: vec![b"PATH=/bin".to_vec()],
    };
    let guest = GuestConfig {
        vcpus: number("VCPUS", 1),
        memory: DEFAULT_MEMORY,
        processes: vec![process; number("PROCS", 1) as usize],
        policy: Default::default(),
        quota: Default::default(),
        uid: 0,
        gid: 0,
        files: Vec::new(),
        flags: abi::boot::BootFlags::from_bits_truncate(number("FLAGS", 4).into()),
        inject: None,
    };
    let outcome = Group::start(GroupConfig {
        guests: vec![guest; number("GUESTS", 1) as usize],
        timeout: Some(std::time::Duration::from_secs(number("TIMEOUT", 10).into())),
        stdin: Stdin::Inherit,
        output: Arc::new(HostOutput::new()?),
        limits: Default::default(),
        kernel: None,
        observer: None,
    })?
    .wait();
    eprintln!("{outcome:#?}");
    Ok(())
}
