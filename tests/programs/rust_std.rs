//! A Rust program on std: collections, environment, stdin, formatting, time, and a panic that is caught.
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("arguments {arguments:?}");
    println!("guest {}", std::env::var("TOMBOLO_GUEST").unwrap_or_else(|_| "0".into()));

    let mut words: HashMap<String, usize> = HashMap::new();
    let mut lines = 0;
    for line in std::io::stdin().lock().lines() {
        lines += 1;
        for word in line.expect("stdin is text").split_whitespace() {
            *words.entry(word.to_string()).or_default() += 1;
        }
    }
    let sorted: BTreeMap<_, _> = words.iter().collect();
    println!("{lines} lines, words {sorted:?}");

    let mut numbers: Vec<u64> = (0..200_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    numbers.sort_unstable();
    let mixed = numbers.iter().enumerate().fold(0u64, |sum, (i, n)| sum.rotate_left(5) ^ n.wrapping_add(i as u64));
    println!("sorted {} numbers: {mixed:016x}", numbers.len());
    println!("floating point {:.6} {:e}", 2f64.sqrt(), 1e300f64 * 3.0);

    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(5));
    println!("slept {}", start.elapsed() >= Duration::from_millis(5));

    std::panic::set_hook(Box::new(|_| eprintln!("a panic happened")));
    let caught = std::panic::catch_unwind(|| numbers[numbers.len()]);
    println!("panic caught: {}", caught.is_err());
    println!("directory is absolute: {}", std::env::current_dir().is_ok_and(|d| d.is_absolute()));
    println!("executable is absolute: {}", std::env::current_exe().is_ok_and(|d| d.is_absolute()));
    println!("no such file: {:?}", std::fs::read("/no/such/file").is_err());
    std::io::stdout().flush().expect("stdout takes it");
    std::process::exit(arguments.len() as i32);
}
