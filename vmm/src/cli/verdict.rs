//! How a run went: the command's exit status, and what there is to say about it on stderr.

use super::OWN_ERROR;
use super::signals;
use std::time::Duration;
use tombolo::outcome::{GuestEnd, GuestFault, GuestOutcome, Outcome, ProcessOutcome, StopRequest};

/// Exit status of a run that was cut short by its time-out, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// Most processes named in one message.
const MOST_NAMED: usize = 8;

/// The command's exit status.
///
/// In this order: cut short from outside (124, 128 + signal), a guest or the host failed (125), the first status of a
/// program that is not 0, 0.
pub(super) fn exit_status(outcome: &Outcome) -> u8 {
    let any = |wanted: fn(&GuestEnd) -> bool| outcome.guests.iter().any(|guest| wanted(&guest.end));
    // A signal or the time-out that came when all was done has cut nothing short.
    if any(|end| matches!(end, GuestEnd::Stopped)) {
        match outcome.stopped {
            Some(StopRequest::Timeout) => return TIMED_OUT,
            Some(StopRequest::Signal(signal)) => return (128 + signal) as u8,
            None => return OWN_ERROR,
        }
    }
    if any(|end| matches!(end, GuestEnd::Fault(_) | GuestEnd::HostError(_))) {
        return OWN_ERROR;
    }
    let first = outcome.first_failure.and_then(|(guest, process)| {
        let guest = outcome.guests.iter().find(|candidate| candidate.guest == guest)?;
        guest
            .processes
            .iter()
            .find(|candidate| candidate.process == process)?
            .shell_status()
    });
    first.unwrap_or(0)
}

/// What there is to say, a message each; only a fault's epitaph has several lines.
pub(super) fn messages(outcome: &Outcome, timeout: Option<Duration>) -> Vec<String> {
    let mut messages = Vec::new();
    let several = outcome
        .guests
        .iter()
        .map(|guest| guest.processes.len())
        .sum::<usize>()
        > 1;
    for guest in &outcome.guests {
        if several {
            messages.extend(
                guest
                    .processes
                    .iter()
                    .filter_map(|process| killed(guest, process)),
            );
        }
        match &guest.end {
            GuestEnd::Done | GuestEnd::Stopped => {}
            GuestEnd::Fault(fault) => messages.push(describe(guest, fault)),
            GuestEnd::HostError(message) => messages.push(format!("guest {}: {message}", guest.guest)),
        }
    }
    messages.extend(cut_short(outcome, timeout));
    messages
}

fn killed(guest: &GuestOutcome, process: &ProcessOutcome) -> Option<String> {
    let signal = process.wait_status? & 0x7f;
    let name = signals::name(signal);
    (signal != 0).then(|| {
        format!(
            "guest {} process {}: killed by {name}",
            guest.guest, process.process
        )
    })
}

fn describe(guest: &GuestOutcome, fault: &GuestFault) -> String {
    let message = format!("guest {}: {fault}", guest.guest);
    match fault {
        GuestFault::Panic { text, .. } if !text.trim().is_empty() => {
            let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
            format!("{message}\n{}", lines.join("\n"))
        }
        _ => message,
    }
}

