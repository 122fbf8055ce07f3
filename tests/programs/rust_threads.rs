//! Rust's std on threads: everything in `std::sync` and `std::thread` that waits for another thread, and some that does
//! not. Prints one line a fact.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError, TrySendError};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 8;
const SHORT: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_secs(60);

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    spawning();
    mutexes();
    conditions();
    read_write_locks();
    channels();
    barriers();
    parking();
    once();
    thread_locals();
    time();
    scopes();
    ending();
}

fn says(name: &str, fact: impl std::fmt::Debug) {
    println!("{name}: {fact:?}");
}

fn spawning() {
    let all: Vec<_> = (0..THREADS).map(|i| thread::spawn(move || i * i)).collect();
    says("squares", all.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>());
    let named = thread::Builder::new().name("a name".into()).stack_size(1 << 20);
    let name = named.spawn(|| thread::current().name().map(str::to_owned)).unwrap().join().unwrap();
    says("name", name);
    says("main's name", thread::current().name());
    let failed = thread::spawn(|| if THREADS == 8 { panic!("on purpose") }).join();
    says("a panic", failed.unwrap_err().downcast_ref::<&str>());
    let ids: std::collections::HashSet<_> = (0..20).map(|_| thread::spawn(|| thread::current().id()).join().unwrap()).collect();
    says("different ids", ids.len());
    says("parallelism", thread::available_parallelism().is_ok_and(|n| n.get() >= 1));
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let thread = thread::spawn(move || while !seen.load(SeqCst) { thread::yield_now() });
    says("finished", thread.is_finished());
    flag.store(true, SeqCst);
    thread.join().unwrap();
    let many: usize = (0..60).map(|i| thread::spawn(move || i).join().unwrap()).sum();
    says("sixty", many);
}

