//! Steps during which something is scarce, so that operations fail where they seldom do.

use super::super::Memory;
use super::super::frames::FrameRun;
use super::FakeWorld;

/// What is scarce during a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scarce {
    Nothing,
    /// So many frames are left.
    Frames(u64),
    /// So many areas more can be made.
    Areas(usize),
    /// The broker lets attaches become so many more.
    Broker(u32),
}

/// What the kernel is kept from meanwhile.
pub(super) struct Withheld {
    frames: Vec<FrameRun>,
    /// How many areas it seems to have left, and how many it has.
    areas: Option<(usize, usize)>,
}

impl Scarce {
    /// From here on it is so.
    pub(super) fn begin(self, memory: &mut Memory, world: &mut FakeWorld) -> Withheld {
        let mut withheld = Withheld {
            frames: vec![],
            areas: None,
        };
        let frames = &mut memory.frames;
        match self {
            Scarce::Nothing => {}
            Scarce::Frames(leave) => {
                while let Some(most) = frames.free_frames().checked_sub(leave).filter(|&most| most > 0) {
                    withheld.frames.push(frames.take(most).unwrap());
                }
            }
            Scarce::Areas(left) => withheld.areas = Some((left, memory.areas.pretend_available(left))),
            Scarce::Broker(left) => world.refuses_after = Some(left),
        }
        withheld
    }
}

impl Withheld {
    /// There is plenty again.
    pub(super) fn end(self, memory: &mut Memory, world: &mut FakeWorld) {
        for run in self.frames {
            memory.frames.give_back(FrameRun { dirty: true, ..run });
        }
        if let Some((left, available)) = self.areas {
            let used = left as isize - memory.areas.available() as isize;
            memory
                .areas
                .pretend_available((available as isize - used) as usize);
        }
        world.refuses_after = None;
    }
}
