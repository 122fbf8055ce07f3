//! The command line: what may be said, and what was meant.
//!
//! clap reads the options; `tombolo run`'s `:` and what may stand where is decided here. Every error is one line
//! ([`Refused::Wrong`]), for the caller to print and exit with 125.

use super::values::{self, FileArg, ReadOnly};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use shm::Limits;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tombolo::broker::{GuestPolicy, Quota};
use tombolo::config::DEFAULT_MEMORY;

const EXAMPLES: &str = "\
Examples:
  tombolo                                     the demo
  tombolo run ./hello                         a program in a virtual machine of its own
  tombolo run -n 2 --procs 2 --vcpus 2 ./shm  two guests, two processes each
  tombolo run ./server : -n 3 ./client 42     one guest with one program, three with another
  tombolo run --help                          all options, and what exit statuses mean
  tombolo litmus                              do guests see memory as x86 promises?
  tombolo bench --quick                       how fast is it, compared with native?

All guests of one command share their System V segments and /dev/shm: shmget with
the same key finds the same memory, and so does shm_open with the same name.";

const RUN_EXAMPLES: &str = "\
Examples:
  cc -static -o shm shm.c && tombolo run -n 2 ./shm
  tombolo run --procs 4 --vcpus 2 ./worker -t 1   what follows PROGRAM is its own
  tombolo run ./producer : -n 2 --read-only 0x4d2 ./consumer
  echo hello | tombolo run busybox sha256sum      stdin goes to the first process
  tombolo run --timeout 10 --report run.json -n 2 ./shm
  tombolo run --file words.txt:/etc/words --uid 1000 ./reader
  tombolo run --shmmni 16 ./server : -n 3 --max-segments 2 --max-bytes 64M ./client

PROGRAM is a static Linux x86-64 ELF file (cc -static, musl-gcc -static, Rust with
-C target-feature=+crt-static). Without a slash it is searched for in PATH.

Programs find in their environment what --env says and nothing else but TOMBOLO_GUEST,
TOMBOLO_GUESTS, TOMBOLO_PROC and TOMBOLO_PROCS, which tell them who they are.

A `:` begins other guests of the same group, with options, program and arguments of
their own. Options of the whole run stand before the first PROGRAM.

Exit status: that of the first program to end with another than 0 (128 + signal if it
was killed), or
  124  the time-out was over         127  PROGRAM was not found
  125  Tombolo or a guest failed     129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C),
  126  PROGRAM can't be run                         SIGTERM";

const BENCH_HELP: &str = "\
The same program file runs natively and in guests, by turns and pinned, each place
several times; what is told is the median of the runs' medians and of their 99th
percentiles. A ratio is the median of the ratios of runs of the same round. Native is
measured twice in each round: how far these two lie apart is shown as the spread, and a
ratio within the spread is no difference. A busy machine makes it wide.

Groups:
  hand-off   one cache line between two players
  bandwidth  from a producer to a consumer through 64 MiB, and reading 1 GiB
  life       shmget, shmat, touching, shmdt, removal, 4 KiB to 1 GiB; the least call
  splice     a segment by a splice and by a KVM memory slot of its own
  wake       two players that wake each other by futex
  start      a program that says hello, in 1 to 256 guests; memory a guest costs
  scale      1 to 4096 segments in a guest, 1 to 256 guests with one segment

Examples:
  tombolo bench                            everything (some minutes)
  tombolo bench --quick                    less of everything
  tombolo bench wake hand-off --html bench.html
  tombolo bench --format json > bench.json

Exit status: 0, 125 if Tombolo or a guest failed, 129, 130, 143 if a signal ended it.
No figure is ever a failure.";

const LITMUS_HELP: &str = "\
A litmus test is two to four threads with one to three instructions each on words
they share, all 0 before. It is played many times, and what the threads read and what
is left in memory is counted: between threads of one process on Linux, between threads
on vCPUs of one guest, and between guests, one thread in each. The same program file
runs on all sides. Some tests are played again with the segment attached at an address
for each thread, with a read-only attach for those who only read, with the words on
either side of a 2 MiB boundary, and while one guest more attaches and detaches other
segments all the time.

What x86-TSO allows is not a list but computed: every order of instructions and of
store buffers is tried. `by buffers` means that no order of the instructions alone
explains an outcome. Processors show such outcomes, so the test SB has to show its own
on every side: otherwise the run says that it was not sensitive enough.

Examples:
  tombolo litmus                           all tests (some minutes)
  tombolo litmus --iterations 100000       a short look (some seconds)
  tombolo litmus SB MP --format json       two of them