fn mutexes() {
    let total = Arc::new(Mutex::new(0u64));
    let all: Vec<_> = (0..THREADS)
        .map(|_| {
            let total = total.clone();
            thread::spawn(move || for _ in 0..2000 { *total.lock().unwrap() += 1 })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
    says("counted", *total.lock().unwrap());
    let guard = total.lock().unwrap();
    let other = total.clone();
    says("try while held", thread::spawn(move || other.try_lock().is_err()).join().unwrap());
    drop(guard);
    let other = total.clone();
    let _ = thread::spawn(move || {
        let _held = other.lock().unwrap();
        panic!("with the mutex");
    })
    .join();
    says("poisoned", total.is_poisoned());
    says("what it protects", *total.lock().unwrap_or_else(|e| e.into_inner()));
}

fn conditions() {
    let pair = Arc::new((Mutex::new(0usize), Condvar::new()));
    let all: Vec<_> = (0..THREADS)
        .map(|me| {
            let pair = pair.clone();
            thread::spawn(move || {
                let (turn, changed) = &*pair;
                for round in 0..40 {
                    let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn != round * THREADS + me).unwrap();
                    *turn += 1;
                    changed.notify_all();
                }
            })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
    says("turns", *pair.0.lock().unwrap());
    let start = Instant::now();
    let (guard, result) = pair.1.wait_timeout_while(pair.0.lock().unwrap(), SHORT, |_| true).unwrap();
    says("timed out", (result.timed_out(), start.elapsed() >= SHORT));
    drop(guard);
    let other = pair.clone();
    let thread = thread::spawn(move || {
        *other.0.lock().unwrap() = 7;
        other.1.notify_one();
    });
    let (guard, result) = pair.1.wait_timeout_while(pair.0.lock().unwrap(), LONG, |n| *n != 7).unwrap();
    says("notified", (*guard, result.timed_out()));
    drop(guard);
    thread.join().unwrap();
}

fn read_write_locks() {
    let lock = Arc::new(RwLock::new((0u64, 0u64)));
    let torn = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..THREADS)
        .map(|me| {
            let (lock, torn) = (lock.clone(), torn.clone());
            thread::spawn(move || {
                for i in 0..400 {
                    if i % 4 == me % 4 {
                        let mut both = lock.write().unwrap();
                        both.0 += 1;
                        if i % 16 == 0 {
                            thread::yield_now();
                        }
                        both.1 += 1;
                    } else {
                        let both = lock.read().unwrap();
                        if both.0 != both.1 {
                            torn.fetch_add(1, SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
    says("written", *lock.read().unwrap());
    says("torn", torn.load(SeqCst));
    let (first, second) = (lock.read().unwrap(), lock.read().unwrap());
    says("two readers", *first == *second);
    says("write while read", lock.try_write().is_err());
}

fn channels() {
    let (sender, receiver) = mpsc::channel();
    for me in 0..THREADS {
        let sender = sender.clone();
        thread::spawn(move || (0..300).for_each(|i| sender.send(me * 1000 + i).unwrap()));
    }
    drop(sender);
    let mut last: HashMap<usize, usize> = HashMap::new();
    let (mut sum, mut ordered) = (0, true);
    for value in receiver {
        sum += value;
        let before = last.insert(value / 1000, value % 1000);
        ordered &= before.map_or(value % 1000 == 0, |b| b + 1 == value % 1000);
    }
    says("received", (sum, ordered));
    let (sender, receiver) = mpsc::sync_channel(2);
    let (found_full, is_full) = mpsc::channel();
    let producer = thread::spawn(move || {
        let mut full = 0;
        for i in 0..200 {
            match sender.try_send(i) {
                Ok(()) => {}
                Err(TrySendError::Full(i)) => {
                    full += 1;
                    let _ = found_full.send(());
                    sender.send(i).unwrap();
                }
                Err(TrySendError::Disconnected(_)) => unreachable!(),
            }
        }
        full
    });
    // Nobody receives until then.
    is_full.recv().unwrap();
    says("bounded", receiver.iter().sum::<i32>());
    says("it was full", producer.join().unwrap() > 0);
    let (sender, receiver) = mpsc::sync_channel(0);
    let thread = thread::spawn(move || (0..50).map(|i| sender.send(i).is_ok()).filter(|sent| *sent).count());
    says("handed over", receiver.iter().take(50).sum::<i32>());
    says("sent", thread.join().unwrap());
    let (sender, receiver) = mpsc::channel::<()>();
    let start = Instant::now();
    says("nothing comes", receiver.recv_timeout(SHORT) == Err(RecvTimeoutError::Timeout) && start.elapsed() >= SHORT);
    says("nothing is there", receiver.try_recv() == Err(TryRecvError::Empty));
    let thread = thread::spawn(move || {
        thread::sleep(SHORT);
        drop(sender);
    });
    says("nobody is left", receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Disconnected));
    thread.join().unwrap();
}

fn barriers() {
    let barrier = Arc::new(Barrier::new(THREADS));
    let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let all: Vec<_> = (0..THREADS)
        .map(|_| {
            let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
            thread::spawn(move || {
                (1..=50).all(|round| {
                    arrived.fetch_add(1, SeqCst);
                    leaders.fetch_add(barrier.wait().is_leader() as usize, SeqCst);
                    let all_are_there = arrived.load(SeqCst) == round * THREADS;
                    barrier.wait();
                    all_are_there
                })
            })
        })
        .collect();
    says("nobody was ahead", all.into_iter().all(|t| t.join().unwrap()));
    says("leaders", leaders.load(SeqCst));
}

fn parking() {
    let thread = thread::spawn(|| {
        let mut parks = 0;
        loop {
            thread::park();
            parks += 1;
            if UNPARKED.load(SeqCst) {
                return parks > 0;
            }
        }
    });
    // It most likely sleeps by then; what comes out doesn't depend on it.
    thread::sleep(SHORT);
    UNPARKED.store(true, SeqCst);
    thread.thread().unpark();
    says("unparked", thread.join().unwrap());
    thread::current().unpark();
    let start = Instant::now();
    thread::park();
    says("unparked before", start.elapsed() < LONG);
    let start = Instant::now();
    while start.elapsed() < SHORT {
        thread::park_timeout(SHORT);
    }
    says("parked for a while", start.elapsed() < LONG);
    /* Two that wake each other in turn. */
    let turn = Arc::new(AtomicU32::new(0));
    let (main, other) = (thread::current(), turn.clone());
    let thread = thread::spawn(move || {
        for i in 0..300 {
            while other.load(SeqCst) != 2 * i + 1 {
                thread::park();
            }
            other.store(2 * i + 2, SeqCst);
            main.unpark();
        }
    });
    for i in 0..300 {
        turn.store(2 * i + 1, SeqCst);
        thread.thread().unpark();
        while turn.load(SeqCst) != 2 * i + 2 {
            thread::park();
        }
    }
    thread.join().unwrap();
    says("turns", turn.load(SeqCst));
}
static UNPARKED: AtomicBool = AtomicBool::new(false);

fn once() {
    static ONCE: Once = Once::new();
    static CELL: OnceLock<usize> = OnceLock::new();
    static LAZY: LazyLock<String> = LazyLock::new(|| "made when first asked for".into());
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let barrier = Arc::new(Barrier::new(THREADS));
    let all: Vec<_> = (0..THREADS)
        .map(|i| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                barrier.wait();
                ONCE.call_once(|| {
                    thread::sleep(SHORT);
                    TIMES.fetch_add(1, SeqCst);
                });
                TIMES.load(SeqCst) == 1 && *CELL.get_or_init(|| i) < THREADS && LAZY.len() == 25
            })
        })
        .collect();
    says("once", all.into_iter().all(|t| t.join().unwrap()));
    says("times", TIMES.load(SeqCst));
}

fn thread_locals() {
    struct Counted;
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(5) };
        static LIST: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        static COUNTED: Counted = const { Counted };
    }
    let all: Vec<_> = (0..THREADS)
        .map(|i| {
            thread::spawn(move || {
                COUNTED.with(|_| ());
                NUMBER.set(NUMBER.get() + i);
                for n in 0..100 {
                    LIST.with_borrow_mut(|list| list.push(n * i));
                    thread::yield_now();
                }
                NUMBER.get() == 5 + i && LIST.with_borrow(|list| list.len() == 100 && list[99] == 99 * i)
            })
        })
        .collect();
    says("each its own", all.into_iter().all(|t| t.join().unwrap()));
    says("dropped", DROPPED.load(SeqCst));
    says("main's", (NUMBER.get(), LIST.with_borrow(Vec::len)));
}

fn time() {
    let latest = Arc::new(Mutex::new(Instant::now()));
    let all: Vec<_> = (0..THREADS)
        .map(|_| {
            let latest = latest.clone();
            thread::spawn(move || {
                (0..500).all(|_| {
                    let mut latest = latest.lock().unwrap();
                    let now = Instant::now();
                    let forward = now >= *latest;
                    *latest = now;
                    forward
                })
            })
        })
        .collect();
    says("time goes forward for all", all.into_iter().all(|t| t.join().unwrap()));
    let start = Instant::now();
    let all: Vec<_> = (0..THREADS).map(|_| thread::spawn(|| thread::sleep(SHORT * 2))).collect();
    all.into_iter().for_each(|t| t.join().unwrap());
    says("all slept long enough", start.elapsed() >= SHORT * 2);
    says("and at the same time", start.elapsed() < LONG);
}

fn scopes() {
    let mut numbers: Vec<u64> = (0..10_000).collect();
    let parts = AtomicUsize::new(0);
    thread::scope(|scope| {
        for part in numbers.chunks_mut(1000) {
            scope.spawn(|| {
                part.iter_mut().for_each(|n| *n *= 2);
                parts.fetch_add(1, SeqCst);
            });
        }
    });
    says("parts", parts.load(SeqCst));
    says("doubled", numbers.iter().sum::<u64>());
    let result = thread::scope(|scope| scope.spawn(|| scope.spawn(|| 6).join().unwrap() * 7).join().unwrap());
    says("nested", result);
}

/// The process ends while threads run and wait.
fn ending() {
    let held = Arc::new(Mutex::new(()));
    let guard = held.lock().unwrap();
    for i in 0..THREADS {
        let held = held.clone();
        thread::spawn(move || {
            if i % 2 == 0 {
                drop(held.lock());
            }
            loop {
                std::hint::spin_loop();
            }
        });
    }
    thread::sleep(SHORT);
    println!("the end");
    drop(guard);
    std::process::exit(3);
}
