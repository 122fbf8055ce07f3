//! Rust's std with signals about: sleeps, locks, channels and threads go on as if there were none; and std's own handler
//! tells of a thread that has used up its stack.   usage: rust_signals [overflow]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{env, hint, thread};

#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

#[repr(C)]
struct Interval {
    period: [i64; 2],
    value: [i64; 2],
}

unsafe extern "C" {
    fn sigaction(signal: i32, new: *const Action, old: *mut Action) -> i32;
    fn setitimer(which: i32, new: *const Interval, old: *mut Interval) -> i32;
    fn raise(signal: i32) -> i32;
}

const SIGUSR1: i32 = 10;
const SIGALRM: i32 = 14;

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: i32) {
    HANDLED.fetch_add(1, Relaxed);
}

fn catch(signal: i32) {
    let action = Action {
        handler: count as *const () as usize,
        mask: [0; 16],
        flags: 0,
        restorer: 0,
    };
    assert_eq!(unsafe { sigaction(signal, &action, std::ptr::null_mut()) }, 0);
}

fn alarms(microseconds: i64) {
    let interval = Interval {
        period: [0, microseconds],
        value: [0, microseconds],
    };
    assert_eq!(unsafe { setitimer(0, &interval, std::ptr::null_mut()) }, 0);
}

fn deep(level: u64) -> u64 {
    let room = hint::black_box([level; 200]);
    deep(level + 1) + room[(level % 200) as usize]
}

fn main() {
    if env::args().nth(1).as_deref() == Some("overflow") {
        let thread = thread::Builder::new().name("deep".into()).spawn(|| deep(0));
        println!("ended: {:?}", thread.expect("a thread").join().is_ok());
        return;
    }
    catch(SIGALRM);
    catch(SIGUSR1);
    println!("raised {}", unsafe { raise(SIGUSR1) });
    println!("handled {}", HANDLED.load(Relaxed));
    alarms(50_000);
    let start = Instant::now();
    thread::sleep(Duration::from_millis(300));
    println!("slept as long as it should {}", start.elapsed() >= Duration::from_millis(300));
    println!("although it was interrupted {}", HANDLED.load(Relaxed) > 1);

    let (sender, receiver) = mpsc::channel();
    let workers: Vec<_> = (0..4u64)
        .map(|worker| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..50 {
                    sender.send(worker * 1000 + number).expect("a receiver");
                    thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    drop(sender);
    println!("received {}", receiver.iter().sum::<u64>());
    workers.into_iter().for_each(|worker| worker.join().expect("it ends well"));

    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let others: Vec<_> = (0..3)
        .map(|_| {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                for _ in 0..30 {
                    *pair.0.lock().expect("a lock") += 1;
                    pair.1.notify_all();
                    thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    let mut sum = pair.0.lock().expect("a lock");
    while *sum < 90 {
        sum = pair.1.wait(sum).expect("a lock");
    }
    println!("counted {sum}");
    drop(sum);
    others.into_iter().for_each(|other| other.join().expect("it ends well"));
    alarms(0);
}
