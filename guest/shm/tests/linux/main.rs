//! Linux on the host is the oracle: random sequences of calls by several users, made on the host in an IPC
//! namespace of their own and on a [`Registry`], give the same results, errors and `shmid_ds` at every step.
// UNSAFETY: forks, and makes raw system calls in the children.
#![expect(unsafe_code, reason = "calls the host's System V shared memory")]

mod actor;
mod ids;
mod proc;

use abi::Errno;
use abi::ipc::{
    IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, SHM_DEST, SHM_EXEC, SHM_NORESERVE, SHM_RDONLY,
    SHMMAX, ShmidDs,
};
use actor::{Actor, Answer, Ask, enter_new_ipc_namespace};
use proptest::prelude::*;
use shm::{Command, Credentials, Got, Limits, Registry, Setting};
use std::time::{SystemTime, UNIX_EPOCH};

/// Unlikely to be anyone's: locked memory is counted by user for the whole host.
const USERS: [(u32, u32, &[u32]); 4] = [
    (0, 0, &[]),
    (47011, 47011, &[]),
    (47012, 47011, &[47099]),
    (47013, 47013, &[47011]),
];
const IDS: [u32; 6] = [0, 47011, 47012, 47013, 47099, u32::MAX];
const SIZES: [u64; 14] = [
    1,
    0,
    4095,
    4096,
    4097,
    5000,
    65536,
    70000,
    1 << 40,
    1 << 47,
    i64::MAX as u64,
    1 << 63,
    SHMMAX,
    u64::MAX,
];
const MODES: [u32; 10] = [0o600, 0, 0o400, 0o200, 0o644, 0o666, 0o777, 0o060, 0o006, 0o707];

#[derive(Clone, Copy, Debug)]
enum Step {
    Get {
        key: i32,
        size: usize,
        mode: usize,
        flags: u32,
    },
    Attach {
        id: IdChoice,
        flags: u32,
    },
    Detach {
        which: prop::sample::Index,
    },
    Split {
        which: prop::sample::Index,
    },
    Fork,
    Exit,
    /// Segments made and removed: the ids come round.
    Churn {
        count: u32,
    },
    Set {
        id: IdChoice,
        uid: usize,
        gid: usize,
        mode: u32,
    },
    Control {
        id: IdChoice,
        command: i32,
    },
    /// What `/proc/sys/kernel/shm_next_id` says from now on.
    NextId(i32),
    /// What `/proc/sys/kernel/shm_rmid_forced` says from now on.
    Force(bool),
}

#[derive(Clone, Copy, Debug)]
enum IdChoice {
    /// One that was given out, perhaps gone since.
    Known(prop::sample::Index),
    /// The same index with another sequence number.
    WrongSeq(prop::sample::Index),
    Any(i32),
}

fn id_choice() -> impl Strategy<Value = IdChoice> {
    prop_oneof![
        12 => any::<prop::sample::Index>().prop_map(IdChoice::Known),
        1 => any::<prop::sample::Index>().prop_map(IdChoice::WrongSeq),
        1 => prop_oneof![Just(-1), Just(i32::MAX), Just(i32::MIN), 0..70].prop_map(IdChoice::Any),
    ]
}

fn get_flags() -> impl Strategy<Value = u32> {
    let flag = |flag, weight: u32| prop_oneof![weight => Just(flag), 1 => Just(0)];
    (
        flag(IPC_CREAT, 3),
        flag(IPC_EXCL, 1),
        flag(SHM_NORESERVE, 1),
        prop_oneof![9 => Just(0), 1 => Just(1u32 << 30)],
    )
        .prop_map(|(a, b, c, d)| a | b | c | d)
}

