//! `tombolo bench`: that it measures what it says, everywhere; never how fast that is.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::time::Duration;
use tests::Command;

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

/// The ids of the host's segments.
fn segments() -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").expect("/proc/sysvipc/shm");
    let ids = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    ids.map(str::to_owned).collect()
}

#[test]
fn a_hand_off_is_measured_natively_twice_in_a_guest_and_between_guests() {
    let before = segments();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let page = directory.path().join("bench.html");
    let result = Command::tombolo()
        .args("bench --quick --format json hand-off --html")
        .arg(&page)
        .run();
    let found: Value = serde_json::from_str(&result.expect(0).out()).expect("one JSON object");
    let figures = array(&found["figures"]);
    assert_eq!(figures.len(), 1);
    let places = figures[0]["places"].as_object().expect("an object");
    let names: Vec<&str> = places.keys().map(String::as_str).collect();
    assert_eq!(names, ["guests", "native", "native again", "one guest"]);
    for (place, says) in places {
        let runs = array(&says["runs"]);
        assert_eq!(runs.len(), array(&places["native"]["runs"]).len(), "{place}");
        for run in runs {
            let of = |name: &str| run[name].as_u64().expect("a number");
            assert!(
                0 < of("least_ps") && of("least_ps") <= of("median_ps") && of("median_ps") <= of("p99_ps")
            );
            assert!(of("samples") >= 1000, "{place}");
        }
    }
    assert!(found["machine"]["kvm"].is_string() && !array(&found["not_measured"]).is_empty());
    let page = fs::read_to_string(page).expect("the page");
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
    assert_eq!(segments(), before, "nothing stays behind on the host");
}

#[test]
fn a_signal_ends_it_and_no_segment_stays_behind() {
    let before = segments();
    for wait in [20, 60, 200, 1000] {
        let result = Command::tombolo().args("bench scale").run_with(|child| {
            std::thread::sleep(Duration::from_millis(wait));
            kill_process(Pid::from_child(child), Signal::TERM).expect("it runs");
        });
        result.expect(143);
        assert_eq!(segments(), before, "after {wait} ms");
    }
}

#[test]
fn a_report_is_refused_where_there_is_none() {
    let result = Command::tombolo().args("bench hand-off --report x").run();
    assert!(
        result.expect(125).err().contains("--format json"),
        "{}",
        result.err()
    );
}

#[test]
fn a_group_there_is_not_is_named_with_those_there_are() {
    let result = Command::tombolo().args("bench everything").run();
    let error = result.expect(125).err();
    assert!(
        error.contains("everything") && error.contains("hand-off"),
        "{error}"
    );
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let result = Command::tombolo()
        .args("bench --quick hand-off --html /nowhere/bench.html")
        .run();
    assert!(
        result.expect(125).err().contains("/nowhere/bench.html"),
        "{}",
        result.err()
    );
}
