//! The broker with windows that no VM stands behind: a guest's view is what lies at its windows' host addresses.
// UNSAFETY: reads and writes the memory behind the windows.
#![expect(unsafe_code, reason = "plays the guest: touches attached memory")]

mod counts;
mod death;
mod futex;
mod huge;
mod large;
mod objects;
mod punch;
mod rights;

use super::*;
use crate::window::SlotRegistrar;
use abi::ipc::{
    IPC_CREAT, IPC_EXCL, IPC_INFO, IPC_PRIVATE, IPC_RMID, IPC_SET, IPC_STAT, SHM_INFO, SHM_LOCK,
    SHM_NORESERVE, SHM_RDONLY, SHM_STAT, ShmInfo, ShmidDs,
};
use abi::memory::WindowLayout;
use abi::{PAGE_SIZE, group_pid};
use paging::GuestPhys;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use zerocopy::{FromBytes, IntoBytes};

const LAYOUT: WindowLayout = WindowLayout {
    rw_base: 1 << 36,
    ro_base: 1 << 37,
    size: 4 << 30,
};
const ROOM: &[Room] = &[];
const ROOT: Caller<'static> = Caller {
    pid: 0,
    task: 0,
    euid: 0,
    egid: 0,
    groups: &[],
    memlock: None,
};

/// The chunks a guest's VM would have: GPA to host address and length.
#[derive(Clone, Default)]
struct Chunks(Arc<Mutex<BTreeMap<u64, (usize, u64)>>>);

impl SlotRegistrar for Chunks {
    fn register(&self, _: u32, gpa: GuestPhys, host: *mut u8, len: u64, _: bool) -> io::Result<()> {
        lock(&self.0).insert(gpa.get(), (host as usize, len));
        Ok(())
    }
}

impl Chunks {
    fn host(&self, gpa: u64) -> *mut u8 {
        let chunks = lock(&self.0);
        let (start, (host, len)) = chunks.range(..=gpa).next_back().unwrap();
        assert!(gpa - start < *len);
        (host + (gpa - start) as usize) as *mut u8
    }
    fn write(&self, gpa: u64, value: u8) {
        // SAFETY: the tests write only to what is attached read-write.
        unsafe { self.host(gpa).write_volatile(value) }
    }
    fn read(&self, gpa: u64) -> u8 {
        // SAFETY: the tests read only what is attached.
        unsafe { self.host(gpa).read_volatile() }
    }
    fn permissions(&self, gpa: u64) -> String {
        let at = self.host(gpa) as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            (usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()).contains(&at)
        });
        line.unwrap().split(' ').nth(1).unwrap().to_string()
    }
}

/// A broker with guests, alone in this process: the tests count its files and mappings.
struct Group {
    broker: Broker,
    clock: Arc<AtomicI64>,
    vms: Vec<Chunks>,
    machines: Vec<Arc<futex::FakeMachine>>,
    _alone: MutexGuard<'static, ()>,
}

fn group(guests: u32) -> Group {
    group_with(guests, BrokerLimits::default(), GuestRights::default())
}

fn only(policy: GuestPolicy) -> GuestRights {
    GuestRights {
        policy,
        ..GuestRights::default()
    }
}

/// The rights are the last guest's.
fn group_with(guests: u32, limits: BrokerLimits, rights: GuestRights) -> Group {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = lock(&ALONE);
    let clock = Arc::new(AtomicI64::new(1000));
    let seconds = Arc::clone(&clock);
    let broker = Broker::with_clock(limits, move || seconds.load(Relaxed) * NS_PER_S);
    let (vms, machines) = (0..guests)
        .map(|guest| {
            let chunks = Chunks::default();
            let window = Window::new(LAYOUT, 0, Box::new(chunks.clone())).unwrap();
            let rights = if guest + 1 == guests {
                rights.clone()
            } else {
                GuestRights::default()
            };
            let machine = Arc::new(futex::FakeMachine::new());
            let ended = Arc::clone(&machine);
            let end = move |fault| lock(&ended.ended).push(fault);
            let inbox = Inbox::new(
                Arc::clone(&machine) as Arc<dyn Reach>,
                futex::TASKS,
                Box::new(end),
            );
            broker.add_guest(guest, rights, window, inbox);
            (chunks, machine)
        })
        .unzip();
    Group {
        broker,
        clock,
        vms,
        machines,
        _alone: alone,
    }
}