fn attach_flags() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![
        0,
        0,
        0,
        SHM_RDONLY,
        SHM_RDONLY,
        SHM_EXEC,
        SHM_RDONLY | SHM_EXEC,
        1 << 20,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    let sizes = prop_oneof![4 => Just(3usize), 3 => 0..SIZES.len(), 2 => Just(6usize)];
    prop_oneof![
        8 => (0..4, sizes, 0..MODES.len(), get_flags())
            .prop_map(|(key, size, mode, flags)| Step::Get { key, size, mode, flags }),
        8 => (id_choice(), attach_flags()).prop_map(|(id, flags)| Step::Attach { id, flags }),
        5 => which().prop_map(|which| Step::Detach { which }),
        2 => which().prop_map(|which| Step::Split { which }),
        1 => Just(Step::Fork),
        1 => Just(Step::Exit),
        1 => (1u32..100).prop_map(|count| Step::Churn { count }),
        3 => (id_choice(), 0..IDS.len(), 0..IDS.len(), any::<u32>())
            .prop_map(|(id, uid, gid, mode)| Step::Set { id, uid, gid, mode }),
        4 => id_choice().prop_map(|id| Step::Control { id, command: IPC_RMID }),
        // Every command there is, and some that aren't. Not IPC_SET: its buffer is the step above.
        1 => prop_oneof![0..70, Just(4 << 15 | 5), Just(i32::MAX), 0..=i32::MAX].prop_map(Step::NextId),
        1 => any::<bool>().prop_map(Step::Force),
        8 => (id_choice(), prop::sample::select(vec![2, 3, 11, 12, 13, 14, 15, 4, 16, -1, 2 | 0x100]))
            .prop_map(|(id, command)| Step::Control { id, command }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let usual = Limits {
        memlock: 65536 + 4095,
        ..Limits::default()
    };
    prop_oneof![2 => Just(usual), 1 => Just(Limits { mni: 3, max: 66000, all: 40, ..usual })]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_does_what_linux_does(
        limits in limits(), steps in prop::collection::vec((0..USERS.len(), step()), 1..80)
    ) {
        // A thread, because the namespace is the thread's.
        let run = std::thread::spawn(move || {
            enter_new_ipc_namespace();
            let mut world = World::new(limits);
            for (number, (user, step)) in steps.into_iter().enumerate() {
                world.take(user, step).map_err(|difference| {
                    TestCaseError::fail(format!("step {number}, user {user}, {step:?}: {difference}"))
                })?;
            }
            world.end().map_err(TestCaseError::fail)
        });
        match run.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// One attach, in Linux and in the model.
struct Attach {
    user: usize,
    id: i32,
    address: u64,
    /// Mappings it consists of.
    fragments: u64,
    splittable: bool,
}

/// Both worlds: the host's and ours.
struct World {
    limits: Limits,
    actors: Vec<Actor>,
    model: Registry<()>,
    attaches: Vec<Attach>,
    ids: Vec<i32>,
    ram_pages: u64,
}

fn start(user: usize, limits: &Limits) -> Actor {
    let (uid, gid, groups) = USERS[user];
    Actor::start(uid, gid, groups, limits.memlock)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A result as a system call returns it.
fn raw(result: Result<u64, Errno>) -> i64 {
    result.map_or_else(Errno::to_result, |value| value as i64)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, linux: &T, ours: &T) -> Result<(), String> {
    if linux == ours {
        Ok(())
    } else {
        Err(format!("{what}: Linux {linux:?}, ours {ours:?}"))
    }
}

impl World {
    fn new(limits: Limits) -> World {
        let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
        assert_eq!(
            mode.trim(),
            "0",
            "the model of vm.overcommit_memory in this test is that of mode 0"
        );
        for (name, value) in [
            ("shmmni", limits.mni),
            ("shmmax", limits.max),
            ("shmall", limits.all),
        ] {
            std::fs::write(format!("/proc/sys/kernel/{name}"), value.to_string()).unwrap();
        }
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = |name: &str| -> u64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        World {
            actors: (0..USERS.len()).map(|user| start(user, &limits)).collect(),
            limits,
            model: Registry::new(limits),
            attaches: Vec::new(),
            ids: Vec::new(),
            ram_pages: (kib("MemTotal:") + kib("SwapTotal:")) / 4,
        }
    }

    fn who(&self, user: usize) -> Credentials<'static> {
        let (uid, gid, groups) = USERS[user];
        Credentials {
            pid: self.actors[user].pid,
            task: self.actors[user].pid,
            uid,
            gid,
            groups,
        }
    }

    fn choose(&self, choice: IdChoice) -> i32 {
        match choice {
            IdChoice::Any(id) => id,
            _ if self.ids.is_empty() => 0,
            IdChoice::Known(which) => *which.get(&self.ids),
            IdChoice::WrongSeq(which) => which.get(&self.ids) + (1 << 15),
        }
    }

    fn take(&mut self, user: usize, step: Step) -> Result<(), String> {
        let who = self.who(user);
        match step {
            Step::Get {
                key,
                size,
                mode,
                flags,
            } => {
                let (size, flags) = (SIZES[size], MODES[mode] | flags);
                let linux = self.actors[user].ask(Ask::Get, [key as u64, size, u64::from(flags), 0, 0]);
                let ram = self.ram_pages;
                let ours = self.model.get(&who, key, size, flags, now(), |new| {
                    if new.no_reserve || new.pages <= ram {
                        Ok(())
                    } else {
                        Err(Errno::ENOMEM)
                    }
                });
                same("shmget", &linux.result, &raw(ours.map(|got| got.id() as u64)))?;
                if let Ok(Got::Created(id)) = ours {
                    self.ids.push(id);
                }
            }
            Step::Attach { id, flags } => self.attach(user, self.choose(id), flags)?,
            Step::Detach { which } if !self.attaches.is_empty() => {
                let Attach {
                    user,
                    id,
                    address,
                    fragments,
                    ..
                } = self.attaches.swap_remove(which.index(self.attaches.len()));
                let linux = self.actors[user].ask(Ask::Detach, [address, 0, 0, 0, 0]);
                let pid = self.actors[user].pid;
                let ours = self.model.detach(id, pid, fragments, now()).map(|_| 0);
                same("shmdt", &linux.result, &raw(ours))?;
            }
            Step::Split { which } if !self.attaches.is_empty() => {
                let index = which.index(self.attaches.len());
                let attach = &mut self.attaches[index];
                if attach.splittable {
                    attach.splittable = false;
                    attach.fragments += 1;
                    let actor = &mut self.actors[attach.user];
                    let linux = actor.ask(Ask::Split, [attach.address, 0, 0, 0, 0]);
                    same(
                        "mprotect",
                        &linux.result,
                        &raw(self.model.attach(attach.id, actor.pid, 1, now()).map(|()| 0)),
                    )?;
                }
            }
            Step::Detach { .. } | Step::Split { .. } => {}
            Step::Fork => {
                let child = self.actors[user].ask(Ask::Fork, [0; 5]).result;
                assert!(child > 0, "fork: {child}");
                for attach in self.attaches.iter().filter(|attach| attach.user == user) {
                    self.model
                        .attach(attach.id, who.pid, attach.fragments, now())
                        .map_err(|e| e.to_string())?;
                }
                for attach in self.attaches.iter().filter(|attach| attach.user == user) {
                    let ended = self
                        .model
                        .detach(attach.id, child as u32, attach.fragments, now());
                    ended.map_err(|e| e.to_string())?;
                }
            }
            Step::Exit => {
                self.exit(user)?;
                self.actors[user] = start(user, &self.limits);
            }
            Step::Churn { count } => {
                for _ in 0..count {
                    let linux = self.actors[user].ask(Ask::Get, [0, 1, 0, 0, 0]);
                    let ours = self.model.get(&who, 0, 1, 0, now(), |_| Ok(()));
                    same("shmget", &linux.result, &raw(ours.map(|got| got.id() as u64)))?;
                    let Ok(got) = ours else { break };
                    self.control(user, got.id(), IPC_RMID)?;
                }
            }
            Step::Set { id, uid, gid, mode } => {
                let id = self.choose(id);
                let (uid, gid) = (IDS[uid], IDS[gid]);
                let args = [
                    id as u64,
                    IPC_SET as u64,
                    u64::from(uid),
                    u64::from(gid),
                    u64::from(mode),
                ];
                let linux = self.actors[user].ask(Ask::Control, args);
                let wanted = IpcPerm {
                    uid,
                    gid,
                    mode,
                    ..IpcPerm::default()
                };
                let ours = Command::check(id, IPC_SET).and_then(|_| self.model.set(&who, id, &wanted, now()));
                same("IPC_SET", &linux.result, &raw(ours.map(|()| 0)))?;
            }
            Step::Control { id, command } => self.control(user, self.choose(id), command)?,
            Step::NextId(id) => self.set("shm_next_id", Setting::NextId, id)?,
            Step::Force(on) => self.set("shm_rmid_forced", Setting::RmidForced, i32::from(on))?,
        }
        self.compare_everything()
    }

    fn set(&mut self, name: &str, setting: Setting, value: i32) -> Result<(), String> {
        let (path, text) = (format!("/proc/sys/kernel/{name}"), value.to_string());
        std::fs::write(&path, &text).map_err(|error| format!("{path}: {error}"))?;
        let ours = self.model.set_setting(setting, text.as_bytes());
        ours.map_err(|error| format!("{path}, ours: {error}"))?;
        let linux = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        same(name, &linux, &self.model.setting(setting))
    }

    fn attach(&mut self, user: usize, id: i32, flags: u32) -> Result<(), String> {
        let linux = self.actors[user].ask(Ask::Attach, [id as u64, u64::from(flags), 0, 0, 0]);
        let who = self.who(user);
        let ours = self.model.may_attach(&who, id, flags).map(|segment| segment.size);
        // Whether there is room is not the registry's to know.
        let ours = ours.and_then(|size| {
            if size >= 1 << 47 {
                self.model.hold(id)?;
                self.model.release(id);
                Err(Errno::ENOMEM)
            } else {
                Ok(size)
            }
        });
        same("shmat", &linux.result, &raw(ours.map(|_| 0)))?;
        if let Ok(size) = ours {
            self.model
                .attach(id, who.pid, 1, now())
                .map_err(|error| error.to_string())?;
            let splittable = size > 4096 && flags & SHM_RDONLY == 0;
            self.attaches.push(Attach {
                user,
                id,
                address: linux.payload[0],
                fragments: 1,
                splittable,
            });
        }
        Ok(())
    }

    fn exit(&mut self, user: usize) -> Result<(), String> {
        let actor = self.actors.remove(user);
        let pid = actor.pid;
        drop(actor);
        self.actors.insert(user, start(0, &self.limits));
        let (gone, left) = std::mem::take(&mut self.attaches)
            .into_iter()
            .partition(|attach| attach.user == user);
        self.attaches = left;
        for Attach { id, fragments, .. } in gone {
            self.model
                .detach(id, pid, fragments, now())
                .map_err(|error| error.to_string())?;
        }
        self.model.makers_ended(|maker| maker == pid);
        Ok(())
    }

    fn control(&mut self, user: usize, id: i32, command: i32) -> Result<(), String> {
        let linux = self.actors[user].ask(Ask::Control, [id as u64, command as u64, 0, 0, 0]);
        let who = self.who(user);
        let model = &mut self.model;
        let mut ours = Answer::default();
        let mut status = None;
        let result = Command::check(id, command).and_then(|command| match command {
            Command::Remove => model.remove(&who, id).map(|_| 0),
            Command::Lock => model.lock(&who, id, None).map(|()| 0),
            Command::Unlock => model.unlock(&who, id).map(|()| 0),
            Command::Set => unreachable!(),
            Command::Stat(found) => model.stat(&who, id, found).map(|(result, found)| {
                status = Some(found);
                result
            }),
            Command::Limits => {
                let (result, info) = model.limits_info();
                ours.payload[..5].copy_from_slice(&[
                    info.shmmax,
                    info.shmmin,
                    info.shmmni,
                    info.shmseg,
                    info.shmall,
                ]);
                Ok(result)
            }
            Command::Totals => {
                let (result, info) = model.totals(|()| 0);
                ours.payload[..3].copy_from_slice(&[info.used_ids as u64, info.shm_tot, info.shm_rss]);
                Ok(result)
            }
        });
        same(&format!("shmctl {command}"), &linux.result, &raw(result))?;
        match status {
            Some(status) => same_status(&linux, &status),
            None if result.is_ok() => same(&format!("shmctl {command}"), &linux.payload, &ours.payload),
            None => Ok(()),
        }
    }

    /// Every segment there is, and every id that ever was, by root's eyes.
    fn compare_everything(&mut self) -> Result<(), String> {
        let root = 0;
        for id in self.ids.clone() {
            let linux = self.actors[root].ask(Ask::Control, [id as u64, IPC_STAT as u64, 0, 0, 0]);
            match self.model.segment(id) {
                Ok(segment) => {
                    same(&format!("IPC_STAT of {id}"), &linux.result, &0)?;
                    same_status(&linux, &segment.status())?;
                }
                Err(error) => same(&format!("IPC_STAT of {id}"), &linux.result, &error.to_result())?,
            }
        }
        self.control(root, 0, abi::ipc::SHM_INFO)
    }

    /// All processes end; then nothing removed is left, and what is left is removed.
    fn end(mut self) -> Result<(), String> {
        for user in 1..USERS.len() {
            self.exit(user)?;
            self.compare_everything()?;
        }
        self.exit(0)?;
        self.compare_everything()?;
        if let Some(segment) = self.model.iter().find(|segment| segment.mode & SHM_DEST != 0) {
            return Err(format!("segment {} outlives its last attach", segment.id));
        }
        for id in self.ids.clone() {
            self.control(0, id, IPC_RMID)?;
        }
        same("segments left", &self.model.iter().count(), &0)
    }
}

/// Compares a `shmid_ds` of Linux's with ours. Times may differ by the second in between.
fn same_status(linux: &Answer, ours: &ShmidDs) -> Result<(), String> {
    let [
        w0,
        w1,
        w2,
        w3,
        _,
        _,
        segsz,
        atime,
        dtime,
        ctime,
        pids,
        nattch,
        _,
        _,
    ] = linux.payload;
    let halves = |word: u64| (word as u32, (word >> 32) as u32);
    let perm = &ours.perm;
    same("key, uid", &halves(w0), &(perm.key as u32, perm.uid))?;
    same("gid, cuid", &halves(w1), &(perm.gid, perm.cuid))?;
    same("cgid, mode", &halves(w2), &(perm.cgid, perm.mode))?;
    same("seq", &(w3 as u16), &perm.seq)?;
    same("segsz", &segsz, &ours.segsz)?;
    same("nattch", &nattch, &ours.nattch)?;
    same("cpid, lpid", &halves(pids), &(ours.cpid as u32, ours.lpid as u32))?;
    for (name, linux, ours) in [
        ("atime", atime, ours.atime),
        ("dtime", dtime, ours.dtime),
        ("ctime", ctime, ours.ctime),
    ] {
        let close = (linux == 0) == (ours == 0) && (linux as i64 - ours).abs() <= 2;
        if !close {
            return Err(format!("{name}: Linux {linux}, ours {ours}"));
        }
    }
    Ok(())
}