Tests that need more CPUs than there are run a tenth of the rounds, and say so.
Exit status:
  0    nothing was seen that x86-TSO forbids, and the run was sensitive enough
  1    a forbidden outcome, or not sensitive enough
  125  Tombolo or a guest failed
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM";

/// System V shared memory between virtual machines.
///
/// Static Linux programs run in small virtual machines of their own and share memory with shmget and shmat, as if
/// they ran on one Linux. Without arguments: the demo.
#[derive(Debug, Parser)]
#[command(name = "tombolo", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct Common {
    /// Write the outcome to FILE as JSON; `-` is stdout
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) report: Option<PathBuf>,
    /// Log more on stderr (-vv, -vvv: still more; RUST_LOG says exactly what)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(super) verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Two guests share a segment: who sees whose write, and after how many nanoseconds
    Demo(DemoArgs),
    /// Run programs in guests that share their segments
    #[command(after_help = RUN_EXAMPLES, override_usage = RUN_USAGE)]
    Run(Box<RunArgs>),
    /// Play the x86 litmus tests natively, in one guest and across guests
    #[command(after_help = LITMUS_HELP)]
    Litmus(LitmusArgs),
    /// Measure hand-over, bandwidth, calls, wake-ups, start and scale, natively and in guests
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
}

const RUN_USAGE: &str = "tombolo run [OPTIONS] PROGRAM [ARGS]... [: [OPTIONS] PROGRAM [ARGS]...]...";

/// `tombolo demo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(super) struct DemoArgs {
    /// How to show the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,
}

/// `tombolo litmus`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct LitmusArgs {
    /// Rounds of each test on each side
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = values::rounds, allow_hyphen_values = true)]
    pub(super) iterations: u64,
    /// How to show the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,
    /// Only these tests, such as SB or 2+2W [default: all]
    #[arg(value_name = "TEST", value_parser = values::litmus_test)]
    pub(super) tests: Vec<&'static litmus::Test>,
}

/// `tombolo bench`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct BenchArgs {
    /// Less of everything: under a minute, and coarser
    #[arg(long)]
    pub(super) quick: bool,
    /// How to show the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,
    /// Also write a page with plots, which needs nothing else to be looked at
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Only these groups of measurements [default: all]
    #[arg(value_name = "GROUP", value_enum)]
    pub(super) groups: Vec<super::bench::Group>,
}

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Tables.
    Text,
    // One JSON object.
    Json,
}

/// When lines of output say who wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Prefix {
    // With more than one process. (These are not doc comments, which --help would spread over lines.)
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten, next_help_heading = "Options of these guests")]
    part: PartOptions,
    #[command(flatten, next_help_heading = "Options of the whole run")]
    whole: WholeOptions,
    // The program, its arguments, and after a `:` more of the same: the usage line says so.
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, hide = true)]
    words: Vec<OsString>,
}

/// Options of the whole run.
#[derive(Debug, Args)]
struct WholeOptions {
    /// End everything after SECONDS, with exit status 124
    #[arg(long, value_name = "SECONDS", value_parser = values::timeout, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Begin each line with `guest.process| ` (auto: if there are several processes)
    #[arg(long, value_name = "WHEN", value_enum)]
    prefix: Option<Prefix>,
    /// Most segments of the group (kernel.shmmni) [default: 4096]
    #[arg(long, value_name = "N", value_parser = values::segments_limit, allow_hyphen_values = true)]
    shmmni: Option<u64>,
    /// Largest segment: bytes, or with K, M, G, T (kernel.shmmax) [default: as Linux, without limit]
    #[arg(long, value_name = "SIZE", value_parser = values::size, allow_hyphen_values = true)]
    shmmax: Option<u64>,
    /// Most pages of 4096 bytes of all segments (kernel.shmall) [default: as Linux, without limit]
    #[arg(long, value_name = "PAGES", value_parser = values::pages_limit, allow_hyphen_values = true)]
    shmall: Option<u64>,
}

