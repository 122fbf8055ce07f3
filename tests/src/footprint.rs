//! What a run leaves behind in this process: descriptors, mappings, threads, children. It must be nothing.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Largest inaccessible mapping that a C library makes for itself: windows are far larger.
const LARGEST_RESERVE: u64 = 512 << 20;

/// Everything in this process that a run could have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    descriptors: BTreeMap<String, u32>,
    /// Guest memory, vCPU states, segments, windows.
    mappings: Vec<String>,
    /// The library's threads: all are named `guest …`.
    threads: Vec<String>,
    children: Vec<String>,
}

impl Footprint {
    pub(crate) fn now() -> Footprint {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten() {
            let target = fs::read_link(entry.path())
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Inode numbers of anonymous descriptors differ; the directory is the one being read.
            if !target.starts_with("/proc/") {
                *descriptors.entry(target).or_default() += 1;
            }
        }
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        let mappings = maps
            .lines()
            .filter(|line| is_a_guests(line))
            .map(str::to_owned)
            .collect();
        let (mut threads, mut children) = (Vec::new(), Vec::new());
        for task in fs::read_dir("/proc/self/task")
            .expect("/proc is mounted")
            .flatten()
        {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.starts_with("guest ") {
                threads.push(name.trim().to_owned());
            }
            let pids = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(pids.split_whitespace().map(str::to_owned));
        }
        Footprint {
            descriptors,
            mappings,
            threads,
            children,
        }
    }

    /// Waits shortly until nothing is there that was not there before: an exiting thread stays in /proc for a moment
    /// after a join, and another test may just be reading a file.
    ///
    /// # Panics
    /// If something stays.
    pub(crate) fn check_nothing_new(&self, what: &str) {
        let start = Instant::now();
        loop {
            let now = Footprint::now();
            if now.is_within(self) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{what} left something behind in this process\nbefore: {self:#?}\nafter: {now:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_within(&self, before: &Footprint) -> bool {
        let count = |name| before.descriptors.get(name).copied().unwrap_or(0);
        self.descriptors
            .iter()
            .all(|(name, &number)| number <= count(name))
            && self
                .mappings
                .iter()
                .all(|mapping| before.mappings.contains(mapping))
            && self.threads.len() <= before.threads.len()
            && self.children.iter().all(|child| before.children.contains(child))
    }
}

fn is_a_guests(line: &str) -> bool {
    let mut fields = line.split_whitespace();
    let range = fields.next().unwrap_or_default();
    let rights = fields.next().unwrap_or_default();
    let length = range
        .split_once('-')
        .and_then(|(from, to)| Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?))
        .unwrap_or(0);
    line.contains("memfd:") || line.contains("kvm") || (rights.starts_with("---") && length > LARGEST_RESERVE)
}
