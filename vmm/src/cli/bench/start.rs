//! What is measured from outside: whole commands, from their start to their end, and the memory they take.
//!
//! The command runs itself (`tombolo run`) with the built-in program as a file. Natively the same file is started as often,
//! one process after the other being waited for together.

use super::figures::Run;
use super::plan::{Extent, Group, Place};
use super::{Figure, Findings};
use crate::cli::lab::Lab;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One command to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// Guests that say hello, or as many processes.
    Hello { guests: u32, place: Place },
    /// Guests that rest while their memory is looked at.
    Memory,
    /// Guests that all attach one segment.
    Meet { guests: u32 },
}

/// How many guests more are looked at than one, to know what one costs.
const GUESTS_MORE: u32 = 16;
/// How long they rest, milliseconds.
const REST_MS: u64 = 1500;

/// The commands for these groups, in their order.
pub(super) fn outside(groups: &[Group], extent: Extent) -> Vec<Outside> {
    let mut all = Vec::new();
    let rounds = |guests: u32| match (extent, guests) {
        (Extent::Full, 1) => 20,
        (Extent::Full, 8) => 9,
        (Extent::Full, _) => 3,
        (Extent::Quick, 1) => 7,
        (Extent::Quick, 8) => 3,
        (Extent::Quick, _) => 1,
    };
    if groups.contains(&Group::Start) {
        let numbers: &[u32] = match extent {
            Extent::Full => &[1, 8, 64, 256],
            Extent::Quick => &[1, 8, 64],
        };
        for &guests in numbers {
            for _ in 0..rounds(guests) {
                for place in [Place::Native, Place::NativeAgain, Place::Guests] {
                    all.push(Outside::Hello { guests, place });
                }
            }
        }
        all.push(Outside::Memory);
    }
    if groups.contains(&Group::Scale) {
        // 256 guests take tens of seconds where ring 0 is emulated.
        let most = if extent == Extent::Full { 256 } else { 64 };
        for guests in [1, 16, most] {
            all.extend((0..rounds(guests).min(3)).map(|_| Outside::Meet { guests }));
        }
    }
    all
}

/// A directory with the program, gone when it is dropped.
struct Files(PathBuf);