/// Options of one part.
#[derive(Debug, Args)]
struct PartOptions {
    /// Number of guests
    #[arg(short = 'n', long = "guests", value_name = "GUESTS", default_value = "1",
          value_parser = values::guests, allow_hyphen_values = true)]
    guests: u32,
    /// Virtual CPUs of each guest
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::vcpus, allow_hyphen_values = true)]
    vcpus: u32,
    /// Processes in each guest, spread over its vCPUs
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::processes, allow_hyphen_values = true)]
    procs: u32,
    /// Memory of each guest: bytes, or with K, M, G, T [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = values::memory, allow_hyphen_values = true)]
    memory: Option<u64>,
    /// Set a variable in the programs' environment
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// Allow only read-only attaches of segments with this key, or of all
    #[arg(long, value_name = "KEY|all", value_parser = values::read_only, allow_hyphen_values = true)]
    read_only: Vec<ReadOnly>,
    /// Segments that each guest may have made at one time; one more is ENOSPC
    #[arg(long, value_name = "N", value_parser = values::segments_quota, allow_hyphen_values = true)]
    max_segments: Option<u64>,
    /// Bytes, or with K, M, G, T, of all segments and files in /dev/shm each guest has made
    #[arg(long, value_name = "SIZE", value_parser = values::size, allow_hyphen_values = true)]
    max_bytes: Option<u64>,
    /// User the programs run as; none but 0 can become another
    #[arg(long, value_name = "ID", default_value = "0", value_parser = values::id, allow_hyphen_values = true)]
    uid: u32,
    /// Group the programs run with
    #[arg(long, value_name = "ID", default_value = "0", value_parser = values::id, allow_hyphen_values = true)]
    gid: u32,
    /// Give each guest a file, by the name GUEST [default: HOST as an absolute path]; programs, files and their directories
    /// are at most 3072
    #[arg(long, value_name = "HOST[:GUEST]")]
    file: Vec<OsString>,
}

/// What comes after a `:`.
#[derive(Debug, Parser)]
#[command(name = "tombolo run", no_binary_name = true, disable_help_flag = true)]
struct PartLine {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    run: RunArgs,
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Options of every subcommand.
    pub(super) common: Common,
    /// The subcommand.
    pub(super) task: Task,
}

/// A subcommand with its options.
#[derive(Debug, PartialEq)]
pub(super) enum Task {
    /// The demo.
    Demo(DemoArgs),
    /// Programs of one's own.
    Run(Run),
    /// Litmus tests.
    Litmus(LitmusArgs),
    /// Measurements.
    Bench(BenchArgs),
}

/// `tombolo run`.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    /// At least one.
    pub(super) parts: Vec<Part>,
    /// End everything after this long.
    pub(super) timeout: Option<Duration>,
    /// When to prefix lines.
    pub(super) prefix: Prefix,
    /// Limits of the group's segments.
    pub(super) limits: Limits,
}

/// Guests that run the same program.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    /// How many guests.
    pub(super) guests: u32,
    /// vCPUs of each.
    pub(super) vcpus: u32,
    /// Processes in each.
    pub(super) procs: u32,
    /// Memory of each, bytes.
    pub(super) memory: u64,
    /// Environment, `NAME=value`.
    pub(super) env: Vec<Vec<u8>>,
    /// Segments they may only read.
    pub(super) policy: GuestPolicy,
    /// How much each may make.
    pub(super) quota: Quota,
    /// User the programs run as.
    pub(super) uid: u32,
    /// Group the programs run with.
    pub(super) gid: u32,
    /// Files that travel with each guest.
    pub(super) files: Vec<FileArg>,
    /// The program as named.
    pub(super) program: OsString,
    /// Its arguments, without its name.
    pub(super) args: Vec<OsString>,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(super) enum Refused {
    /// `--help` or `--version`: to be printed.
    Shown(Box<clap::Error>),
    /// A mistake, in one line.
    Wrong(String),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Shown(Box::new(error)),
            _ => Refused::Wrong(one_line(&error.render().to_string())),
        }
    }
}

/// clap's message without its decoration: what is wrong and, in brackets, what may be meant.
fn one_line(rendered: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut message = String::new();
    for line in rendered
        .lines()
        .map(words)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
    {
        if let Some(tip) = line.strip_prefix("tip: ") {
            message += &format!(" ({tip})");
        } else if !line.is_empty() {
            message += if message.is_empty() { "" } else { " " };
            message += line.strip_prefix("error: ").unwrap_or(&line);
        }
    }
    message + "; see --help"
}

/// Reads a command line, the command's own name first.
///
/// # Errors
/// [`Refused`].
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, Refused> {
    let line = CommandLine::try_parse_from(words)?;
    let task = match line.command {
        None => Task::Demo(DemoArgs { format: Format::Text }),
        Some(Command::Demo(demo)) => Task::Demo(demo),
        Some(Command::Run(run)) => Task::Run(Run::new(*run)?),
        Some(Command::Litmus(litmus)) => Task::Litmus(litmus),
        Some(Command::Bench(bench)) => Task::Bench(bench),
    };
    if line.common.report.is_some() && matches!(task, Task::Litmus(_) | Task::Bench(_)) {
        return Err(Refused::Wrong(
            "--report is of `run` and the demo; here --format json says everything".into(),
        ));
    }
    Ok(Request {
        common: line.common,
        task,
    })
}

