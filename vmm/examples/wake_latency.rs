//! Runs `tests/programs/wake_latency.c`, built static, natively, in one guest and across two, by turns, and prints a table
//! of medians of the medians it tells: `cargo run --release --example wake_latency -- PROGRAM [TIMES [ROUNDS]]`.
//!
//! By turns, because a machine's speed wanders: what is compared was measured in the same minute.

use anyhow::Context;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tombolo::config::{DEFAULT_MEMORY, GroupConfig, GuestConfig, Output, ProcessConfig, Stdin};
use tombolo::group::Group;
use tombolo::image::Program;
use tombolo::outcome::KvmKind;

/// Where the two who wake each other are.
struct Place {
    name: &'static str,
    /// 0: on the host.
    guests: u32,
    /// Processes on the host or in each guest; one process has both as threads.
    procs: u32,
}

const PLACES: [Place; 5] = [
    Place {
        name: "Linux, two threads",
        guests: 0,
        procs: 1,
    },
    Place {
        name: "Linux, two processes",
        guests: 0,
        procs: 2,
    },
    Place {
        name: "one guest, two threads",
        guests: 1,
        procs: 1,
    },
    Place {
        name: "one guest, two processes",
        guests: 1,
        procs: 2,
    },
    Place {
        name: "two guests",
        guests: 2,
        procs: 1,
    },
];

#[derive(Default)]
struct Captured(Mutex<Vec<u8>>);

impl Output for Captured {
    fn write(&self, _guest: u32, _process: u32, _descriptor: u32, bytes: &[u8]) -> Result<usize, abi::Errno> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

fn natively(path: &str, procs: u32, rounds: &str) -> anyhow::Result<String> {
    let start = |process: u32| {
        Command::new(path)
            .arg(rounds)
            .env("TOMBOLO_PROCS", procs.to_string())
            .env("TOMBOLO_PROC", process.to_string())
            .stdout(Stdio::piped())
            .spawn()
    };
    let children = (0..procs).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for child in children {
        text += &String::from_utf8(child.wait_with_output()?.stdout)?;
    }
    Ok(text)
}

fn in_guests(path: &str, place: &Place, rounds: &str) -> anyhow::Result<(String, Option<KvmKind>)> {
    let process = ProcessConfig {
        program: Arc::new(Program::load(path)?),
        args: vec![path.into(), rounds.into()],
        env: Vec::new(),
    };
    let guest = GuestConfig {
        vcpus: if place.guests == 1 { 2 } else { 1 },
        memory: DEFAULT_MEMORY,
        processes: vec![process; place.procs as usize],
        policy: Default::default(),
        quota: Default::default(),
        uid: 0,
        gid: 0,
        files: Vec::new(),
        flags: Default::default(),
        inject: None,
    };
    let output = Arc::new(Captured::default());
    let outcome = Group::start(GroupConfig {
        guests: vec![guest; place.guests as usize],
        timeout: Some(Duration::from_secs(120)),
        stdin: Stdin::Bytes(Vec::new()),
        output: output.clone(),
        limits: Default::default(),
        kernel: None,
        observer: None,
    })?
    .wait();
    let text = std::mem::take(&mut *output.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((String::from_utf8(text)?, outcome.kvm))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let path = args
        .get(1)
        .context("usage: wake_latency PROGRAM [TIMES [ROUNDS]]")?;
    let times: u32 = args.get(2).map_or(Ok(5), |text| text.parse())?;
    let rounds = args.get(3).map_or("1000", String::as_str);
    let mut kvm = None;
    let mut seen: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    for _ in 0..times {
        for (number, place) in PLACES.iter().enumerate() {
            let text = if place.guests == 0 {
                natively(path, place.procs, rounds)?
            } else {
                let (text, kind) = in_guests(path, place, rounds)?;
                kvm = kvm.or(kind);
                text
            };
            for line in text.lines() {
                let (what, microseconds) = line.split_once(' ').context("a line `what microseconds`")?;
                let value = microseconds.parse().with_context(|| line.to_owned())?;
                seen.entry((number, what.to_owned())).or_default().push(value);
            }
        }
    }
    println!("KVM: {kvm:?}. Round trip in microseconds: median of {rounds}, median of {times} runs.\n");
    let ways = ["futex", "semaphore", "condition"];
    println!("| | {} |\n|---|{}", ways.join(" | "), "---|".repeat(ways.len()));
    for (number, place) in PLACES.iter().enumerate() {
        print!("| {} |", place.name);
        for way in ways {
            match seen.get_mut(&(number, way.to_owned())) {
                Some(values) => print!(" {:.1} |", median(values)),
                None => print!(" – |"),
            }
        }
        println!();
    }
    Ok(())
}
