//! What is in files: for each file its size, and its pages as a tree of frames.
//!
//! A file's pages are frames of RAM, so that read, write and every mapping reach the same bytes. The tree is built
//! like page tables: a node is a frame of 512 words, a word is the address of a page or of a node below, or 0 where
//! there is a hole. A tree of height 0 is one page; it grows upward when a page further on is wanted. A file that
//! travelled with the guest has an *image* behind its holes: pages that are shown as they are, and never change; a
//! page of the image that is written to becomes a page of the file's own first.
//!
//! Invariants:
//! * A file's own page is counted ([`super::frames`]): once for the file and once for each leaf that maps it, so it
//!   outlives whichever goes first.
//! * No page lies at or beyond the end of the file, and what the last page has beyond the end is zero, unless a
//!   program has written there through a mapping.
//! * All files together hold at most half of the frames, as on a tmpfs of default size (tmpfs(5)).
//!
//! Whose name and rights a file has is the business of [`crate::fs`]; its inodes and the contents here have the
//! same numbers.

use super::{Memory, World};
use crate::arch::direct;
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use abi::{Errno, PAGE_SIZE};
use paging::{GuestPhys, TableMemory, TableMemoryMut};

/// Most files, directories and so on at one time.
pub const MOST_FILES: usize = 4096;
/// Frames that a page more takes at most, nodes included; and a few.
const MOST_AT_ONCE: u64 = 16;
/// Words of a node.
const NODE: u64 = 512;
/// Linux's MAX_LFS_FILESIZE: the largest offset is an `i64`.
pub const MOST_BYTES: u64 = i64::MAX as u64;

/// The number of a file: an index into the table of contents, and of inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u16);

/// What is in one file.
#[derive(Clone, Copy)]
struct Content {
    /// Its length in bytes.
    size: u64,
    /// The top of the tree: the address of a node, or of the one page; 0 if there is none.
    root: u64,
    /// Levels of nodes.
    height: u8,
    /// Frames it holds, nodes included.
    frames: u32,
    /// Where its image lies; pages below `image_len` that are not in the tree are there.
    image: GuestPhys,
    /// Bytes of the image that are still the file's.
    image_len: u64,
    /// The serial number of the object this is, or 0: then pages are the host's, and there are none here.
    object: u64,
    /// The first of its ranges in the windows ([`super::object`]); 0 if there is none.
    ranges: u16,
}

impl Content {
    const EMPTY: Content = Content {
        size: 0,
        root: 0,
        height: 0,
        frames: 0,
        image: GuestPhys::new(0),
        image_len: 0,
        object: 0,
        ranges: 0,
    };
}

#[cfg(target_os = "none")]
static ROOM: Reserve<[Content; MOST_FILES]> = Reserve::new([Content::EMPTY; MOST_FILES]);

/// What is in all files.
pub struct Contents {
    files: &'static mut [Content],
    /// Frames they hold together.
    held: u64,
}

impl Contents {
    /// No files, until [`Contents::init`].
    pub(super) const fn empty() -> Contents {
        Contents {
            files: &mut [],
            held: 0,
        }
    }

    /// Takes the room. Once.
    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let files = ROOM.take().expect("a kernel has one table of files");
        #[cfg(not(target_os = "none"))]
        let files = Box::leak(vec![Content::EMPTY; MOST_FILES].into_boxed_slice());
        self.files = files;
    }

    fn of(&self, file: FileId) -> &Content {
        &self.files[usize::from(file.0)]
    }

    fn of_mut(&mut self, file: FileId) -> &mut Content {
        &mut self.files[usize::from(file.0)]
    }

    /// Its length in bytes.
    pub fn size(&self, file: FileId) -> u64 {
        self.of(file).size
    }

    /// The serial number of the object that `file` is, if it is one.
    pub fn object(&self, file: FileId) -> Option<u64> {
        let serial = self.of(file).object;
        (serial != 0).then_some(serial)
    }

    /// `file` is object `serial`, of so many bytes, of which so many are in memory.
    pub fn be_object(&mut self, file: FileId, serial: u64, size: u64, resident: u64) {
        *self.of_mut(file) = Content {
            object: serial,
            size,
            frames: u32::try_from(resident / PAGE_SIZE).unwrap_or(u32::MAX),
            ranges: self.of(file).ranges,
            ..Content::EMPTY
        };
    }

    /// The first of its ranges.
    pub(super) fn ranges(&self, file: FileId) -> u16 {
        self.of(file).ranges
    }

    /// Its first range is this one from now on.
    pub(super) fn set_ranges(&mut self, file: FileId, first: u16) {
        self.of_mut(file).ranges = first;
    }

    /// The broker has said how long `file`, an object, is.
    pub fn set_size(&mut self, file: FileId, size: u64) {
        self.of_mut(file).size = size;
    }

    /// Frames it holds, nodes of the tree included.
    pub fn frames(&self, file: FileId) -> u64 {
        self.of(file).frames.into()
    }

    /// Frames all files hold.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Makes `file` one that shows the `len` bytes of RAM from `image` on, which are page-aligned, followed by
    /// zeros to the page's end, and never change.
    pub fn show(&mut self, file: FileId, image: GuestPhys, len: u64) {
        *self.of_mut(file) = Content {
            size: len,
            image,
            image_len: len,
            ..Content::EMPTY
        };
    }

    /// Whether part of it may be shown from an image.
    pub fn has_image(&self, file: FileId) -> bool {
        self.of(file).image_len > 0
    }

    /// The image that is all of `file`: it has not been written to.
    pub fn whole_image(&self, file: FileId) -> Option<(GuestPhys, u64)> {
        let content = self.of(file);
        let whole = content.root == 0 && content.image_len == content.size && content.size > 0;
        whole.then_some((content.image, content.size))
    }
}

