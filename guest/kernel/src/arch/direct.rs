//! Guest-physical memory, reached through the direct map ([`abi::memory::DIRECT_MAP`]): entries of tables,
//! whole frames, pieces of programs' memory.
//!
//! All accesses are atomic loads and stores or string instructions in assembly, never references: programs
//! on other vCPUs change their memory whenever they like. Callers name RAM only; segments lie in windows,
//! which the direct map does not have, so these are reached through the running program's own mapping
//! ([`read_user`], [`write_user`], [`load_user32`], [`exchange_user32`]).
//!
//! On the host the same functions work on a sparse memory of the calling thread, so `mm` is tested there.
// UNSAFETY: turns guest-physical addresses into pointers.
#![cfg_attr(
    any(target_os = "none", test),
    expect(unsafe_code, reason = "guest-physical memory by address")
)]

#[cfg(not(target_os = "none"))]
pub use fake::*;
#[cfg(target_os = "none")]
pub use real::*;

/// How many of the `count` 64-bit words from `address` on are zero before the first that is not. One instruction looks at
/// all of them (SDM 2B, SCAS): for 480 empty entries 1,640 fewer than a loop where ring 0 is emulated. In ring 3 it takes
/// about 1.5 times as long as a loop of loads.
///
/// # Safety
/// There are so many words.
#[cfg(any(target_os = "none", test))]
#[inline]
unsafe fn leading_zeros(address: u64, count: u64) -> u64 {
    // Of no word, the flags would say nothing.
    if count == 0 {
        return 0;
    }
    let (left, differs): (u64, u8);
    // SAFETY: the caller's promise. The direction flag is clear, as Rust has it.
    unsafe {
        core::arch::asm!("repe scasq", "setne {differs}", differs = out(reg_byte) differs,
            inout("rcx") count => left, inout("rdi") address => _, in("rax") 0u64,
            options(nostack, readonly));
    }
    // It has gone past the one that differs.
    count - left - u64::from(differs)
}

#[cfg(target_os = "none")]
mod real {
    use abi::memory::DIRECT_MAP;
    use core::arch::asm;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use paging::{GuestPhys, GuestVirt};

    const fn at(gpa: GuestPhys) -> u64 {
        DIRECT_MAP + gpa.get()
    }

    /// The 64-bit word at `gpa`, which is 8-byte aligned RAM.
    #[inline(always)]
    pub fn load64(gpa: GuestPhys) -> u64 {
        // SAFETY: RAM is mapped there, and all access to it is atomic or opaque.
        unsafe { (*(at(gpa) as *const AtomicU64)).load(Ordering::Relaxed) }
    }

    /// Stores to the 64-bit word at `gpa`.
    #[inline(always)]
    pub fn store64(gpa: GuestPhys, value: u64) {
        // SAFETY: as `load64`; callers name frames and tables that are theirs. x86 keeps stores in order.
        unsafe { (*(at(gpa) as *const AtomicU64)).store(value, Ordering::Release) }
    }

    /// How many of the `count` 64-bit words from `gpa` on are zero before the first that is not. Each is read in one
    /// access, as aligned words are.
    #[inline]
    pub fn leading_zeros64(gpa: GuestPhys, count: u64) -> u64 {
        // SAFETY: RAM is mapped there; in assembly, because others may write there at the same time.
        unsafe { super::leading_zeros(at(gpa), count) }
    }

    /// The 32-bit word at `gpa`.
    #[inline(always)]
    pub fn load32(gpa: GuestPhys) -> u32 {
        // SAFETY: as `load64`.
        unsafe { (*(at(gpa) as *const AtomicU32)).load(Ordering::Relaxed) }
    }

    /// Stores to the 32-bit word at `gpa`.
    #[inline(always)]
    pub fn store32(gpa: GuestPhys, value: u32) {
        // SAFETY: as `store64`.
        unsafe { (*(at(gpa) as *const AtomicU32)).store(value, Ordering::Relaxed) }
    }

    /// Exchanges the 64-bit word at `gpa`, which the host changes too. Returns what it was.
    pub fn swap64(gpa: GuestPhys, value: u64) -> u64 {
        // SAFETY: as `load64`.
        unsafe { (*(at(gpa) as *const AtomicU64)).swap(value, Ordering::AcqRel) }
    }

    /// Clears `bits` of the 64-bit word at `gpa`, which the host changes too.
    pub fn clear64(gpa: GuestPhys, bits: u64) {
        // SAFETY: as `load64`.
        unsafe { (*(at(gpa) as *const AtomicU64)).fetch_and(!bits, Ordering::AcqRel) };
    }