impl Group {
    fn make(&self, guest: u32, key: i32, size: u64) -> i32 {
        self.broker
            .shmget(guest, &process(guest, 5), key, size, IPC_CREAT | 0o666)
            .unwrap() as i32
    }
    fn attach(&self, guest: u32, id: i32, flags: u32) -> Result<Attached, Errno> {
        self.broker.attach(guest, &process(guest, 5), id, flags, ROOM)
    }
    fn detach(&self, guest: u32, id: i32, window: WindowKind, count: u64) -> Result<(), Errno> {
        self.broker.detach(guest, &process(guest, 6), id, window, count)
    }
    fn remove(&self, id: i32) -> Result<u64, Errno> {
        self.broker.shmctl(0, &ROOT, id, IPC_RMID, &mut [0; 256])
    }
    fn stat(&self, id: i32) -> Result<ShmidDs, Errno> {
        let mut payload = [0xff; 256];
        self.broker.shmctl(0, &ROOT, id, IPC_STAT, &mut payload)?;
        Ok(ShmidDs::read_from_prefix(&payload).unwrap().0)
    }
}

fn process(guest: u32, local: u32) -> Caller<'static> {
    Caller {
        pid: group_pid(guest, local),
        task: 0,
        ..ROOT
    }
}

/// Open files and mappings of segments in this process.
fn held_by_process() -> (usize, usize) {
    // A file on large pages has no name but its number (O_TMPFILE).
    let is_segment = |text: &str| text.contains("memfd:tombolo-segment") || text.contains("/#");
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let files = files
        .filter(|entry| {
            let link = std::fs::read_link(entry.as_ref().unwrap().path());
            link.is_ok_and(|link| is_segment(&link.to_string_lossy()))
        })
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (files, maps.lines().filter(|line| is_segment(line)).count())
}

#[test]
fn two_guests_see_each_others_bytes() {
    let group = group(2);
    for size in [4096, (2 << 20) + 4096, 64 << 20] {
        let id = group.make(0, 0x1234, size);
        assert_eq!(group.broker.shmget(1, &ROOT, 0x1234, 0, 0), Ok(id as u64));
        let a = group.attach(0, id, 0).unwrap();
        let b = group.attach(1, id, 0).unwrap();
        assert_eq!((a.size, b.size), (size, size));
        for offset in [0, 4095, size - 4096, size - 1] {
            assert_eq!(group.vms[1].read(b.gpa + offset), 0);
        }
        for offset in [0, 4095, size - 4096, size - 1] {
            group.vms[0].write(a.gpa + offset, 1);
            assert_eq!(group.vms[1].read(b.gpa + offset), 1);
            group.vms[1].write(b.gpa + offset, 2);
            assert_eq!(group.vms[0].read(a.gpa + offset), 2);
        }
        group.remove(id).unwrap();
        group.detach(0, id, WindowKind::ReadWrite, 1).unwrap();
        group.detach(1, id, WindowKind::ReadWrite, 1).unwrap();
    }
    assert_eq!(held_by_process(), (0, 0));
}

#[test]
fn a_read_only_attach_lies_in_the_read_only_window_and_is_not_writable() {
    let group = group(1);
    let id = group.make(0, IPC_PRIVATE, 8192);
    let rw = group.attach(0, id, 0).unwrap();
    let ro = group.attach(0, id, SHM_RDONLY).unwrap();
    assert!(ro.gpa >= LAYOUT.ro_base && rw.gpa < LAYOUT.ro_base);
    group.vms[0].write(rw.gpa + 5000, 9);
    assert_eq!(group.vms[0].read(ro.gpa + 5000), 9);
    assert_eq!(group.vms[0].permissions(ro.gpa), "r--s");
    assert_eq!(group.vms[0].permissions(rw.gpa), "rw-s");
}

