//! `tombolo litmus`: a short run of everything, judged as a user's run is, and what the command does when something is
//! not as it should be.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::Duration;
use tests::Command;

/// Enough rounds to see store buffers where two CPUs are free, few enough to take seconds.
const ROUNDS: u64 = 2_000;

fn litmus(args: &str) -> Command {
    Command::tombolo().args("litmus --format json").args(args)
}

fn findings(result: &tests::CommandResult) -> Value {
    serde_json::from_str(&result.out()).expect("one JSON object")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

/// Plays some tests in all their cases and looks at each count; returns on how many sides SB showed a store buffer.
fn play(names: &str) -> u32 {
    let result = litmus(&format!("--iterations {ROUNDS} {names}")).run();
    let found = findings(result.expect(0));
    assert_eq!(found["problems"], serde_json::json!([]));
    let cpus = found["cpus"].as_u64().expect("a number");
    let mut relaxed = 0;
    for test in array(&found["tests"]) {
        let enough = test["cpus_needed"].as_u64().expect("a number") <= cpus;
        let rounds = if enough { ROUNDS } else { ROUNDS / 10 };
        let runs = test["runs"].as_object().expect("an object");
        assert!(!runs.is_empty());
        for (side, run) in runs {
            assert_eq!(run["rounds"], rounds, "{test}");
            let outcomes = array(&test["outcomes"]);
            let count = |outcome: &Value| outcome["seen"][side].as_u64().expect("a count");
            assert_eq!(outcomes.iter().map(count).sum::<u64>(), rounds, "{test}");
            let seen = |verdict: &str| -> u64 {
                let of = outcomes.iter().filter(|outcome| outcome["x86_tso"] == verdict);
                of.map(count).sum()
            };
            assert_eq!(seen("forbidden"), 0, "{test}");
            if test["test"] == "SB" && test["case"] == "" {
                assert!(seen("relaxed") > 0, "{test}");
                relaxed += 1;
            }
        }
    }
    relaxed
}

#[test]
fn guests_see_memory_as_x86_tso_promises_and_the_run_could_have_told() {
    // A command for each, which ends within the harness's minute even where players get a CPU at the same time only rarely.
    let relaxed: u32 = litmus::TESTS.iter().map(|test| play(test.name)).sum();
    assert_eq!(relaxed, 3, "natively, in one guest and between guests");
}

#[test]
fn tests_can_be_chosen_and_come_in_all_their_cases() {
    let found = findings(litmus("--iterations 100 MP").run().expect(0));
    let cases: Vec<_> = array(&found["tests"])
        .iter()
        .map(|test| (test["test"].as_str(), test["case"].as_str()))
        .collect();
    assert_eq!(cases.len(), 5);
    assert!(cases.iter().all(|(test, _)| *test == Some("MP")), "{cases:?}");
    let churned = &array(&found["tests"])[4]["runs"]["guests"]["segments_meanwhile"];
    assert!(churned.as_u64().is_some_and(|count| count > 0), "{churned}");
}

#[test]
fn a_run_that_is_too_short_to_see_anything_says_so_and_fails() {
    // One round shows one outcome; three sides can't all show the rare one, twenty times over.
    let failed = (0..20).find_map(|_| {
        let result = Command::tombolo().args("litmus --iterations 1 SB").run();
        (result.status == 1).then_some(result)
    });
    let result = failed.expect("one round is not sensitive enough");
    assert!(result.err().contains("not sensitive enough"), "{}", result.err());
    assert!(result.out().contains("not sensitive enough"), "{}", result.out());
}

#[test]
fn a_test_there_is_not_is_named_with_those_there_are() {
    let result = litmus("sb").run();
    let error = result.expect(125).err();
    assert!(
        error.contains("'sb'") && error.contains("SB, ") && error.contains("IRIW"),
        "{error}"
    );
}

#[test]
fn a_signal_ends_it_on_either_side_and_leaves_no_process() {
    // At first it plays natively, later in guests; the harness looks for what is left behind.
    for wait in [100, 1500] {
        let result = litmus("--iterations 4000000 CoRR").run_with(|child| {
            std::thread::sleep(Duration::from_millis(wait));
            kill_process(Pid::from_child(child), Signal::TERM).expect("it runs");
        });
        result.expect(143);
    }
}