    /// Changes the 32-bit word at `gpa` from `old` to `new` in one step; false if it is not `old`.
    pub fn exchange32(gpa: GuestPhys, old: u32, new: u32) -> bool {
        exchange(at(gpa), old, new)
    }

    /// The aligned 32-bit word of the loaded program at `from`, which its tables map readable (to `_phys`).
    pub fn load_user32(from: GuestVirt, _phys: GuestPhys) -> u32 {
        // SAFETY: mapped, by the caller's promise; programs change it at any moment, so atomically.
        unsafe { (*(from.get() as *const AtomicU32)).load(Ordering::Acquire) }
    }

    /// As [`exchange32`], the aligned word of the loaded program at `to`, which its tables map writable (to `_phys`).
    pub fn exchange_user32(to: GuestVirt, _phys: GuestPhys, old: u32, new: u32) -> bool {
        exchange(to.get(), old, new)
    }

    fn exchange(address: u64, old: u32, new: u32) -> bool {
        // SAFETY: the callers above: RAM or a mapped user page.
        let word = unsafe { &*(address as *const AtomicU32) };
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Zeroes `len` bytes.
    pub fn zero(gpa: GuestPhys, len: u64) {
        // SAFETY: callers name frames that are theirs. Few emulated instructions: eight bytes a turn.
        unsafe {
            asm!("rep stosq", "mov rcx, {rest}", "rep stosb", rest = in(reg) len & 7,
                inout("rcx") len >> 3 => _, inout("rdi") at(gpa) => _, in("rax") 0u64,
                options(nostack, preserves_flags));
        }
    }

    /// Copies `len` bytes; the ranges do not overlap.
    pub fn copy(to: GuestPhys, from: GuestPhys, len: u64) {
        copy_bytes(at(to), at(from), len);
    }

    /// Copies out of RAM.
    pub fn read(from: GuestPhys, to: &mut [u8]) {
        copy_bytes(to.as_mut_ptr() as u64, at(from), to.len() as u64);
    }

    /// Copies into RAM.
    pub fn write(to: GuestPhys, from: &[u8]) {
        copy_bytes(at(to), from.as_ptr() as u64, from.len() as u64);
    }

    /// Copies out of the loaded program's memory at `from`, which its tables map readable (to `_phys`).
    pub fn read_user(from: GuestVirt, _phys: GuestPhys, to: &mut [u8]) {
        copy_bytes(to.as_mut_ptr() as u64, from.get(), to.len() as u64);
    }

    /// Copies into the loaded program's memory at `to`, which its tables map writable (to `_phys`).
    pub fn write_user(to: GuestVirt, _phys: GuestPhys, from: &[u8]) {
        copy_bytes(to.get(), from.as_ptr() as u64, from.len() as u64);
    }

    /// Copies from the loaded program's memory, as [`read_user`], into RAM.
    pub fn copy_from_user(to: GuestPhys, from: GuestVirt, _phys: GuestPhys, len: u64) {
        copy_bytes(at(to), from.get(), len);
    }

    /// Copies from RAM into the loaded program's memory, as [`write_user`].
    pub fn copy_to_user(to: GuestVirt, _phys: GuestPhys, from: GuestPhys, len: u64) {
        copy_bytes(to.get(), at(from), len);
    }

    fn copy_bytes(to: u64, from: u64, len: u64) {
        // SAFETY: the callers above: one side is a slice or RAM, the other RAM or a mapped user page, both of
        // `len` bytes. In assembly, because others may write there at the same time.
        unsafe {
            asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) len & 7,
                inout("rcx") len >> 3 => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }
}

#[cfg(not(target_os = "none"))]
mod fake {
    use paging::{GuestPhys, GuestVirt, PAGE_SIZE};
    use std::cell::RefCell;
    use std::collections::HashMap;

    thread_local! {
        static PAGES: RefCell<HashMap<u64, Box<[u8; PAGE_SIZE as usize]>>> = RefCell::default();
    }

    /// Forgets everything: all memory reads as zero.
    #[cfg(test)]
    pub fn clear() {
        PAGES.with_borrow_mut(HashMap::clear);
    }

    /// Visits the pieces of `[gpa, gpa + len)` page by page: the offset of each, and its bytes.
    fn pieces(gpa: GuestPhys, len: u64, mut visit: impl FnMut(usize, &mut [u8])) {
        PAGES.with_borrow_mut(|pages| {
            let mut done = 0;
            while done < len {
                let at = gpa.get() + done;
                let offset = at % PAGE_SIZE;
                let take = (PAGE_SIZE - offset).min(len - done);
                let page = pages
                    .entry(at / PAGE_SIZE)
                    .or_insert_with(|| Box::new([0; PAGE_SIZE as usize]));
                visit(
                    done as usize,
                    &mut page[offset as usize..(offset + take) as usize],
                );
                done += take;
            }
        });
    }

