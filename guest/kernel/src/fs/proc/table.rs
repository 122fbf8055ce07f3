//! The names in `/proc` and `/sys`.

use super::{File, Jump, Kind, system};
use abi::hypercall::{
    PROC_SHM, PROC_SHM_NEXT_ID, PROC_SHM_RMID_FORCED, PROC_SHMALL, PROC_SHMMAX, PROC_SHMMNI,
};

/// A name.
pub struct Entry {
    /// The name itself; none if the directory shows it by numbers.
    pub name: &'static [u8],
    /// The directory it is in.
    pub parent: u8,
    /// Permissions.
    pub mode: u16,
    /// What it is.
    pub kind: Kind,
}

const fn entry(parent: u8, name: &'static [u8], mode: u16, kind: Kind) -> Entry {
    Entry {
        name,
        parent,
        mode,
        kind,
    }
}

const fn directory(parent: u8, name: &'static [u8]) -> Entry {
    entry(parent, name, 0o555, Kind::Directory)
}

const fn link(parent: u8, name: &'static [u8], kind: Kind) -> Entry {
    entry(parent, name, 0o777, kind)
}

const fn file(parent: u8, name: &'static [u8], file: File) -> Entry {
    entry(parent, name, 0o444, Kind::File(file))
}

const fn fixed(parent: u8, name: &'static [u8], text: &'static str) -> Entry {
    file(parent, name, File::Fixed(text))
}

/// A setting that root may change.
const fn setting(parent: u8, name: &'static [u8], which: u64) -> Entry {
    entry(parent, name, 0o644, Kind::File(File::Broker(which)))
}

/// `/proc`.
pub const ROOT: u8 = 0;
const SYS: u8 = 1;
const KERNEL: u8 = 2;
const VM: u8 = 3;
const FS: u8 = 4;
const SYSVIPC: u8 = 5;
/// `/proc/PID`, and `/proc/PID/task/TID`.
pub const PROCESS: u8 = 6;
/// `/proc/PID/fd`.
pub const DESCRIPTORS: u8 = 7;
/// `/proc/PID/fd/N`.
pub const DESCRIPTOR: u8 = 8;
/// `/proc/PID/task`.
pub const TASKS: u8 = 9;
/// `/proc/PID/fdinfo`.
pub const DESCRIPTOR_INFOS: u8 = 10;
/// `/proc/PID/fdinfo/N`.
pub const DESCRIPTOR_INFO: u8 = 11;
const RANDOM: u8 = 12;
/// `/sys`.
pub const SYSFS: u8 = 13;
const DEVICES: u8 = 14;
const SYSTEM: u8 = 15;
const CPU: u8 = 16;
const SYS_KERNEL: u8 = 17;
const MM: u8 = 18;
const HUGE: u8 = 19;

