//! Rust threads of several copies wait for each other by what pthreads offer for that, in a segment: process-shared mutex
//! (normal and robust), condition variable, read-write lock, barrier and semaphore. (What is in `std::sync` is for one
//! process.) Each copy has two threads; the first copy tells what came out.
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

#[link(name = "c")]
unsafe extern "C" {
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    fn shmat(id: c_int, at: *const c_void, flags: c_int) -> *mut c_void;
    fn shmctl(id: c_int, command: c_int, buffer: *mut c_void) -> c_int;
    fn pthread_mutexattr_init(attr: *mut u64) -> c_int;
    fn pthread_mutexattr_setpshared(attr: *mut u64, shared: c_int) -> c_int;
    fn pthread_mutexattr_setrobust(attr: *mut u64, robust: c_int) -> c_int;
    fn pthread_mutex_init(mutex: *mut [u64; 5], attr: *const u64) -> c_int;
    fn pthread_mutex_lock(mutex: *mut [u64; 5]) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut [u64; 5]) -> c_int;
    fn pthread_mutex_consistent(mutex: *mut [u64; 5]) -> c_int;
    fn pthread_condattr_init(attr: *mut u64) -> c_int;
    fn pthread_condattr_setpshared(attr: *mut u64, shared: c_int) -> c_int;
    fn pthread_cond_init(cond: *mut [u64; 6], attr: *const u64) -> c_int;
    fn pthread_cond_wait(cond: *mut [u64; 6], mutex: *mut [u64; 5]) -> c_int;
    fn pthread_cond_broadcast(cond: *mut [u64; 6]) -> c_int;
    fn pthread_rwlockattr_init(attr: *mut u64) -> c_int;
    fn pthread_rwlockattr_setpshared(attr: *mut u64, shared: c_int) -> c_int;
    fn pthread_rwlock_init(lock: *mut [u64; 7], attr: *const u64) -> c_int;
    fn pthread_rwlock_rdlock(lock: *mut [u64; 7]) -> c_int;
    fn pthread_rwlock_wrlock(lock: *mut [u64; 7]) -> c_int;
    fn pthread_rwlock_unlock(lock: *mut [u64; 7]) -> c_int;
    fn pthread_barrierattr_init(attr: *mut u64) -> c_int;
    fn pthread_barrierattr_setpshared(attr: *mut u64, shared: c_int) -> c_int;
    fn pthread_barrier_init(barrier: *mut [u64; 4], attr: *const u64, count: c_uint) -> c_int;
    fn pthread_barrier_wait(barrier: *mut [u64; 4]) -> c_int;
    fn sem_init(semaphore: *mut [u64; 4], shared: c_int, value: c_uint) -> c_int;
    fn sem_wait(semaphore: *mut [u64; 4]) -> c_int;
    fn sem_post(semaphore: *mut [u64; 4]) -> c_int;
}

const THREADS: u32 = 2;
const ROUNDS: u32 = 20;
const OWNER_DIED: c_int = 130;

#[repr(C)]
struct Shared {
    mutex: [u64; 5],
    robust: [u64; 5],
    changed: [u64; 6],
    lock: [u64; 7],
    barrier: [u64; 4],
    semaphore: [u64; 4],
    counted: u32,
    turn: u32,
    written: [u32; 2],
    torn: AtomicU32,
    inside: AtomicU32,
    most_inside: AtomicU32,
    died: AtomicU32,
    last: AtomicU32,
    ready: AtomicU32,
}

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// # Safety
/// `shared` points to zeros that nobody else uses.
unsafe fn set_up(shared: *mut Shared, threads: u32) {
    let mut attr = 0u64;
    unsafe {
        let result = pthread_mutexattr_init(&mut attr)
            | pthread_mutexattr_setpshared(&mut attr, 1)
            | pthread_mutex_init(&raw mut (*shared).mutex, &attr)
            | pthread_mutexattr_setrobust(&mut attr, 1)
            | pthread_mutex_init(&raw mut (*shared).robust, &attr)
            | pthread_condattr_init(&mut attr)
            | pthread_condattr_setpshared(&mut attr, 1)
            | pthread_cond_init(&raw mut (*shared).changed, &attr)
            | pthread_rwlockattr_init(&mut attr)
            | pthread_rwlockattr_setpshared(&mut attr, 1)
            | pthread_rwlock_init(&raw mut (*shared).lock, &attr)
            | pthread_barrierattr_init(&mut attr)
            | pthread_barrierattr_setpshared(&mut attr, 1)
            | pthread_barrier_init(&raw mut (*shared).barrier, &attr, threads)
            | sem_init(&raw mut (*shared).semaphore, 1, 2);
        assert_eq!(result, 0);
        (*shared).ready.store(1, SeqCst);
    }
}

#[derive(Clone, Copy)]
struct Place(*mut Shared);
// SAFETY: what threads do with it is guarded by what lies in it.
unsafe impl Send for Place {}

