//! Copies as processes of the host. The program's file is a sealed memfd, executed by its name in /proc: nothing is
//! written to a disk, and nothing is left behind.

use super::{End, Job, Lab, Line, Lines, Pages, lock};
use anyhow::{Context, Result, anyhow};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{JoinHandle, spawn};
use tombolo::broker::large_file;

/// A program file that nobody can change.
pub(super) struct Image(File);

impl Image {
    /// # Errors
    /// The host's.
    pub(super) fn new(bytes: &[u8]) -> io::Result<Image> {
        let fd = memfd_create("tombolo-program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        fcntl_add_seals(
            &file,
            SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        Ok(Image(file))
    }

    fn command(&self) -> Command {
        // The kernel opens the file before it closes descriptors for the new program.
        Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl Lab {
    /// # Errors
    /// The host's.
    pub(super) fn start_natively(&self, job: &Job, sender: Sender<Line>) -> Result<End<'_>> {
        let mut readers = Vec::new();
        lock(&self.running).native.clear();
        for (copy, arguments) in job.copies.iter().enumerate() {
            let stdin = match job.pages {
                Pages::Large { bytes } => large_file(bytes)
                    .context("this host has no large pages for segments")?
                    .into(),
                Pages::Default | Pages::Small => Stdio::null(),
            };
            let mut child = self
                .image
                .command()
                .args(arguments)
                .env_clear()
                .env("TOMBOLO_GUEST", copy.to_string())
                .env("TOMBOLO_GUESTS", job.copies.len().to_string())
                .env("TOMBOLO_PROC", "0")
                .env("TOMBOLO_PROCS", "1")
                .stdin(stdin)
                .stdout(Stdio::piped())
                .spawn()
                .context("the program as a process")?;
            if let Some(stdout) = child.stdout.take() {
                readers.push(read(stdout, Lines::new(copy, sender.clone())));
            }
            let mut running = lock(&self.running);
            running.native.push(child.id());
            running.children.push(child);
            if let Some(signal) = running.signal {
                running.stop(signal);
            }
        }
        Ok(Box::new(move || {
            for reader in readers {
                let _ = reader.join();
            }
            let children = std::mem::take(&mut lock(&self.running).children);
            let mut result = Ok(None);
            for (copy, mut child) in children.into_iter().enumerate() {
                let status = child.wait().context("waiting for a process")?;
                if !status.success() && result.is_ok() {
                    result = Err(anyhow!("native copy {copy}: {status}"));
                }
            }
            result
        }))
    }
}

impl Lab {
    /// Runs one native copy quietly, to tidy up what others that were killed have left: even when a signal has come.
    pub(in crate::cli) fn tidy(&self, arguments: &[String]) {
        let done = self
            .image
            .command()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        if let Err(error) = done {
            tracing::warn!("nothing was tidied up: {error}");
        }
    }
}

fn read(mut stdout: ChildStdout, mut lines: Lines) -> JoinHandle<()> {
    spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            lines.take(&buffer[..read]);
        }
    })
}
