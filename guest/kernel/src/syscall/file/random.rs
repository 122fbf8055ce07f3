//! Random bytes, from the host's generator.

use super::buffers::MOST;
use super::content::Region;
use super::stdio::BOUNCE;
use crate::arch::lent::gpa_of;
use crate::hypercall;
use crate::mm::{Access, Run, is_below_end};
use crate::syscall::Call;
use abi::hypercall::Call as Host;
use abi::{Errno, PAGE_SIZE};

const GRND_KNOWN: u64 = 7;

/// getrandom(2).
pub fn getrandom(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, flags, ..] = call.args;
    // GRND_RANDOM and GRND_INSECURE exclude each other.
    if flags & !GRND_KNOWN != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(MOST);
    if !is_below_end(address, len) {
        return Err(Errno::EFAULT);
    }
    fill(call, Region { address, len })
}

/// Fills a program's memory: how much of it.
///
/// # Errors
/// EFAULT if not even the first byte can be written.
pub fn fill(call: &mut Call<'_>, region: Region) -> Result<u64, Errno> {
    let who = call.requester();
    let mut done = 0;
    while done < region.len {
        let at = region.address.wrapping_add(done);
        let rest = (region.len - done).min(PAGE_SIZE);
        let run = call.with_space(|space, memory, world| space.run(memory, world, at, rest, Access::Write));
        let filled = match run {
            Ok(Run::Ram(gpa, run)) => hypercall::call(Host::Random, who, &[gpa.get(), run]).map(|_| run),
            Ok(Run::Segment(run)) => BOUNCE.with(|page| {
                let gpa = gpa_of(page);
                let run = run.min(PAGE_SIZE);
                hypercall::call(Host::Random, who, &[gpa, run])?;
                let page = &page[..run as usize];
                call.with_space(|space, memory, world| space.write(memory, world, at, page))?;
                Ok(run)
            }),
            Err(error) => Err(error),
        };
        match filled {
            Ok(filled) => done += filled,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