/// How many pages a tree of `height` has room for.
const fn room(height: u8) -> u64 {
    // A height of 6 is more than any offset needs.
    NODE.pow(height as u32)
}

/// A page number's index in a node of the given level; nodes of level 1 hold pages.
const fn index_at(page: u64, level: u8) -> usize {
    (page >> (9 * (level - 1))) as usize & (NODE as usize - 1)
}

/// Which pages `bytes` bytes take.
const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

/// What is at a place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Nothing yet: zeros.
    Hole,
    /// A page of the file's own.
    Own(GuestPhys),
    /// A page of the image: not to be written to.
    Image(GuestPhys),
}

impl Memory {
    /// Page number `page` of `file`.
    pub fn file_page(&self, file: FileId, page: u64) -> Page {
        let content = self.contents.of(file);
        if content.root != 0 && page < room(content.height) {
            let mut at = content.root;
            for level in (1..=content.height).rev() {
                if at == 0 {
                    break;
                }
                at = self.frames.load(GuestPhys::new(at), index_at(page, level));
            }
            if at != 0 {
                return Page::Own(GuestPhys::new(at));
            }
        }
        if page < pages(content.image_len) {
            Page::Image(content.image.add(page * PAGE_SIZE))
        } else {
            Page::Hole
        }
    }

    /// Page number `page` of `file`, as one of its own. With `overwritten` the caller overwrites all of it, and
    /// its bytes may be anything until then. If the page was one of the image, mappings of that are the caller's
    /// to deal with.
    ///
    /// # Errors
    /// ENOSPC when files hold as many frames as they may, or there are no more.
    pub fn own_page(
        &mut self,
        world: &mut impl World,
        file: FileId,
        page: u64,
        overwritten: bool,
    ) -> Result<GuestPhys, Errno> {
        let image = match self.file_page(file, page) {
            Page::Own(own) => return Ok(own),
            Page::Image(image) => Some(image),
            Page::Hole => None,
        };
        // With what is checked here nothing below can fail.
        if self.contents.held + MOST_AT_ONCE > self.frames.total() / 2
            || self.frames.free_frames() < MOST_AT_ONCE
        {
            return Err(Errno::ENOSPC);
        }
        let frame = self.frames.take(1).ok_or(Errno::ENOSPC)?;
        self.count_frame(file);
        self.enter(file, page, frame.start);
        match image {
            Some(image) if !overwritten => world.copy(frame.start, image, PAGE_SIZE),
            None if !overwritten && frame.dirty => world.zero(&[(frame.start, PAGE_SIZE)]),
            _ => {}
        }
        self.frames.count_first(frame.start);
        Ok(frame.start)
    }

    fn count_frame(&mut self, file: FileId) {
        self.contents.held += 1;
        self.contents.of_mut(file).frames += 1;
    }

    /// A node that counts as the file's. The caller knows that there are frames.
    fn node_for_file(&mut self, file: FileId) -> GuestPhys {
        self.count_frame(file);
        match self.frames.allocate() {
            Some(node) => node,
            None => unreachable!("there were {MOST_AT_ONCE} frames for a page and its nodes"),
        }
    }

    /// Puts a page into the tree, where there is none.
    fn enter(&mut self, file: FileId, page: u64, frame: GuestPhys) {
        let Content {
            mut root, mut height, ..
        } = *self.contents.of(file);
        while page >= room(height) {
            if root != 0 {
                let top = self.node_for_file(file);
                self.frames.store(top, 0, root);
                root = top.get();
            }
            height += 1;
        }
        if height == 0 {
            root = frame.get();
        } else if root == 0 {
            root = self.node_for_file(file).get();
        }
        let content = self.contents.of_mut(file);
        (content.root, content.height) = (root, height);
        if height == 0 {
            return;
        }
        let mut node = GuestPhys::new(root);
        for level in (2..=height).rev() {
            let index = index_at(page, level);
            let mut below = self.frames.load(node, index);
            if below == 0 {
                below = self.node_for_file(file).get();
                self.frames.store(node, index, below);
            }
            node = GuestPhys::new(below);
        }
        self.frames.store(node, index_at(page, 1), frame.get());
    }

