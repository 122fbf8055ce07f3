//! Two or more copies pass a token round through a segment: Rust's side of "producer and consumer over shmget".
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

unsafe extern "C" {
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    fn shmat(id: c_int, at: *const c_void, flags: c_int) -> *mut c_void;
    fn shmdt(at: *const c_void) -> c_int;
    fn shmctl(id: c_int, command: c_int, buffer: *mut c_void) -> c_int;
}

struct Shared {
    here: AtomicU32,
    turn: AtomicU32,
    trail: AtomicU64,
    left: AtomicU32,
}

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn wait(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn main() {
    let procs = number("TOMBOLO_PROCS", 1);
    let copies = number("TOMBOLO_GUESTS", 1) * procs;
    let rank = number("TOMBOLO_GUEST", 0) * procs + number("TOMBOLO_PROC", 0);
    // SAFETY: plain calls; the segment is 64 bytes and zero, which is a valid `Shared`, and stays attached below.
    let (id, at) = unsafe {
        let id = shmget(0x7a57, 64, 0o1600);
        (id, shmat(id, std::ptr::null(), 0))
    };
    assert!(id >= 0 && at as isize != -1, "{}", std::io::Error::last_os_error());
    // SAFETY: attached above and detached only at the end.
    let shared = unsafe { &*at.cast::<Shared>() };
    shared.here.fetch_add(1, SeqCst);
    wait(|| shared.here.load(SeqCst) == copies);
    let rounds = 50;
    for round in 0..rounds {
        wait(|| shared.turn.load(SeqCst) == round * copies + rank);
        let trail = shared.trail.load(SeqCst);
        shared.trail.store(trail.wrapping_mul(31).wrapping_add(u64::from(rank + 1)), SeqCst);
        shared.turn.fetch_add(1, SeqCst);
    }
    wait(|| shared.turn.load(SeqCst) == rounds * copies);
    println!("{copies} copies, {rounds} rounds, trail {:016x}", shared.trail.load(SeqCst));
    let last = shared.left.fetch_add(1, SeqCst) == copies - 1;
    // SAFETY: `shared` is not used any more.
    unsafe {
        assert_eq!(shmdt(at), 0);
        if last {
            assert_eq!(shmctl(id, 0, std::ptr::null_mut()), 0);
        }
    }
}