/// # Safety
/// `shared` has been set up, for `threads` threads of which this is number `me`.
unsafe fn work(shared: *mut Shared, me: u32, threads: u32) {
    unsafe {
        let barrier = &raw mut (*shared).barrier;
        let wait = || assert!(matches!(pthread_barrier_wait(barrier), 0 | -1));
        wait();
        for _ in 0..ROUNDS {
            assert_eq!(pthread_mutex_lock(&raw mut (*shared).mutex), 0);
            (*shared).counted += 1;
            assert_eq!(pthread_mutex_unlock(&raw mut (*shared).mutex), 0);
        }
        for round in 0..ROUNDS {
            assert_eq!(pthread_mutex_lock(&raw mut (*shared).mutex), 0);
            while (*shared).turn != round * threads + me {
                assert_eq!(pthread_cond_wait(&raw mut (*shared).changed, &raw mut (*shared).mutex), 0);
            }
            (*shared).turn += 1;
            assert_eq!(pthread_cond_broadcast(&raw mut (*shared).changed), 0);
            assert_eq!(pthread_mutex_unlock(&raw mut (*shared).mutex), 0);
        }
        wait();
        for round in 0..ROUNDS {
            let writes = (round + me) % 3 == 0;
            let lock = &raw mut (*shared).lock;
            assert_eq!(if writes { pthread_rwlock_wrlock(lock) } else { pthread_rwlock_rdlock(lock) }, 0);
            if (*shared).written[0] != (*shared).written[1] {
                (*shared).torn.fetch_add(1, SeqCst);
            }
            if writes {
                (*shared).written[0] += 1;
                std::thread::yield_now();
                (*shared).written[1] += 1;
            }
            assert_eq!(pthread_rwlock_unlock(lock), 0);
        }
        for _ in 0..ROUNDS {
            assert_eq!(sem_wait(&raw mut (*shared).semaphore), 0);
            let inside = (*shared).inside.fetch_add(1, SeqCst) + 1;
            (*shared).most_inside.fetch_max(inside, SeqCst);
            std::thread::yield_now();
            (*shared).inside.fetch_sub(1, SeqCst);
            assert_eq!(sem_post(&raw mut (*shared).semaphore), 0);
        }
        wait();
        // A thread of the last copy ends with the robust mutex; one of the others, or of its own process, hears of it.
        if me == threads - 1 {
            let heir = Place(shared);
            let ends = move || {
                let heir = heir;
                assert_eq!(pthread_mutex_lock(&raw mut (*heir.0).robust), 0);
            };
            std::thread::spawn(ends).join().unwrap();
        }
        wait();
        match pthread_mutex_lock(&raw mut (*shared).robust) {
            0 => {}
            OWNER_DIED => {
                (*shared).died.fetch_add(1, SeqCst);
                assert_eq!(pthread_mutex_consistent(&raw mut (*shared).robust), 0);
            }
            error => panic!("robust mutex: {error}"),
        }
        assert_eq!(pthread_mutex_unlock(&raw mut (*shared).robust), 0);
        wait();
    }
}

fn main() {
    let procs = number("TOMBOLO_PROCS", 1);
    let copies = number("TOMBOLO_GUESTS", 1) * procs;
    let rank = number("TOMBOLO_GUEST", 0) * procs + number("TOMBOLO_PROC", 0);
    let threads = copies * THREADS;
    // SAFETY: plain calls; a new segment is zero, and stays attached until the end.
    let (id, shared) = unsafe {
        let id = shmget(0x7a58, size_of::<Shared>(), 0o1600);
        (id, shmat(id, std::ptr::null(), 0).cast::<Shared>())
    };
    assert!(id >= 0 && shared as isize != -1, "{}", std::io::Error::last_os_error());
    // SAFETY: attached above; `ready` is atomic, and the rest is used when it says so.
    unsafe {
        if rank == 0 {
            set_up(shared, threads);
        }
        while (*shared).ready.load(SeqCst) == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        let place = Place(shared);
        let all: Vec<_> = (0..THREADS)
            .map(|thread| {
                std::thread::spawn(move || {
                    let place = place;
                    work(place.0, rank * THREADS + thread, threads)
                })
            })
            .collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        if rank == 0 {
            println!("counted {} of {}", (*shared).counted, threads * ROUNDS);
            println!("turns {} of {}", (*shared).turn, threads * ROUNDS);
            println!("torn {}, written the same {}", (*shared).torn.load(SeqCst), (*shared).written[0] == (*shared).written[1]);
            println!("never more than two inside {}", (1..=2).contains(&(*shared).most_inside.load(SeqCst)));
            println!("heard of a dead owner {}", (*shared).died.load(SeqCst));
        }
        if (*shared).last.fetch_add(1, SeqCst) == copies - 1 {
            assert_eq!(shmctl(id, 0, null_mut()), 0);
        }
    }
}