impl Run {
    fn new(first: RunArgs) -> Result<Self, Refused> {
        let mut pieces = first.words.split(|word| word == ":");
        // `split` yields at least one piece.
        let own = pieces.next().unwrap_or_default();
        if own.is_empty() {
            return Err(Refused::Wrong("no PROGRAM before the first `:`".into()));
        }
        let whole = first.whole;
        let (timeout, prefix) = (whole.timeout, whole.prefix.unwrap_or_default());
        let usual = Limits::default();
        let limits = Limits {
            mni: whole.shmmni.unwrap_or(usual.mni),
            max: whole.shmmax.unwrap_or(usual.max),
            all: whole.shmall.unwrap_or(usual.all),
            ..usual
        };
        let mut parts = vec![Part::new(first.part, own)?];
        for piece in pieces {
            let number = parts.len() + 1;
            parts.push(later_part(piece).map_err(|refused| match refused {
                Refused::Wrong(text) => Refused::Wrong(format!("part {number} (after a `:`): {text}")),
                shown => shown,
            })?);
        }
        let guests: u64 = parts.iter().map(|part| u64::from(part.guests)).sum();
        if guests > abi::MAX_GUESTS as u64 {
            return Err(Refused::Wrong(format!(
                "{guests} guests in all: a group has 1 to {}",
                abi::MAX_GUESTS
            )));
        }
        Ok(Run {
            parts,
            timeout,
            prefix,
            limits,
        })
    }

    /// How many processes start.
    pub(super) fn processes(&self) -> u64 {
        self.parts
            .iter()
            .map(|part| u64::from(part.guests) * u64::from(part.procs))
            .sum()
    }
}

fn later_part(words: &[OsString]) -> Result<Part, Refused> {
    if words.is_empty() {
        return Err(Refused::Wrong("no PROGRAM".into()));
    }
    let PartLine { common, run } = PartLine::try_parse_from(words)?;
    let misplaced = [
        (run.whole.timeout.is_some(), "--timeout"),
        (run.whole.prefix.is_some(), "--prefix"),
        (run.whole.shmmni.is_some(), "--shmmni"),
        (run.whole.shmmax.is_some(), "--shmmax"),
        (run.whole.shmall.is_some(), "--shmall"),
        (common.report.is_some(), "--report"),
        (common.verbose > 0, "--verbose"),
    ];
    if let Some((_, option)) = misplaced.iter().find(|(given, _)| *given) {
        return Err(Refused::Wrong(format!(
            "{option} is for the whole run: put it before the first PROGRAM"
        )));
    }
    Part::new(run.part, &run.words)
}

impl Part {
    fn new(options: PartOptions, words: &[OsString]) -> Result<Self, Refused> {
        let (program, args) = match words.split_first() {
            Some((program, args)) if !program.is_empty() => (program.clone(), args.to_vec()),
            _ => return Err(Refused::Wrong("PROGRAM is an empty name".into())),
        };
        let env = options
            .env
            .into_iter()
            .map(values::variable)
            .collect::<Result<_, _>>()
            .map_err(Refused::Wrong)?;
        let files = options
            .file
            .into_iter()
            .map(values::file)
            .collect::<Result<_, _>>()
            .map_err(Refused::Wrong)?;
        let usual = Quota::default();
        Ok(Part {
            guests: options.guests,
            vcpus: options.vcpus,
            procs: options.procs,
            memory: options.memory.unwrap_or(DEFAULT_MEMORY),
            env,
            policy: policy(&options.read_only),
            quota: Quota {
                segments: options.max_segments.unwrap_or(usual.segments),
                bytes: options.max_bytes.unwrap_or(usual.bytes),
            },
            uid: options.uid,
            gid: options.gid,
            files,
            program,
            args,
        })
    }
}

fn policy(read_only: &[ReadOnly]) -> GuestPolicy {
    if read_only.contains(&ReadOnly::All) {
        return GuestPolicy::ReadOnlyAll;
    }
    let keys: Vec<i32> = read_only
        .iter()
        .filter_map(|which| match which {
            ReadOnly::Key(key) => Some(*key),
            ReadOnly::All => None,
        })
        .collect();
    if keys.is_empty() {
        GuestPolicy::Unrestricted
    } else {
        GuestPolicy::ReadOnlyKeys(keys)
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