#[test]
fn a_dead_guest_holds_nothing_and_its_removed_segments_go() {
    let group = group(2);
    let shared = group.make(0, 1, 4096);
    let doomed = group.make(1, 2, 4096);
    group.attach(0, shared, 0).unwrap();
    group.attach(1, shared, 0).unwrap();
    group.attach(1, shared, SHM_RDONLY).unwrap();
    group.attach(1, doomed, 0).unwrap();
    group
        .broker
        .attach_more(1, &process(1, 9), doomed, WindowKind::ReadWrite, 10)
        .unwrap();
    group.remove(doomed).unwrap();
    group.clock.store(2000, Relaxed);
    group.broker.guest_gone(1);
    group.broker.guest_gone(1);
    let status = group.stat(shared).unwrap();
    assert_eq!(
        (status.nattch, status.dtime, status.lpid as u32),
        (1, 2000, group_pid(1, 5))
    );
    assert_eq!(group.stat(doomed), Err(Errno::EINVAL));
    assert_eq!(held_by_process(), (1, 1));
    assert_eq!(group.attach(1, shared, 0), Err(Errno::EINVAL));
    assert_eq!(group.broker.shmget(1, &ROOT, 1, 0, 0), Err(Errno::EINVAL));
}

#[test]
fn a_process_id_of_another_guest_is_not_believed() {
    let group = group(2);
    let id = group
        .broker
        .shmget(1, &process(0, 5), IPC_PRIVATE, 4096, 0o666)
        .unwrap() as i32;
    assert_eq!(group.stat(id).unwrap().cpid as u32, group_pid(1, 1));
    group.broker.attach(1, &process(1, 44), id, 0, ROOM).unwrap();
    assert_eq!(group.stat(id).unwrap().lpid as u32, group_pid(1, 44));
    group
        .broker
        .detach(1, &ROOT, id, WindowKind::ReadWrite, 1)
        .unwrap();
    assert_eq!(group.stat(id).unwrap().lpid as u32, group_pid(1, 1));
}

#[test]
fn permission_is_checked_before_room_and_room_before_anything_is_counted() {
    let group = group(1);
    let id = group.broker.shmget(0, &ROOT, IPC_PRIVATE, 5000, 0o600).unwrap() as i32;
    let stranger = Caller {
        euid: 1000,
        egid: 1000,
        ..process(0, 5)
    };
    let attach = |caller, bytes, more| {
        let (first, second) = (Errno::EINVAL, Errno::ENOMEM);
        let rooms = [(bytes, first), (more, second)].map(|(bytes, errno)| Room { bytes, errno });
        group.broker.attach(0, caller, id, 0, &rooms)
    };
    assert_eq!(attach(&stranger, 0, 0), Err(Errno::EACCES));
    assert_eq!(attach(&ROOT, 8191, 0), Err(Errno::EINVAL));
    assert_eq!(attach(&ROOT, 8192, 8191), Err(Errno::ENOMEM));
    let status = group.stat(id).unwrap();
    assert_eq!((status.nattch, status.atime, status.lpid), (0, 0, 0));
    assert!(attach(&ROOT, 8192, 8192).is_ok());
}

#[test]
fn a_segment_larger_than_the_window_can_be_made_but_not_attached() {
    let group = group(1);
    let made = group
        .broker
        .shmget(0, &ROOT, IPC_PRIVATE, 1 << 47, SHM_NORESERVE | 0o600);
    let id = made.unwrap() as i32;
    assert_eq!(group.attach(0, id, 0), Err(Errno::ENOMEM));
    let status = group.stat(id).unwrap();
    assert_eq!((status.nattch, status.atime, status.lpid), (0, 0, 0));
    group.remove(id).unwrap();
    assert_eq!(group.stat(id), Err(Errno::EINVAL));
}

#[test]
fn more_memory_than_the_host_has_is_enomem_unless_it_is_not_accounted_for() {
    let new = |pages, no_reserve| shm::NewSegment {
        key: 0,
        size: pages * PAGE_SIZE,
        pages,
        no_reserve,
        huge_page_shift: None,
    };
    let guess = MemoryRule::Guess { pages: 100 };
    assert_eq!(guess.check(&new(100, false)), Ok(()));
    assert_eq!(guess.check(&new(101, false)), Err(Errno::ENOMEM));
    assert_eq!(guess.check(&new(101, true)), Ok(()));
    assert_eq!(MemoryRule::Always.check(&new(1 << 40, false)), Ok(()));
    assert_eq!(MemoryRule::Never.check(&new(1 << 40, true)), Err(Errno::ENOMEM));
    assert_eq!(MemoryRule::Never.check(&new(1, false)), Ok(()));
}

