//! The machine that figures were taken on.

use serde::Serialize;
use std::fs;
use tombolo::outcome::KvmKind;

/// What a reader has to know to make sense of a figure.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Machine {
    /// The CPU's name.
    pub(super) cpu: String,
    /// How many CPUs may be used.
    pub(super) cpus: usize,
    /// Bytes of RAM.
    pub(super) memory: u64,
    /// Release of the host's kernel.
    pub(super) kernel: String,
    /// Whether shared memory gets huge pages by itself.
    pub(super) huge_shared_memory: String,
    /// Whether free memory goes back to the machine's own host, page block by page block, and is dear to touch again.
    pub(super) gives_free_memory_back: bool,
    /// Processes that wanted to run, averaged over the last minute, before the measurements: a busy machine spoils them.
    pub(super) load: String,
    /// The kind of KVM, once a guest has told.
    pub(super) kvm: Option<KvmKind>,
    /// When, UTC.
    pub(super) date: String,
    /// The command.
    pub(super) command: String,
}

impl Machine {
    /// This one, now.
    pub(super) fn look(cpus: usize) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let system = rustix::system::sysinfo();
        let huge = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
        let chosen = huge.split(['[', ']']).nth(1).unwrap_or("unknown");
        Machine {
            cpu: model
                .and_then(|line| line.split(": ").nth(1))
                .unwrap_or("unknown")
                .to_owned(),
            cpus,
            memory: system.totalram.saturating_mul(u64::from(system.mem_unit)),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            huge_shared_memory: chosen.to_owned(),
            gives_free_memory_back: gives_free_memory_back(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            kvm: None,
            date: date(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }

    /// In two lines.
    pub(super) fn describe(&self) -> String {
        format!(
            "{}, {} CPUs, {} GiB, Linux {}, load {}, huge pages for shared memory: {}{}.\nKVM: {}. {} UTC: {}",
            self.cpu,
            self.cpus,
            self.memory.div_ceil(1 << 30),
            self.kernel,
            self.load,
            self.huge_shared_memory,
            if self.gives_free_memory_back {
                "; a virtual machine that gives free memory back to its host"
            } else {
                ""
            },
            self.kvm.map_or("unknown".into(), |kvm| kvm.to_string()),
            self.date,
            self.command,
        )
    }
}

/// Whether this is a virtual machine with a balloon that reports free pages (VIRTIO_BALLOON_F_REPORTING, Virtual I/O
/// Device 1.2, 5.5.3; sysfs shows features as digits, the lowest first).
fn gives_free_memory_back() -> bool {
    const BALLOON: &str = "0x0005";
    const REPORTING: usize = 5;
    let devices = fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten();
    devices.flatten().any(|device| {
        let read = |name| fs::read_to_string(device.path().join(name)).unwrap_or_default();
        read("device").trim() == BALLOON && read("features").as_bytes().get(REPORTING) == Some(&b'1')
    })
}

fn date() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    date_of(now.map_or(0, |since| since.as_secs()))
}

/// `2026-11-24 22:10`, from seconds since 1970.
fn date_of(seconds: u64) -> String {
    let (mut day, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    let days_of = |month| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    while day >= days_of(month) {
        day -= days_of(month);
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02} {:02}:{:02}",
        day + 1,
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_795_558_200, "2026-11-24 22:10"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date_of(seconds), date);
        }
    }
}
