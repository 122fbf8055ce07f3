//! Values of options: each parser says in its error what the value was and what it may be.

use abi::{MAX_GUESTS, MAX_TASKS, MAX_VCPUS, PAGE_SIZE};
use shm::Setting;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;
use tombolo::config::MIN_MEMORY;

/// Longest time-out: about 31 years.
const MAX_TIMEOUT: Duration = Duration::from_secs(1_000_000_000);

/// Variables the library sets itself.
const RESERVED: [&str; 4] = ["TOMBOLO_GUEST", "TOMBOLO_GUESTS", "TOMBOLO_PROC", "TOMBOLO_PROCS"];

/// `--read-only`: which segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOnly {
    /// All.
    All,
    /// Those made with this key.
    Key(i32),
}

/// `--file HOST[:GUEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileArg {
    /// Where it is on the host.
    pub(super) host: PathBuf,
    /// What it is called in the guest, `None` for the same absolute path.
    pub(super) guest: Option<PathBuf>,
}

/// The last colon parts the two names: a host path with a colon in it needs both.
pub(super) fn file(text: OsString) -> Result<FileArg, String> {
    let shown = text.to_string_lossy().into_owned();
    let bytes = text.into_vec();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let (host, guest) = match bytes.iter().rposition(|&byte| byte == b':') {
        Some(colon) => (path(&bytes[..colon]), Some(path(&bytes[colon + 1..]))),
        None => (path(&bytes), None),
    };
    if host.as_os_str().is_empty() {
        return Err(format!("--file {shown}: HOST is an empty name"));
    }
    match &guest {
        Some(guest) if !guest.is_absolute() => {
            Err(format!("--file {shown}: the name in the guest must be absolute"))
        }
        _ => Ok(FileArg { host, guest }),
    }
}

/// The group's limit of segments.
pub(super) fn segments_limit(text: &str) -> Result<u64, String> {
    let most = Setting::Mni.most();
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("a number of segments is 0 to {most}")),
    }
}

/// The group's limit of pages.
pub(super) fn pages_limit(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("a number of pages of {PAGE_SIZE} bytes is 0 to {}", u64::MAX))
}

/// Rounds of a litmus test.
pub(super) fn rounds(text: &str) -> Result<u64, String> {
    match text.parse::<u32>() {
        Ok(rounds) if rounds > 0 => Ok(rounds.into()),
        _ => Err(format!("a number of rounds is 1 to {}", u32::MAX)),
    }
}

/// A litmus test by its name.
pub(super) fn litmus_test(name: &str) -> Result<&'static litmus::Test, String> {
    let all = || litmus::TESTS.iter();
    let names: Vec<&str> = all().map(|test| test.name).collect();
    all()
        .find(|test| test.name == name)
        .ok_or_else(|| format!("there are {}", names.join(", ")))
}

/// How many segments a guest may have made.
pub(super) fn segments_quota(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| "a number of segments, such as 16".into())
}

/// A user or group id.
pub(super) fn id(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(format!("an id is a number from 0 to {}", u32::MAX - 1)),
    }
}

/// A number of guests.
pub(super) fn guests(text: &str) -> Result<u32, String> {
    count(text, "guests", MAX_GUESTS)
}

/// A guest's number of vCPUs.
pub(super) fn vcpus(text: &str) -> Result<u32, String> {
    count(text, "vCPUs", MAX_VCPUS)
}

/// A guest's number of processes.
pub(super) fn processes(text: &str) -> Result<u32, String> {
    count(text, "processes", MAX_TASKS)
}

fn count(text: &str, what: &str, most: usize) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(count) if count >= 1 && count as usize <= most => Ok(count),
        _ => Err(format!("the number of {what} is 1 to {most}")),
    }
}

/// A guest's memory in bytes: `64M`, `1G`, `268435456`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let size = size(text)?;
    if size < MIN_MEMORY {
        return Err(format!("a guest needs at least {}M", MIN_MEMORY >> 20));
    }
    Ok(size)
}

/// A size in bytes; K, M, G, T, P and E (also with `iB` or `B`) are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" if unit != "iB" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" => 50,
        "E" => 60,
        _ => return Err("a size is a number of bytes, or one with K, M, G or T, such as 64M".into()),
    };
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if number.is_empty() => return Err("a size begins with a number, such as 64M".into()),
        Err(_) => return Err("too large".into()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

/// A segment's key, decimal or hexadecimal, or `all`.
pub(super) fn read_only(text: &str) -> Result<ReadOnly, String> {
    if text == "all" {
        return Ok(ReadOnly::All);
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let number = match hexadecimal {
        // Without a sign, which from_str_radix would take.
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            i64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => text.parse::<i64>().ok(),
    };
    // A key is a signed 32-bit number, and ipcs shows it unsigned.
    match number {
        Some(number) if (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&number) => {
            Ok(ReadOnly::Key(number as i32))
        }
        _ => Err("a key is a 32-bit number such as 1234 or 0x4d2, or the word `all`".into()),
    }
}

/// A time in seconds.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let refused = || {
        format!(
            "a time-out is a number of seconds above 0, such as 10 or 0.5, and at most {}",
            MAX_TIMEOUT.as_secs()
        )
    };
    let seconds: f64 = text.parse().map_err(|_| refused())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && time <= MAX_TIMEOUT => Ok(time),
        _ => Err(refused()),
    }
}