/// All names, directories before what is in them. Values of settings are those of the Linux the calls were checked
/// against.
pub static ENTRIES: &[Entry] = &[
    directory(ROOT, b""),
    directory(ROOT, b"sys"),
    directory(SYS, b"kernel"),
    directory(SYS, b"vm"),
    directory(SYS, b"fs"),
    directory(ROOT, b"sysvipc"),
    // Shown under the id of each process.
    directory(ROOT, b""),
    entry(PROCESS, b"fd", 0o500, Kind::Directory),
    entry(DESCRIPTORS, b"", 0o700, Kind::Jump(Jump::Descriptor)),
    directory(PROCESS, b"task"),
    entry(PROCESS, b"fdinfo", 0o555, Kind::Directory),
    file(DESCRIPTOR_INFOS, b"", File::DescriptorInfo),
    directory(KERNEL, b"random"),
    // In no directory of the table: the tree has it.
    entry(SYSFS, b"", 0o555, Kind::Directory),
    entry(SYSFS, b"devices", 0o755, Kind::Directory),
    entry(DEVICES, b"system", 0o755, Kind::Directory),
    entry(SYSTEM, b"cpu", 0o755, Kind::Directory),
    entry(SYSFS, b"kernel", 0o755, Kind::Directory),
    entry(SYS_KERNEL, b"mm", 0o755, Kind::Directory),
    entry(MM, b"transparent_hugepage", 0o755, Kind::Directory),
    link(ROOT, b"self", Kind::OwnDirectory),
    link(ROOT, b"thread-self", Kind::OwnThread),
    link(ROOT, b"mounts", Kind::Link(b"self/mounts")),
    file(ROOT, b"meminfo", File::MemInfo),
    file(ROOT, b"cpuinfo", File::CpuInfo),
    file(ROOT, b"stat", File::Stat),
    file(ROOT, b"uptime", File::Uptime),
    file(ROOT, b"loadavg", File::LoadAverage),
    // Nothing is passed to the kernel in words.
    fixed(ROOT, b"cmdline", "\n"),
    fixed(
        ROOT,
        b"version",
        "Linux version 6.18.0-tombolo (tombolo) #1 SMP\n",
    ),
    file(ROOT, b"vmstat", File::MemoryNumbers),
    fixed(
        ROOT,
        b"filesystems",
        "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tpipefs\n",
    ),
    fixed(
        ROOT,
        b"swaps",
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
    ),
    file(SYSVIPC, b"shm", File::Broker(PROC_SHM)),
    fixed(SYSVIPC, b"sem", system::SEMAPHORES),
    fixed(SYSVIPC, b"msg", system::QUEUES),
    setting(KERNEL, b"shmmax", PROC_SHMMAX),
    setting(KERNEL, b"shmall", PROC_SHMALL),
    setting(KERNEL, b"shmmni", PROC_SHMMNI),
    // Who may write to that one is a matter of capabilities, which root has (`ipc_permissions`).
    file(KERNEL, b"shm_next_id", File::Broker(PROC_SHM_NEXT_ID)),
    setting(KERNEL, b"shm_rmid_forced", PROC_SHM_RMID_FORCED),
    fixed(KERNEL, b"sem", "32000\t1024000000\t500\t32000\n"),
    fixed(KERNEL, b"msgmax", "8192\n"),
    fixed(KERNEL, b"msgmnb", "16384\n"),
    fixed(KERNEL, b"msgmni", "32000\n"),
    fixed(KERNEL, b"ostype", "Linux\n"),
    fixed(KERNEL, b"osrelease", "6.18.0-tombolo\n"),
    fixed(KERNEL, b"version", "#1 SMP\n"),
    fixed(KERNEL, b"hostname", "tombolo\n"),
    fixed(KERNEL, b"domainname", "(none)\n"),
    fixed(KERNEL, b"pid_max", "4194304\n"),
    fixed(KERNEL, b"threads-max", "256\n"),
    fixed(KERNEL, b"ngroups_max", "32\n"),
    fixed(KERNEL, b"cap_last_cap", "40\n"),
    fixed(KERNEL, b"overflowuid", "65534\n"),
    fixed(KERNEL, b"overflowgid", "65534\n"),
    fixed(KERNEL, b"randomize_va_space", "0\n"),
    fixed(KERNEL, b"tainted", "0\n"),
    // No core is ever dumped, which is what no pattern means (core(5)).
    fixed(KERNEL, b"core_pattern", "\n"),
    file(RANDOM, b"uuid", File::Uuid),
    file(RANDOM, b"boot_id", File::BootId),
    fixed(VM, b"max_map_count", "16384\n"),
    fixed(VM, b"mmap_min_addr", "65536\n"),
    fixed(VM, b"overcommit_memory", "0\n"),
    fixed(VM, b"nr_hugepages", "0\n"),
    fixed(FS, b"file-max", "4096\n"),
    file(FS, b"file-nr", File::OpenCount),
    fixed(FS, b"nr_open", "1048576\n"),
    fixed(FS, b"pipe-max-size", "65536\n"),
    link(PROCESS, b"exe", Kind::Jump(Jump::Exe)),
    link(PROCESS, b"cwd", Kind::Jump(Jump::Cwd)),
    link(PROCESS, b"root", Kind::Jump(Jump::Root)),
    file(PROCESS, b"stat", File::ProcessStat),
    file(PROCESS, b"statm", File::ProcessMemory),
    file(PROCESS, b"status", File::ProcessStatus),
    file(PROCESS, b"cmdline", File::CommandLine),
    entry(PROCESS, b"environ", 0o400, Kind::File(File::Environment)),
    entry(PROCESS, b"comm", 0o644, Kind::File(File::Command)),
    file(PROCESS, b"maps", File::Maps),
    file(PROCESS, b"smaps", File::SizedMaps),
    entry(PROCESS, b"auxv", 0o400, Kind::File(File::Auxiliary)),
    entry(PROCESS, b"oom_score_adj", 0o644, Kind::File(File::OomAdjustment)),
    file(PROCESS, b"limits", File::Limits),
    fixed(PROCESS, b"mounts", system::MOUNTS),
    file(PROCESS, b"mountinfo", File::MountInfo),
    file(CPU, b"online", File::CpuRange),
    file(CPU, b"possible", File::CpuRange),
    file(CPU, b"present", File::CpuRange),
    fixed(CPU, b"offline", "\n"),
    // The kernel's pages become large ones wherever they can, whatever madvise(2) says.
    fixed(HUGE, b"enabled", "[always] madvise never\n"),
    fixed(HUGE, b"hpage_pmd_size", "2097152\n"),
];

const _: () = assert!(ENTRIES.len() <= 256);
const _: () = assert!(matches!(ENTRIES[HUGE as usize].name, b"transparent_hugepage"));
