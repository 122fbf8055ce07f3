//! What to run, and what came of it.

use crate::compile::{Toolchain, program};
use crate::finished::{Captured, Finished, ProcessResult, difference};
use crate::native;
use crate::turn::{alone_and_tidy, beside_others};
use abi::boot::BootFlags;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tombolo::broker::{BrokerLimits, GuestPolicy};
use tombolo::config::{DEFAULT_MEMORY, GroupConfig, GuestConfig, Output, ProcessConfig, Stdin};
use tombolo::error::VmmError;
use tombolo::group::Group;
use tombolo::image::Program;
use tombolo::outcome::{GuestEnd, Tables};

type Adjust = Box<dyn Fn(u32, &mut GuestConfig)>;

/// Copies of one program to run, in guests or natively.
pub struct Run {
    path: PathBuf,
    args: Vec<Vec<u8>>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
    guests: u32,
    vcpus: u32,
    procs: u32,
    memory: u64,
    timeout: Duration,
    leaves_segments: bool,
    lying: bool,
    counts: bool,
    users: BTreeMap<u32, (u32, u32)>,
    adjust: Vec<Adjust>,
}

impl Run {
    /// One copy of `tests/programs/<source>` in one guest with one vCPU. C is built for glibc.
    #[must_use]
    pub fn new(source: &str) -> Run {
        Run::with(
            source,
            if source.ends_with(".rs") {
                Toolchain::Rust
            } else {
                Toolchain::Glibc
            },
        )
    }

    /// As [`Run::new`], built with `toolchain`.
    #[must_use]
    pub fn with(source: &str, toolchain: Toolchain) -> Run {
        Run::file(&program(source, toolchain))
    }

    /// As [`Run::new`], of an executable that exists.
    #[must_use]
    pub fn file(path: &Path) -> Run {
        Run {
            path: path.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            guests: 1,
            vcpus: 1,
            procs: 1,
            memory: DEFAULT_MEMORY,
            timeout: Duration::from_secs(60),
            leaves_segments: false,
            lying: false,
            counts: true,
            users: BTreeMap::new(),
            adjust: Vec::new(),
        }
    }