#[test]
fn a_guest_with_a_read_only_key_may_read_but_not_write_it() {
    let group = group_with(
        2,
        BrokerLimits::default(),
        only(GuestPolicy::ReadOnlyKeys(vec![5])),
    );
    let (five, six) = (group.make(0, 5, 4096), group.make(0, 6, 4096));
    assert_eq!(group.attach(1, five, 0), Err(Errno::EACCES));
    assert!(group.attach(1, five, SHM_RDONLY).is_ok());
    assert!(group.attach(1, six, 0).is_ok());
    assert!(group.attach(0, five, 0).is_ok());
    // Its key is gone, the restriction is not.
    group.remove(five).unwrap();
    assert_eq!(group.attach(1, five, 0), Err(Errno::EACCES));
}

#[test]
fn a_guest_that_may_only_read_can_not_even_write_its_own_private_segment() {
    let group = group_with(1, BrokerLimits::default(), only(GuestPolicy::ReadOnlyAll));
    let id = group.make(0, IPC_PRIVATE, 4096);
    assert_eq!(group.attach(0, id, 0), Err(Errno::EACCES));
    assert!(group.attach(0, id, SHM_RDONLY).is_ok());
}

#[test]
fn segments_can_not_change_their_size() {
    let group = group(1);
    let id = group.make(0, IPC_PRIVATE, 4096);
    let memory = group
        .broker
        .table()
        .registry
        .segment(id)
        .unwrap()
        .backing
        .memory();
    for size in [0, 8192] {
        assert_eq!(rustix::fs::ftruncate(&memory, size), Err(rustix::io::Errno::PERM));
    }
}

#[test]
fn a_thousand_rounds_leave_nothing_behind() {
    let group = group(2);
    let baseline = held_by_process();
    assert_eq!(baseline, (0, 0));
    for round in 0..1000 {
        let id = group.make(round % 2, 3, 1 + u64::from(round) * 100);
        for guest in 0..2 {
            group.attach(guest, id, 0).unwrap();
            group.attach(guest, id, SHM_RDONLY).unwrap();
        }
        group.remove(id).unwrap();
        for guest in 0..2 {
            group.detach(guest, id, WindowKind::ReadWrite, 1).unwrap();
            group.detach(guest, id, WindowKind::ReadOnly, 1).unwrap();
        }
    }
    assert_eq!(held_by_process(), baseline);
    assert!(group.broker.segments().is_empty());
    // The first range is free again in both windows.
    let id = group.make(0, 3, 4096);
    assert_eq!(group.attach(0, id, 0).unwrap().gpa, LAYOUT.rw_base);
    assert_eq!(group.attach(1, id, SHM_RDONLY).unwrap().gpa, LAYOUT.ro_base);
}

#[test]
fn there_can_be_4096_segments_at_once_all_attached_and_no_more() {
    let group = group(1);
    let ids: Vec<i32> = (1..=4096).map(|key| group.make(0, key, 4096)).collect();
    for &id in &ids {
        group.attach(0, id, 0).unwrap();
    }
    assert_eq!(
        group.broker.shmget(0, &ROOT, 5000, 1, IPC_CREAT),
        Err(Errno::ENOSPC)
    );
    assert_eq!(group.broker.segments().len(), 4096);
    // A refused creation keeps no file open.
    assert_eq!(held_by_process().0, 4096);
    group.broker.guest_gone(0);
    assert_eq!(held_by_process(), (4096, 0));
}

