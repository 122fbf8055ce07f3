//! Arguments and environment of the processes, as the kernel expects them.

use super::Plan;
use crate::error::VmmError;

/// One process's strings.
pub(super) struct Strings {
    /// NUL-terminated, one after the other: arguments, then environment.
    pub(super) bytes: Vec<u8>,
    /// How many are arguments.
    pub(super) argc: u32,
    /// How many are environment.
    pub(super) envc: u32,
}

/// The strings of every process, with the variables that say who it is.
pub(super) fn collect(plan: &Plan<'_>) -> Result<Vec<Strings>, VmmError> {
    let count = plan.config.processes.len();
    let mut all = Vec::new();
    for (index, process) in plan.config.processes.iter().enumerate() {
        let own = [
            ("TOMBOLO_GUEST", plan.guest as usize),
            ("TOMBOLO_GUESTS", plan.guests as usize),
            ("TOMBOLO_PROC", index),
            ("TOMBOLO_PROCS", count),
        ];
        let replaced = |text: &Vec<u8>| {
            let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
            own.iter().any(|(known, _)| known.as_bytes() == name)
        };
        let mut env: Vec<Vec<u8>> = process
            .env
            .iter()
            .filter(|text| !replaced(text))
            .cloned()
            .collect();
        env.extend(
            own.iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes()),
        );
        let mut bytes = Vec::new();
        for text in process.args.iter().chain(&env) {
            if text.contains(&0) {
                let text = String::from_utf8_lossy(text).into_owned();
                return Err(VmmError::Config(format!(
                    "guest {}, process {index}: the argument or variable {text:?} holds a NUL",
                    plan.guest
                )));
            }
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        all.push(Strings {
            bytes,
            argc: process.args.len() as u32,
            envc: env.len() as u32,
        });
    }
    Ok(all)
}
