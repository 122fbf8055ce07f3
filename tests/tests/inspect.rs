//! The host walks a guest's page tables after each attach and detach and finds exactly what should be there.
//!
//! The program `looked_at` says on stderr what ought to be mapped; the observer sees that message pass, resolves the
//! segments it names to where the broker put them, and compares with the tables that are loaded at that moment.

use abi::hypercall::{Call, Request};
use abi::ipc::SHM_RDONLY;
use paging::{GuestPhys, GuestVirt, Leaf, Rights};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tests::{Run, Toolchain};
use tombolo::inspect::{GuestView, Observer};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;

#[derive(Default)]
struct Seen {
    /// Where each segment lies in a guest's window: by guest, id, and whether it is the read-only window.
    segments: BTreeMap<(u32, i32, bool), u64>,
    looks: u32,
    wrong: Vec<String>,
}

#[derive(Default)]
struct Looker(Mutex<Seen>);

impl Observer for Looker {
    fn after_hypercall(&self, view: &GuestView<'_>, guest: u32, call: Call, request: &Request) {
        let mut seen = self.0.lock().expect("no look panics");
        if call == Call::ShmAttach && request.result >= 0 {
            let read_only = request.args[1] as u32 & SHM_RDONLY != 0;
            seen.segments
                .insert((guest, request.args[0] as i32, read_only), request.out[0]);
        }
        if call == Call::Write && request.args[0] == 2 {
            let mut bytes = vec![0; request.args[2] as usize];
            match view.read(GuestPhys::new(request.args[1]), &mut bytes) {
                Ok(()) => {
                    seen.looks += 1;
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if let Err(wrong) = look(&seen.segments, view, guest, &text) {
                        seen.wrong.push(format!("guest {guest}: {text}{wrong}"));
                    }
                }
                Err(errno) => seen.wrong.push(format!("what is written is not in RAM: {errno}")),
            }
        }
    }
}

/// `look BASE PAGES LABEL`, then lines `part VIRT PAGES r|rw|rx ID rw|ro FIRST-PAGE-OF-SEGMENT`.
fn look(
    segments: &BTreeMap<(u32, i32, bool), u64>,
    view: &GuestView<'_>,
    guest: u32,
    text: &str,
) -> Result<(), String> {
    let number = |word: &str| u64::from_str_radix(word, 16).map_err(|error| format!("{word}: {error}"));
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let ["look", base, pages, ..] = head[..] else {
        return Err("not a look".into());
    };
    let mut expected = Vec::new();
    for line in lines {
        let ["part", virt, pages, rights, id, window, first] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not a part: {line}"));
        };
        let id = number(id)? as i32;
        let segment = segments
            .get(&(guest, id, window == "ro"))
            .ok_or("an unknown segment")?;
        let mut flags = Rights::USER;
        flags.set(Rights::WRITE, rights.contains('w'));
        flags.set(Rights::EXECUTE, rights.contains('x'));
        expect(
            &mut expected,
            number(virt)?,
            segment + number(first)? * PAGE,
            number(pages)?,
            flags,
        );
    }
    let found: Vec<_> = view
        .leaves(GuestVirt::new(number(base)?), number(pages)?)
        .iter()
        .map(plain)
        .collect();
    if found == expected {
        return Ok(());
    }
    let first = found
        .iter()
        .zip(&expected)
        .position(|(a, b)| a != b)
        .unwrap_or(found.len().min(expected.len()));
    Err(format!(
        "{} leaves instead of {}; number {first} is {:x?} instead of {:x?}",
        found.len(),
        expected.len(),
        found.get(first),
        expected.get(first)
    ))
}

type Plain = (u64, u64, u64, Rights);

fn plain(leaf: &Leaf) -> Plain {
    (leaf.virt.get(), leaf.phys.get(), leaf.size, leaf.rights)
}

/// Large leaves wherever both sides are aligned and there is enough left.
fn expect(leaves: &mut Vec<Plain>, virt: u64, phys: u64, pages: u64, rights: Rights) {
    let (mut done, len) = (0, pages * PAGE);
    while done < len {
        let large =
            (virt + done).is_multiple_of(LARGE) && (phys + done).is_multiple_of(LARGE) && len - done >= LARGE;
        let size = if large { LARGE } else { PAGE };
        leaves.push((virt + done, phys + done, size, rights));
        done += size;
    }
}

fn looked_at(run: Run, least: u32) {
    let looker = Arc::new(Looker::default());
    let observer: Arc<dyn Observer> = looker.clone();
    let run = run.go_with(|config| config.observer = Some(observer), |_| {});
    run.expect_all(0);
    let seen = looker.0.lock().expect("no look panics");
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert!(seen.looks >= least, "only {} looks: {run:?}", seen.looks);
}

#[test]
fn page_tables_hold_exactly_what_is_attached_after_each_attach_and_detach() {
    looked_at(Run::with("looked_at.c", Toolchain::Musl), 20);
}

#[test]
fn each_process_has_its_own_attaches_in_its_own_page_tables() {
    looked_at(
        Run::with("looked_at.c", Toolchain::Musl)
            .guests(2)
            .vcpus(2)
            .procs(2),
        80,
    );
}

/// Remembers where in the windows segments have been.
#[derive(Default)]
struct Places(Mutex<BTreeMap<u64, u32>>);

impl Observer for Places {
    fn after_hypercall(&self, _: &GuestView<'_>, _: u32, call: Call, request: &Request) {
        if call == Call::ShmAttach && request.result >= 0 {
            *self
                .0
                .lock()
                .expect("no look panics")
                .entry(request.out[0])
                .or_default() += 1;
        }
    }
}

#[test]
fn ranges_of_the_windows_are_used_again() {
    for size in ["4096", "3145728"] {
        let places = Arc::new(Places::default());
        let observer: Arc<dyn Observer> = places.clone();
        let run = Run::with("rounds.c", Toolchain::Musl).args(["400", size]);
        run.go_with(|config| config.observer = Some(observer), |_| {})
            .expect_all(0);
        let places = places.0.lock().expect("no look panics");
        assert!(places.values().sum::<u32>() >= 400);
        // One in each window would do; nobody says it must be the same one each time.
        assert!(places.len() <= 8, "{places:x?}");
    }
}