    /// The 64-bit word at `gpa`.
    pub fn load64(gpa: GuestPhys) -> u64 {
        let mut bytes = [0; 8];
        read(gpa, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Stores to the 64-bit word at `gpa`.
    pub fn store64(gpa: GuestPhys, value: u64) {
        write(gpa, &value.to_le_bytes());
    }

    /// How many of the `count` 64-bit words from `gpa` on are zero before the first that is not.
    pub fn leading_zeros64(gpa: GuestPhys, count: u64) -> u64 {
        (0..count)
            .find(|&index| load64(gpa.add(8 * index)) != 0)
            .unwrap_or(count)
    }

    /// The 32-bit word at `gpa`.
    pub fn load32(gpa: GuestPhys) -> u32 {
        let mut bytes = [0; 4];
        read(gpa, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Stores to the 32-bit word at `gpa`.
    pub fn store32(gpa: GuestPhys, value: u32) {
        write(gpa, &value.to_le_bytes());
    }

    /// Exchanges the 64-bit word at `gpa`. Returns what it was.
    pub fn swap64(gpa: GuestPhys, value: u64) -> u64 {
        let old = load64(gpa);
        store64(gpa, value);
        old
    }

    /// Clears `bits` of the 64-bit word at `gpa`.
    pub fn clear64(gpa: GuestPhys, bits: u64) {
        store64(gpa, load64(gpa) & !bits);
    }

    /// Changes the 32-bit word at `gpa` from `old` to `new`; false if it is not `old`.
    pub fn exchange32(gpa: GuestPhys, old: u32, new: u32) -> bool {
        let same = load32(gpa) == old;
        if same {
            store32(gpa, new);
        }
        same
    }

    /// The word of a program's page at `phys`.
    pub fn load_user32(_from: GuestVirt, phys: GuestPhys) -> u32 {
        load32(phys)
    }

    /// As [`exchange32`], the word of a program's page at `phys`.
    pub fn exchange_user32(_to: GuestVirt, phys: GuestPhys, old: u32, new: u32) -> bool {
        exchange32(phys, old, new)
    }

    /// Zeroes `len` bytes.
    pub fn zero(gpa: GuestPhys, len: u64) {
        pieces(gpa, len, |_, piece| piece.fill(0));
    }

    /// Copies `len` bytes; the ranges do not overlap.
    pub fn copy(to: GuestPhys, from: GuestPhys, len: u64) {
        let mut bytes = vec![0; len as usize];
        read(from, &mut bytes);
        write(to, &bytes);
    }

    /// Copies out of memory.
    pub fn read(from: GuestPhys, to: &mut [u8]) {
        pieces(from, to.len() as u64, |at, piece| {
            to[at..at + piece.len()].copy_from_slice(piece)
        });
    }

    /// Copies into memory.
    pub fn write(to: GuestPhys, from: &[u8]) {
        pieces(to, from.len() as u64, |at, piece| {
            piece.copy_from_slice(&from[at..at + piece.len()])
        });
    }

    /// Copies out of a program's page at `phys`.
    pub fn read_user(_from: GuestVirt, phys: GuestPhys, to: &mut [u8]) {
        read(phys, to);
    }

    /// Copies from a program's page at `phys` into RAM.
    pub fn copy_from_user(to: GuestPhys, _from: GuestVirt, phys: GuestPhys, len: u64) {
        copy(to, phys, len);
    }

    /// Copies from RAM into a program's page at `phys`.
    pub fn copy_to_user(_to: GuestVirt, phys: GuestPhys, from: GuestPhys, len: u64) {
        copy(phys, from, len);
    }

    /// Copies into a program's page at `phys`.
    pub fn write_user(_to: GuestVirt, phys: GuestPhys, from: &[u8]) {
        write(phys, from);
    }
}

#[cfg(test)]
mod tests {
    use super::leading_zeros;

    #[test]
    fn zeros_are_counted_up_to_the_first_word_that_differs() {
        for len in 0..9u64 {
            let zeros = vec![0u64; len as usize];
            // SAFETY: that many words.
            let none = unsafe { leading_zeros(zeros.as_ptr() as u64, len) };
            assert_eq!(none, len);
            for first in 0..len {
                let mut words = zeros.clone();
                words[first as usize..].fill(1 << (7 * first));
                // SAFETY: that many words.
                let found = unsafe { leading_zeros(words.as_ptr() as u64, len) };
                assert_eq!(found, first, "of {len}");
            }
        }
    }
}