/// A variable for the programs: `NAME=value`.
pub(super) fn variable(text: OsString) -> Result<Vec<u8>, String> {
    let shown = text.to_string_lossy().into_owned();
    let bytes = text.into_vec();
    let name = match bytes.iter().position(|&byte| byte == b'=') {
        Some(end) if end > 0 => &bytes[..end],
        _ => return Err(format!("--env {shown}: a variable is NAME=value")),
    };
    if RESERVED.iter().any(|reserved| reserved.as_bytes() == name) {
        return Err(format!("--env {shown}: Tombolo sets this variable itself"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_within_their_limits() {
        assert_eq!(
            (guests("1"), guests("256"), vcpus("16"), processes("256")),
            (Ok(1), Ok(256), Ok(16), Ok(256))
        );
        for bad in [
            "0",
            "257",
            "1000000000",
            "99999999999999999999",
            "-1",
            "",
            "two",
            "1.5",
        ] {
            assert!(guests(bad).is_err(), "{bad}");
        }
        assert_eq!(vcpus("17"), Err("the number of vCPUs is 1 to 16".into()));
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in [
            ("268435456", 256 << 20),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("1G", 1 << 30),
            ("64MiB", 64 << 20),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        assert_eq!((memory("1T"), memory("1E")), (Ok(1 << 40), Ok(1 << 60)));
        for bad in [
            "",
            "M",
            "0",
            "1K",
            "15M",
            "16E",
            "99999999999999999999999",
            "64X",
            "64 M",
            "-64M",
            "6.4G",
            "64MM",
        ] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_has_a_host_name_and_perhaps_one_in_the_guest() {
        let arg = |host: &str, guest: Option<&str>| {
            Ok(FileArg {
                host: host.into(),
                guest: guest.map(Into::into),
            })
        };
        assert_eq!(file("a/b".into()), arg("a/b", None));
        assert_eq!(file("a:/b".into()), arg("a", Some("/b")));
        assert_eq!(file("a:b:/c".into()), arg("a:b", Some("/c")));
        for bad in ["", ":/b", "a:", "a:b", "a:/b:c"] {
            assert!(file(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_quotas_and_ids_are_numbers_in_range() {
        assert_eq!((segments_limit("0"), segments_limit("32768")), (Ok(0), Ok(32768)));
        assert_eq!(
            (pages_limit("18446744073709551615"), size("0")),
            (Ok(u64::MAX), Ok(0))
        );
        assert_eq!((id("0"), id("4294967294")), (Ok(0), Ok(u32::MAX - 1)));
        assert!(segments_limit("32769").is_err() && id("4294967295").is_err());
        for bad in ["", "-1", "x", "1.5", "18446744073709551616"] {
            assert!(
                segments_limit(bad).is_err() && pages_limit(bad).is_err() && size(bad).is_err(),
                "{bad}"
            );
            assert!(id(bad).is_err() && segments_quota(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn litmus_tests_have_names_and_rounds_a_range() {
        assert_eq!(litmus_test("2+2W").map(|test| test.name), Ok("2+2W"));
        assert!(litmus_test("sb").is_err_and(|text| text.contains("SB, ") && text.contains("IRIW")));
        assert_eq!((rounds("1"), rounds("10000000")), (Ok(1), Ok(10_000_000)));
        for bad in ["0", "-1", "1e7", "4294967296", ""] {
            assert!(rounds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_32_bits_in_either_notation() {
        assert_eq!(read_only("all"), Ok(ReadOnly::All));
        assert_eq!(read_only("1234"), Ok(ReadOnly::Key(1234)));
        assert_eq!(read_only("0x4D2"), Ok(ReadOnly::Key(1234)));
        assert_eq!(read_only("0xffffffff"), Ok(ReadOnly::Key(-1)));
        assert_eq!(read_only("-1"), Ok(ReadOnly::Key(-1)));
        for bad in ["", "0x", "0x100000000", "0x-1", "ALL", "-2147483649", "key"] {
            assert!(read_only(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_out_is_positive_and_finite() {
        assert_eq!(timeout("10"), Ok(Duration::from_secs(10)));
        assert_eq!(timeout("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "inf", "NaN", "1e30", "", "5s", "2000000000"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_have_a_name_that_is_not_ours() {
        assert_eq!(variable("A=b=c".into()), Ok(b"A=b=c".to_vec()));
        assert_eq!(variable("A=".into()), Ok(b"A=".to_vec()));
        for bad in ["A", "=b", "", "TOMBOLO_GUEST=7"] {
            assert!(variable(bad.into()).is_err(), "{bad}");
        }
    }
}