impl Files {
    fn new(program: &[u8]) -> Result<Files> {
        let path = std::env::temp_dir().join(format!("tombolo-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let files = Files(path);
        fs::write(files.program(), program).context("the program's file")?;
        fs::set_permissions(files.program(), fs::Permissions::from_mode(0o755))
            .context("the program's file")?;
        Ok(files)
    }

    fn program(&self) -> PathBuf {
        self.0.join("bench")
    }

    fn report(&self) -> PathBuf {
        self.0.join("report.json")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Nothing can be done about a directory that does not go.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the commands.
///
/// # Errors
/// What a command failed with.
pub(super) fn measure(
    lab: &Lab,
    all: &[Outside],
    khz: u64,
    findings: &mut Findings,
    mut progress: impl FnMut(u64, &str),
) -> Result<()> {
    let files = Files::new(lab.program_bytes())?;
    for (nth, outside) in all.iter().enumerate() {
        if lab.signal().is_some() {
            bail!("ended by a signal");
        }
        match *outside {
            Outside::Hello { guests, place } => {
                progress(nth as u64, &format!("hello, {guests} times, {}", place.name()));
                hello(&files, guests, place, findings)?;
            }
            Outside::Memory => {
                progress(nth as u64, "memory of a guest");
                let (one, more) = (memory(&files, 1)?, memory(&files, 1 + GUESTS_MORE)?);
                let each = |one: u64, more: u64| (more.saturating_sub(one) / u64::from(GUESTS_MORE)) >> 10;
                findings.notes.push((
                    Group::Start,
                    format!(
                        "memory of the host for a guest beyond its own RAM: {} KiB (PSS), and {} KiB in the host's \
                         kernel, KVM's with it ({}; of the whole machine)",
                        each(one.process, more.process),
                        each(one.kernel, more.kernel),
                        OF_KERNEL.map(|name| name.trim_end_matches(':')).join(", "),
                    ),
                ));
            }
            Outside::Meet { guests } => {
                progress(nth as u64, &format!("{guests} guests attach one segment"));
                meet(&files, guests, khz, findings)?;
            }
        }
    }
    Ok(())
}

fn guests_command(files: &Files, guests: u32, words: &[String]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["run", "--prefix", "never", "--report"])
        .arg(files.report());
    command
        .args(["-n", &guests.to_string()])
        .arg(files.program())
        .args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn words(what: &str, khz: u64, count: u64) -> Vec<String> {
    let key = 0x0062_656e_u32;
    vec![
        what.into(),
        "0".into(),
        "0,0".into(),
        key.to_string(),
        khz.to_string(),
        count.to_string(),
    ]
}

fn wait(mut child: Child) -> Result<Vec<String>> {
    let stdout = child.stdout.take().context("a pipe")?;
    let lines = BufReader::new(stdout).lines().map_while(Result::ok).collect();
    let status = child.wait().context("waiting for a command")?;
    if !status.success() {
        bail!("a command ended with {status}");
    }
    Ok(lines)
}

fn hello(files: &Files, guests: u32, place: Place, findings: &mut Findings) -> Result<()> {
    let words = words("hello", 1, 1);
    let began = Instant::now();
    let mut said = 0;
    if place == Place::Guests {
        said += wait(
            guests_command(files, guests, &words)
                .spawn()
                .context("/proc/self/exe")?,
        )?
        .len();
    } else {
        let start = |_| {
            let mut command = Command::new(files.program());
            command
                .args(&words)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        };
        let children = (0..guests)
            .map(start)
            .collect::<Result<Vec<_>, _>>()
            .context("the program as a process")?;
        for child in children {
            said += wait(child)?.len();
        }
    }
    let took = began.elapsed();
    if said != guests as usize {
        bail!("{said} of {guests} said hello");
    }
    record(
        findings,
        Group::Start,
        &format!("hello times {guests}"),
        place,
        took,
    );
    if place == Place::Guests && guests == 1 {
        steps(&files.report(), took, findings)?;
    }
    Ok(())
}

/// How far a guest came when, from the command's own report.
fn steps(report: &Path, took: Duration, findings: &mut Findings) -> Result<()> {
    let report: Value = serde_json::from_str(&fs::read_to_string(report).context("a report")?)?;
    let start = &report["guests"][0]["start"];
    let mut before = 0;
    for (key, name) in [
        ("vm_created_ns", "of it: VM and vCPUs made"),
        ("loaded_ns", "of it: images loaded"),
        ("entered_ns", "of it: vCPUs started"),
        ("kernel_ready_ns", "of it: kernel booted"),
        ("first_program_ns", "of it: program loaded"),
        ("gone_ns", "of it: program, and end of the guest"),
    ] {
        let at = start[key]
            .as_u64()
            .with_context(|| format!("the report has no {key}"))?;
        let step = Duration::from_nanos(at.saturating_sub(before));
        record(findings, Group::Start, name, Place::Guests, step);
        before = at;
    }
    let rest = took.saturating_sub(Duration::from_nanos(before));
    record(
        findings,
        Group::Start,
        "of it: the command around it",
        Place::Guests,
        rest,
    );
    Ok(())
}

fn record(findings: &mut Findings, group: Group, name: &str, place: Place, took: Duration) {
    add(findings, group, name, place, Run::once(took));
}

/// Adds a run to the figure of that name, which it makes if there is none.
pub(super) fn add(findings: &mut Findings, group: Group, name: &str, place: Place, run: Run) {
    let known = findings
        .figures
        .iter()
        .position(|figure| figure.group == group && figure.name == name);
    let index = known.unwrap_or_else(|| {
        findings.figures.push(Figure {
            group,
            name: name.into(),
            moves: None,
            runs: BTreeMap::new(),
        });
        findings.figures.len() - 1
    });
    findings.figures[index].runs.entry(place).or_default().push(run);
}

/// What resting guests take; bytes.
struct Taken {
    /// The command's proportional set size without guests' RAM.
    process: u64,
    /// What the host's kernel has grown by since the command was started, if nothing else goes on.
    kernel: u64,
}

/// Fields of /proc/meminfo for what the kernel has made for processes and virtual machines (proc_meminfo(5); KVM's page
/// tables are SecPageTables).
const OF_KERNEL: [&str; 4] = ["SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:"];

/// The sum of these fields, in bytes.
fn of_kernel(meminfo: &str) -> u64 {
    let mut total = 0;
    for line in meminfo.lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|name| OF_KERNEL.contains(&name)) {
            total += words.next().and_then(|kib| kib.parse().ok()).unwrap_or(0u64) << 10;
        }
    }
    total
}

/// What a command with so many guests takes while they rest.
fn memory(files: &Files, guests: u32) -> Result<Taken> {
    let kernel = || fs::read_to_string("/proc/meminfo").context("/proc/meminfo");
    let before = of_kernel(&kernel()?);
    let mut child = guests_command(files, guests, &words("rest", 1, REST_MS))
        .spawn()
        .context("/proc/self/exe")?;
    let stdout = child.stdout.take().context("a pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    for _ in 0..guests {
        lines.next().context("a guest did not come to rest")??;
    }
    let after = of_kernel(&kernel()?);
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", child.id())).context("smaps")?;
    for line in lines {
        line?;
    }
    let status = child.wait().context("waiting for a command")?;
    if !status.success() {
        bail!("a command ended with {status}");
    }
    Ok(Taken {
        process: proportional(&smaps),
        kernel: after.saturating_sub(before),
    })
}

/// The sum of a process's Pss without guests' RAM, in bytes.
fn proportional(smaps: &str) -> u64 {
    let (mut total, mut counts) = (0, true);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Pss:") if counts => {
                total += words.next().and_then(|kib| kib.parse().ok()).unwrap_or(0u64) << 10
            }
            // A mapping's first line begins with its addresses.
            Some(first) if first.contains('-') => counts = !line.contains("tombolo-ram"),
            _ => {}
        }
    }
    total
}