fn cut_short(outcome: &Outcome, timeout: Option<Duration>) -> Option<String> {
    let stopped = |guest: &&GuestOutcome| guest.end == GuestEnd::Stopped;
    if !outcome.guests.iter().any(|guest| stopped(&guest)) {
        return None;
    }
    let why = match outcome.stopped? {
        StopRequest::Timeout => match timeout {
            Some(time) => format!("timed out after {} s", time.as_secs_f64()),
            None => "timed out".into(),
        },
        StopRequest::Signal(signal) => format!("ended by {}", signals::name(signal.unsigned_abs())),
    };
    let running: Vec<String> = outcome
        .guests
        .iter()
        .filter(stopped)
        .flat_map(|guest| guest.processes.iter().map(move |process| (guest.guest, process)))
        .filter(|(_, process)| process.wait_status.is_none())
        .map(|(guest, process)| format!("guest {guest} process {}", process.process))
        .collect();
    let named = running
        .iter()
        .take(MOST_NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    Some(match running.len() {
        0 => why,
        count if count > MOST_NAMED => {
            format!("{why}; still running: {named} and {} more", count - MOST_NAMED)
        }
        _ => format!("{why}; still running: {named}"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn process(process: u32, wait_status: Option<u32>) -> ProcessOutcome {
        ProcessOutcome {
            process,
            pid: 1 + process,
            wait_status,
            started_ns: Some(5),
            ended_ns: None,
        }
    }

    pub(in crate::cli) fn outcome(guests: Vec<(GuestEnd, Vec<Option<u32>>)>) -> Outcome {
        let guests = guests
            .into_iter()
            .zip(0..)
            .map(|((end, statuses), guest)| GuestOutcome {
                guest,
                end,
                processes: statuses
                    .into_iter()
                    .zip(0..)
                    .map(|(status, number)| process(number, status))
                    .collect(),
                start: Default::default(),
                vcpus: Vec::new(),
                attaches: 0,
                free_frames: None,
                tables: None,
                window_ranges: 0,
            });
        Outcome {
            kvm: None,
            guests: guests.collect(),
            segments: Vec::new(),
            objects: Vec::new(),
            elapsed_ns: 7,
            first_failure: None,
            stopped: None,
        }
    }

    fn panic() -> GuestEnd {
        GuestEnd::Fault(GuestFault::Panic {
            vcpu: 1,
            message: "index out of bounds".into(),
            text: "index out of bounds\nrip 0x1\n".into(),
        })
    }

    #[test]
    fn success_is_zero_and_silent() {
        let outcome = outcome(vec![
            (GuestEnd::Done, vec![Some(0)]),
            (GuestEnd::Done, vec![Some(0)]),
        ]);
        assert_eq!((exit_status(&outcome), messages(&outcome, None).len()), (0, 0));
    }

    #[test]
    fn the_first_failure_in_time_is_the_status() {
        let mut outcome = outcome(vec![
            (GuestEnd::Done, vec![Some(3 << 8), Some(0)]),
            (GuestEnd::Done, vec![Some(11)]),
        ]);
        outcome.first_failure = Some((1, 0));
        assert_eq!(exit_status(&outcome), 139);
        assert_eq!(messages(&outcome, None), ["guest 1 process 0: killed by SIGSEGV"]);
        outcome.first_failure = Some((0, 0));
        assert_eq!(exit_status(&outcome), 3);
    }

    #[test]
    fn a_single_process_killed_is_left_to_the_shell_to_report() {
        let mut outcome = outcome(vec![(GuestEnd::Done, vec![Some(0x80 | 6)])]);
        outcome.first_failure = Some((0, 0));
        assert_eq!((exit_status(&outcome), messages(&outcome, None).len()), (134, 0));
    }

    #[test]
    fn a_guests_fault_is_125_and_shows_its_epitaph() {
        let mut outcome = outcome(vec![(GuestEnd::Done, vec![Some(256)]), (panic(), vec![None])]);
        outcome.first_failure = Some((0, 0));
        assert_eq!(exit_status(&outcome), 125);
        let expected =
            "guest 1: kernel panic on vCPU 1: index out of bounds\n  index out of bounds\n  rip 0x1";
        assert_eq!(messages(&outcome, None), [expected]);
    }

    #[test]
    fn a_host_error_is_125() {
        let outcome = outcome(vec![(
            GuestEnd::HostError("KVM_RUN of vCPU 0: EIO".into()),
            vec![None],
        )]);
        assert_eq!(exit_status(&outcome), 125);
        assert_eq!(messages(&outcome, None), ["guest 0: KVM_RUN of vCPU 0: EIO"]);
    }

    #[test]
    fn a_time_out_is_124_and_names_what_was_running() {
        let mut outcome = outcome(vec![
            (GuestEnd::Done, vec![Some(0)]),
            (GuestEnd::Stopped, vec![Some(0), None, None]),
        ]);
        outcome.stopped = Some(StopRequest::Timeout);
        assert_eq!(exit_status(&outcome), 124);
        let expected = "timed out after 2.5 s; still running: guest 1 process 1, guest 1 process 2";
        assert_eq!(messages(&outcome, Some(Duration::from_millis(2500))), [expected]);
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        let mut outcome = outcome(vec![(GuestEnd::Stopped, vec![None; 20])]);
        for (signal, status, name) in [(2, 130, "SIGINT"), (15, 143, "SIGTERM"), (1, 129, "SIGHUP")] {
            outcome.stopped = Some(StopRequest::Signal(signal));
            assert_eq!(exit_status(&outcome), status);
            let said = messages(&outcome, None);
            assert!(
                said[0].starts_with(&format!("ended by {name}")) && said[0].ends_with("and 12 more"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn a_signal_after_the_end_changes_nothing() {
        let mut outcome = outcome(vec![(GuestEnd::Done, vec![Some(512)])]);
        outcome.stopped = Some(StopRequest::Signal(2));
        outcome.first_failure = Some((0, 0));
        assert_eq!((exit_status(&outcome), messages(&outcome, None).len()), (2, 0));
    }
}