    /// Arguments after the program's name.
    #[must_use]
    pub fn args<A: AsRef<[u8]>>(mut self, args: impl IntoIterator<Item = A>) -> Run {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_vec()));
        self
    }

    /// A variable of the environment, which is otherwise empty.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What the first process reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = bytes.into();
        self
    }

    /// How many guests.
    #[must_use]
    pub fn guests(mut self, guests: u32) -> Run {
        self.guests = guests;
        self
    }

    /// vCPUs of each guest.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Run {
        self.vcpus = vcpus;
        self
    }

    /// Processes of each guest.
    #[must_use]
    pub fn procs(mut self, procs: u32) -> Run {
        self.procs = procs;
        self
    }

    /// RAM of each guest, bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Run {
        self.memory = bytes;
        self
    }

    /// When to give up; a minute otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// The program does not remove its segments, or its files in /dev/shm.
    #[must_use]
    pub fn leaving_segments(mut self) -> Run {
        self.leaves_segments = true;
        self
    }

    /// The user and group that guest number `guest`'s processes have; root otherwise.
    #[must_use]
    pub fn user(mut self, guest: u32, uid: u32, gid: u32) -> Run {
        self.users.insert(guest, (uid, gid));
        self.guest(guest, move |config| (config.uid, config.gid) = (uid, gid))
    }

    /// The kernel is hostile: what it says of its frames and processes counts for nothing.
    #[must_use]
    pub fn lying(mut self) -> Run {
        self.lying = true;
        self
    }

    /// Guests end as they do outside of tests: what is theirs alone is not freed before, so there is nothing to count.
    #[must_use]
    pub fn ending_at_once(mut self) -> Run {
        self.counts = false;
        self
    }

    /// Changes guest number `guest`'s configuration before it starts.
    #[must_use]
    pub fn guest(mut self, guest: u32, change: impl Fn(&mut GuestConfig) + 'static) -> Run {
        self.adjust.push(Box::new(move |number, config| {
            if number == guest {
                change(config);
            }
        }));
        self
    }

    /// Runs it in guests, and checks that nothing is left behind.
    ///
    /// # Panics
    /// If the group does not start (no usable /dev/kvm …) or something is left.
    #[must_use]
    pub fn go(&self) -> Finished {
        self.go_with(|_| {}, |_| {})
    }

    /// As [`Run::go`]: `configure` changes the group's configuration before the start, `meanwhile` is given the
    /// running group.
    ///
    /// # Panics
    /// As [`Run::go`].
    #[must_use]
    pub fn go_with(
        &self,
        configure: impl FnOnce(&mut GroupConfig),
        meanwhile: impl FnOnce(&Group),
    ) -> Finished {
        let finished = beside_others(self.cpus(), "the run", || {
            let (group, captured) = self.start(configure);
            meanwhile(&group);
            Finished::new(group.wait(), captured.take())
        });
        self.check(&finished);
        finished
    }

    /// As [`Run::go`], with another group running at the same time.
    ///
    /// # Panics
    /// As [`Run::go`].
    #[must_use]
    pub fn go_beside(&self, other: &Run) -> (Finished, Finished) {
        let finished = alone_and_tidy("the two runs", || {
            let (first, second) = (self.start(|_| {}), other.start(|_| {}));
            let second = Finished::new(second.0.wait(), second.1.take());
            (Finished::new(first.0.wait(), first.1.take()), second)
        });
        self.check(&finished.0);
        other.check(&finished.1);
        finished
    }

    /// Starts it and drops the group without waiting for it.
    ///
    /// # Panics
    /// As [`Run::go`].
    pub fn abandon(&self) {
        alone_and_tidy("the abandoned run", || drop(self.start(|_| {})));
    }

    /// Tries to start what can't be run.
    ///
    /// # Panics
    /// If it starts, or leaves something behind.
    #[must_use]
    pub fn refusal(&self) -> VmmError {
        self.refusal_with(|_| {})
    }

    /// As [`Run::refusal`]: `configure` changes the configuration before.
    ///
    /// # Panics
    /// As [`Run::refusal`].
    #[must_use]
    pub fn refusal_with(&self, configure: impl FnOnce(&mut GroupConfig)) -> VmmError {
        alone_and_tidy("the refused run", || {
            let mut config = self.config(Arc::new(Captured::default()));
            configure(&mut config);
            match Group::start(config) {
                Ok(_) => panic!("{} starts, although it must not", self.path.display()),
                Err(error) => error,
            }
        })
    }

    fn start(&self, configure: impl FnOnce(&mut GroupConfig)) -> (Group, Arc<Captured>) {
        let captured = Arc::new(Captured::default());
        let mut config = self.config(captured.clone());
        configure(&mut config);
        (
            Group::start(config).unwrap_or_else(|error| panic!("the group does not start: {error}")),
            captured,
        )
    }

    /// Runs it on the host.
    #[must_use]
    pub fn natively(&self) -> BTreeMap<(u32, u32), ProcessResult> {
        let mut copies = Vec::new();
        for (guest, process) in self.copies() {
            let mut env = self.env.clone();
            for (name, value) in [
                ("GUEST", guest),
                ("GUESTS", self.guests),
                ("PROC", process),
                ("PROCS", self.procs),
            ] {
                env.push((format!("TOMBOLO_{name}"), value.to_string()));
            }
            let stdin = if (guest, process) == (0, 0) {
                &*self.stdin
            } else {
                &[]
            };
            copies.push(native::Copy {
                guest,
                process,
                program: &self.path,
                args: &self.args,
                env,
                stdin,
                user: self.users.get(&guest).copied(),
            });
        }
        beside_others(copies.len(), "the run on the host", || {
            native::run(&copies, self.timeout)
        })
    }

    /// Runs it in guests and on the host: each copy must write the same and end the same.
    ///
    /// # Panics
    /// If not.
    pub fn compare(&self) -> Finished {
        let native = self.natively();
        let finished = self.go();
        for copy in self.copies() {
            let (here, there) = (&native[&copy], &finished.processes[&copy]);
            let name = self.path.display();
            for (stream, there, here) in [
                ("stdout", &there.stdout, &here.stdout),
                ("stderr", &there.stderr, &here.stderr),
            ] {
                if there != here {
                    let difference = difference(there, here);
                    panic!(
                        "{name}: {stream} of copy {copy:?} differs in a guest and on Linux: {difference}\n{finished:?}"
                    );
                }
            }
            assert_eq!(
                there.status, here.status,
                "{name}: status of copy {copy:?}, guest and Linux"
            );
        }
        finished
    }

    fn cpus(&self) -> usize {
        (self.guests * self.vcpus) as usize
    }

    fn copies(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.guests).flat_map(|guest| (0..self.procs).map(move |process| (guest, process)))
    }

    fn config(&self, output: Arc<dyn Output>) -> GroupConfig {
        let program = Arc::new(Program::load(&self.path).unwrap_or_else(|error| panic!("{error}")));
        let mut args = vec![self.path.as_os_str().as_encoded_bytes().to_vec()];
        args.extend(self.args.iter().cloned());
        let env: Vec<_> = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect();
        let process = ProcessConfig { program, args, env };
        let guest = |number| {
            let mut config = GuestConfig {
                vcpus: self.vcpus,
                memory: self.memory,
                processes: vec![process.clone(); self.procs as usize],
                policy: GuestPolicy::default(),
                quota: Default::default(),
                uid: 0,
                gid: 0,
                files: Vec::new(),
                flags: if self.counts {
                    BootFlags::TEST_COUNT_TABLES
                } else {
                    BootFlags::empty()
                },
                inject: None,
            };
            self.adjust.iter().for_each(|change| change(number, &mut config));
            config
        };
        GroupConfig {
            guests: (0..self.guests).map(guest).collect(),
            timeout: Some(self.timeout),
            stdin: Stdin::Bytes(self.stdin.clone()),
            output,
            limits: BrokerLimits::default(),
            kernel: None,
            observer: None,
        }
    }

    fn check(&self, finished: &Finished) {
        for guest in finished
            .outcome
            .guests
            .iter()
            .filter(|guest| guest.end == GuestEnd::Done && !self.lying)
        {
            for process in &guest.processes {
                assert!(
                    process.wait_status.is_some(),
                    "process {} of a guest that is done: {finished:#?}",
                    process.process
                );
            }
            if !self.counts {
                assert_eq!(guest.free_frames, None, "only tests count: {finished:#?}");
                continue;
            }
            let (start, end) = guest
                .free_frames
                .unwrap_or_else(|| panic!("a kernel counts its frames: {finished:#?}"));
            assert_eq!(
                start, end,
                "free frames of guest {} at its start and at its end: {finished:#?}",
                guest.guest
            );
            let nothing = Tables {
                areas: 0,
                processes: 0,
                tasks: 0,
                open_files: 0,
            };
            assert_eq!(
                guest.tables,
                Some((nothing, nothing)),
                "what is in use in guest {} at its start and at its end: {finished:#?}",
                guest.guest
            );
            assert_eq!(
                guest.window_ranges, 0,
                "ranges of guest {}'s windows in use at its end: {finished:#?}",
                guest.guest
            );
        }
        let left: Vec<_> = finished
            .outcome
            .segments
            .iter()
            .filter(|s| s.destroyed_ns.is_none())
            .collect();
        assert!(
            self.leaves_segments || left.is_empty(),
            "segments are left: {left:#?}\n{finished:#?}"
        );
        let left: Vec<_> = finished
            .outcome
            .objects
            .iter()
            .filter(|object| object.destroyed_ns.is_none())
            .collect();
        assert!(
            self.leaves_segments || left.is_empty(),
            "files in /dev/shm are left: {left:#?}\n{finished:#?}"
        );
    }
}