fn meet(files: &Files, guests: u32, khz: u64, findings: &mut Findings) -> Result<()> {
    let lines = wait(
        guests_command(files, guests, &words("meet", khz, guests.into()))
            .spawn()
            .context("/proc/self/exe")?,
    )?;
    let mut attaches: Vec<u64> = lines
        .iter()
        .filter_map(|line| super::figures::parse(line).map(|(_, run)| run.median))
        .collect();
    if attaches.len() != guests as usize {
        bail!("{} of {guests} guests attached", attaches.len());
    }
    attaches.sort_unstable();
    let at = |percent: usize| attaches[((attaches.len() - 1) * percent).div_ceil(100)];
    let run = Run {
        least: at(0),
        median: at(50),
        p99: at(99),
        samples: guests.into(),
    };
    add(
        findings,
        Group::Scale,
        &format!("attach in each of {guests} guests"),
        Place::Guests,
        run,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_own_ram_is_not_counted() {
        let smaps = "55-56 rw-p 00 00:00 0\nRss: 9 kB\nPss:                  12 kB\n\
                     7f-80 rw-s 00 00:01 5 /memfd:tombolo-ram (deleted)\nPss: 1000 kB\n\
                     80-81 rw-p 00 00:00 0 [stack]\nPss: 8 kB\nPss_Dirty: 8 kB\n";
        assert_eq!(proportional(smaps), 20 << 10);
    }

    #[test]
    fn the_kernels_memory_is_the_sum_of_its_fields() {
        let meminfo = "MemTotal: 24684084 kB\nSlab: 9 kB\nSUnreclaim:        5 kB\nKernelStack: 2 kB\n\
                       PageTables: 1 kB\nSecPageTables:  4 kB\nHugePages_Total:       0\n";
        assert_eq!(of_kernel(meminfo), 12 << 10);
    }

    #[test]
    fn native_and_guests_take_turns() {
        let all = outside(&[Group::Start], Extent::Quick);
        let places: Vec<_> = all
            .iter()
            .take(3)
            .map(|outside| match outside {
                Outside::Hello { guests: 1, place } => *place,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(places, [Place::Native, Place::NativeAgain, Place::Guests]);
        assert!(outside(&[Group::Wake], Extent::Full).is_empty());
    }
}
