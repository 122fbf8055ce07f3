//! personality(2): any is taken and told. Two bits of it mean something here: [`UNAME26`] and [`STICKY_TIMEOUTS`].
//! Addresses are never randomised in any case (ADDR_NO_RANDOMIZE).

use super::Call;
use abi::Errno;

/// uname(2) is to tell a release that begins with 2.6.
pub const UNAME26: u32 = 0x2_0000;
/// select(2) and its kin are not to tell what is left of their time.
pub const STICKY_TIMEOUTS: u32 = 0x400_0000;

/// "Only tell".
const QUERY: u32 = u32::MAX;

/// personality(2).
pub fn personality(call: &mut Call<'_>) -> Result<u64, Errno> {
    let new = call.args[0] as u32;
    let task = call.task();
    let before = task.personality;
    if new != QUERY {
        task.personality = new;
    }
    Ok(before.into())
}