#[test]
fn shmctl_answers_in_the_payload_and_clears_the_rest_of_it() {
    let group = group(1);
    let id = group.make(0, 9, 5000);
    let attached = group.attach(0, id, 0).unwrap();
    group.vms[0].write(attached.gpa, 1);
    let mut payload = [0xff; 256];
    let mut control = |id, command| {
        let result = group.broker.shmctl(0, &ROOT, id, command, &mut payload);
        (result, payload)
    };
    let (result, bytes) = control(id, SHM_INFO);
    let info = ShmInfo::read_from_prefix(&bytes).unwrap().0;
    assert_eq!(
        (result, info.used_ids, info.shm_tot, info.shm_rss),
        (Ok(0), 1, 2, 1)
    );
    assert!(bytes[size_of::<ShmInfo>()..].iter().all(|&byte| byte == 0));
    let (result, bytes) = control(0, SHM_STAT);
    assert_eq!(result, Ok(id as u64));
    let mut status = ShmidDs::read_from_prefix(&bytes).unwrap().0;
    assert_eq!(
        (status.perm.key, status.segsz, status.perm.mode),
        (9, 5000, 0o666)
    );
    assert_eq!(control(id, IPC_INFO).0, Ok(0));
    assert_eq!(control(id, SHM_LOCK).0, Ok(0));
    for (id, command) in [
        (-1, IPC_INFO),
        (id, -1),
        (id, IPC_STAT | 0x100),
        (id + 1, IPC_STAT),
    ] {
        assert_eq!(control(id, command).0, Err(Errno::EINVAL));
    }
    status.perm.uid = 42;
    status.perm.mode = 0o7400;
    payload[..size_of::<ShmidDs>()].copy_from_slice(status.as_bytes());
    group.clock.store(3000, Relaxed);
    assert_eq!(group.broker.shmctl(0, &ROOT, id, IPC_SET, &mut payload), Ok(0));
    let status = group.stat(id).unwrap();
    assert_eq!(
        (status.perm.uid, status.perm.mode, status.ctime),
        (42, 0o2400, 3000)
    );
}

#[test]
fn the_history_tells_of_every_segment_and_forgets_the_oldest() {
    let limits = BrokerLimits {
        history: 2,
        ..BrokerLimits::default()
    };
    let group = group_with(2, limits, GuestRights::default());
    for key in 1..=3 {
        let id = group.make(0, key, 4096);
        group.attach(0, id, 0).unwrap();
        group.attach(1, id, 0).unwrap();
        group.detach(1, id, WindowKind::ReadWrite, 1).unwrap();
        group.attach(1, id, 0).unwrap();
        assert_eq!(
            group.broker.segments()[0].nattch_per_guest,
            BTreeMap::from([(0, 1), (1, 1)])
        );
        group.remove(id).unwrap();
        group.detach(0, id, WindowKind::ReadWrite, 1).unwrap();
        group.detach(1, id, WindowKind::ReadWrite, 1).unwrap();
    }
    let live = group.make(1, 4, 4096);
    let history = group.broker.history();
    assert_eq!(history.iter().map(|life| life.key).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(group.broker.history_dropped(), 1);
    let life = &history[1];
    assert_eq!(
        (life.peak_nattch, &life.attaches),
        (2, &BTreeMap::from([(0, 1), (1, 2)]))
    );
    let (removed, destroyed) = (life.removed_ns.unwrap(), life.destroyed_ns.unwrap());
    assert!(life.created_ns <= removed && removed <= destroyed);
    assert_eq!(
        (history[2].id, history[2].creator_guest, history[2].destroyed_ns),
        (live, 1, None)
    );
}

#[test]
fn guests_that_race_for_one_key_and_one_segment_agree_in_the_end() {
    let group = group(4);
    std::thread::scope(|scope| {
        for guest in 0..4 {
            let group = &group;
            scope.spawn(move || {
                for _ in 0..500 {
                    let id = match group
                        .broker
                        .shmget(guest, &ROOT, 8, 4096, IPC_CREAT | IPC_EXCL | 0o666)
                    {
                        Ok(id) => id,
                        Err(error) => {
                            assert_eq!(error, Errno::EEXIST);
                            match group.broker.shmget(guest, &ROOT, 8, 0, 0) {
                                Ok(id) => id,
                                // Removed in between.
                                Err(error) => {
                                    assert_eq!(error, Errno::ENOENT);
                                    continue;
                                }
                            }
                        }
                    } as i32;
                    match group.attach(guest, id, 0) {
                        Ok(attached) => {
                            group.vms[guest as usize].write(attached.gpa, guest as u8);
                            let _ = group.broker.shmctl(guest, &ROOT, id, IPC_RMID, &mut [0; 256]);
                            group.detach(guest, id, WindowKind::ReadWrite, 1).unwrap();
                        }
                        Err(error) => assert_eq!(error, Errno::EINVAL),
                    }
                }
            });
        }
    });
    assert!(group.broker.segments().is_empty());
    assert_eq!(held_by_process(), (0, 0));
}