    /// Makes all pages of the image of `file` its own. Mappings of the image are the caller's to deal with.
    ///
    /// # Errors
    /// ENOSPC; some may be its own then.
    pub fn own_image(&mut self, world: &mut impl World, file: FileId) -> Result<(), Errno> {
        let Content { image_len, .. } = *self.contents.of(file);
        for page in 0..pages(image_len) {
            self.own_page(world, file, page, false)?;
        }
        self.contents.of_mut(file).image_len = 0;
        Ok(())
    }

    /// Makes `file` at least `size` bytes long; what is new reads as zeros.
    pub fn extend_file(&mut self, file: FileId, size: u64) {
        let content = self.contents.of_mut(file);
        content.size = content.size.max(size);
    }

    /// Makes `file` `size` bytes long. Pages that fall away must be in no mapping any more.
    ///
    /// # Errors
    /// ENOSPC if the new last page is one of an image and can't be copied to be cut; then nothing has changed.
    pub fn resize_file(&mut self, world: &mut impl World, file: FileId, size: u64) -> Result<(), Errno> {
        let Content {
            size: old, image_len, ..
        } = *self.contents.of(file);
        if size < old {
            let into = size % PAGE_SIZE;
            if into != 0 {
                let last = match self.file_page(file, size / PAGE_SIZE) {
                    Page::Own(page) => Some(page),
                    Page::Image(_) => Some(self.own_page(world, file, size / PAGE_SIZE, false)?),
                    Page::Hole => None,
                };
                if let Some(page) = last {
                    world.zero(&[(page.add(into), PAGE_SIZE - into)]);
                }
            }
            self.contents.of_mut(file).image_len = image_len.min(size);
            self.cut_file(file, pages(size), pages(old));
        }
        self.contents.of_mut(file).size = size;
        Ok(())
    }

    /// Writes the kernel's own `bytes` at `offset` into `file`.
    ///
    /// # Errors
    /// ENOSPC; what came before is there.
    pub fn put_in_file(
        &mut self,
        world: &mut impl World,
        file: FileId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let into = at % PAGE_SIZE;
            let (piece, more) = rest.split_at(rest.len().min((PAGE_SIZE - into) as usize));
            let page = self.own_page(world, file, at / PAGE_SIZE, piece.len() as u64 == PAGE_SIZE)?;
            direct::write(page.add(into), piece);
            at += piece.len() as u64;
            self.extend_file(file, at);
            rest = more;
        }
        Ok(())
    }

    /// Reads bytes of `file` from `offset` on into `to`: how many, fewer than asked for at the end.
    pub fn get_from_file(&self, file: FileId, offset: u64, to: &mut [u8]) -> usize {
        let left = self.contents.size(file).saturating_sub(offset);
        let len = (to.len() as u64).min(left) as usize;
        let mut at = offset;
        let mut rest = &mut to[..len];
        while !rest.is_empty() {
            let into = at % PAGE_SIZE;
            let take = rest.len().min((PAGE_SIZE - into) as usize);
            let (piece, more) = rest.split_at_mut(take);
            match self.file_page(file, at / PAGE_SIZE) {
                Page::Own(page) | Page::Image(page) => direct::read(page.add(into), piece),
                Page::Hole => piece.fill(0),
            }
            at += take as u64;
            rest = more;
        }
        len
    }

    /// Makes `file` empty, for its number is to be another's. No area may show it.
    pub fn empty_file(&mut self, file: FileId) {
        let end = pages(self.contents.size(file));
        self.cut_file(file, 0, end);
        *self.contents.of_mut(file) = Content::EMPTY;
    }

    /// Takes the pages from `from` on out of the tree, which has none from `end` on.
    fn cut_file(&mut self, file: FileId, from: u64, end: u64) {
        let Content { root, height, .. } = *self.contents.of(file);
        if root == 0 {
            return;
        }
        let end = end.min(room(height));
        if from >= end {
            return;
        }
        let mut gone = 0;
        if !self.cut_node(GuestPhys::new(root), height, from, end, &mut gone) {
            let content = self.contents.of_mut(file);
            (content.root, content.height) = (0, 0);
        }
        self.contents.held -= u64::from(gone);
        self.contents.of_mut(file).frames -= gone;
        self.frames.release();
    }

    /// As [`Memory::cut_file`], below one node, or page at height 0, with pages numbered from its first. Whether
    /// anything is left; if not, the node has been retired.
    fn cut_node(&mut self, node: GuestPhys, height: u8, from: u64, end: u64, gone: &mut u32) -> bool {
        if height == 0 {
            if from > 0 {
                return true;
            }
            self.frames.drop_counted(node);
            *gone += 1;
            return false;
        }
        let each = room(height - 1);
        let mut left = (0..from / each).any(|index| self.frames.load(node, index as usize) != 0);
        for index in from / each..end.div_ceil(each).min(NODE) {
            let below = self.frames.load(node, index as usize);
            if below == 0 {
                continue;
            }
            let first = index * each;
            let (from, end) = (from.saturating_sub(first), (end - first).min(each));
            if !self.cut_node(GuestPhys::new(below), height - 1, from, end, gone) {
                self.frames.store(node, index as usize, 0);
            } else {
                left = true;
            }
        }
        if !left {
            self.frames.retire(node);
            *gone += 1;
        }
        left
    }
}
