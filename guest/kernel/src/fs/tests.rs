//! Tests of the tree, on the host: random operations against a model that knows names only, and that everything goes
//! back.

use super::inode::{Kind, ROOT};
use super::names::{HASH_START, hash, number_of};
use super::permission::Who;
use super::tree::{Entry, New, RENAME_EXCHANGE, RENAME_NOREPLACE, Removed};
use super::{FileId, Files};
use crate::mm::Memory;
use crate::mm::contents::Page;
use crate::mm::tests::{FakeWorld, memory};
use crate::process::Credentials;
use abi::Errno;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NUMBER: u64 = 42;

/// A tree without files that travel with the guest.
struct Tree {
    files: Files,
    memory: Memory,
    world: FakeWorld,
    free: u64,
}

impl Tree {
    fn new() -> Tree {
        let memory = memory();
        let mut files = Files::empty();
        files.init();
        let mut tree = Tree {
            free: memory.frames.free_frames(),
            files,
            memory,
            world: FakeWorld::default(),
        };
        assert_eq!(
            tree.files.mount(&mut tree.memory, NUMBER, std::iter::empty(), 1),
            0
        );
        tree
    }

    fn make(&mut self, directory: FileId, name: &[u8], kind: Kind) -> Result<FileId, Errno> {
        let new = New {
            kind,
            mode: 0o755,
            now: 2,
        };
        let who = Who::new(&Credentials::ROOT);
        self.files
            .make(&mut self.memory, &who, entry(directory, name), new)
    }

    fn unlink(&mut self, directory: FileId, name: &[u8], what: Removed) -> Result<(), Errno> {
        let who = Who::new(&Credentials::ROOT);
        self.files
            .unlink(&mut self.memory, &who, entry(directory, name), what, 3)
    }

    fn rename(&mut self, from: (FileId, &[u8]), to: (FileId, &[u8]), flags: u64) -> Result<(), Errno> {
        let who = Who::new(&Credentials::ROOT);
        let both = (entry(from.0, from.1), entry(to.0, to.1));
        self.files.rename(&mut self.memory, &who, both, flags, 4)
    }

    /// Takes the tree down; nothing may be left.
    fn end(mut self) {
        self.files.unmount(&mut self.memory);
        assert_eq!(self.files.in_use(), 0);
        assert_eq!(self.memory.contents.held(), 0);
        assert_eq!(self.memory.frames.free_frames(), self.free);
    }

    /// The names in a directory, in order.
    fn list(&self, directory: FileId) -> Vec<Vec<u8>> {
        let mut names = vec![];
        let mut at = self.files.inodes.get(directory).directory.first;
        while at != 0 {
            let mut text = vec![0; self.files.names.len(at)];
            self.files.names.copy(at, &mut text);
            names.push(text);
            at = self.files.names.get(at).next;
        }
        names
    }
}

fn entry(directory: FileId, name: &[u8]) -> Entry<'_> {
    Entry {
        directory,
        name,
        slash: false,
    }
}

#[test]
fn numbers_follow_from_paths_and_are_never_given_twice() {
    let mut tree = Tree::new();
    let tmp = tree.files.lookup(ROOT, b"tmp").unwrap();
    let number = |tree: &Tree, file| tree.files.inodes.get(file).number;
    assert_eq!((number(&tree, ROOT), number(&tree, tmp)), (NUMBER, NUMBER + 1));
    let first = tree.make(tmp, b"key", Kind::Regular).unwrap();
    assert_eq!(number(&tree, first), number_of(hash(HASH_START, b"/tmp/key")));
    // As when a file is replaced by a new one of its name.
    tree.rename((tmp, b"key"), (tmp, b"old"), 0).unwrap();
    let second = tree.make(tmp, b"key", Kind::Regular).unwrap();
    assert_eq!(number(&tree, second), number(&tree, first) + 1);
    tree.unlink(tmp, b"old", Removed::Other).unwrap();
    tree.unlink(tmp, b"key", Removed::Other).unwrap();
    let third = tree.make(tmp, b"key", Kind::Regular).unwrap();
    assert_eq!(number(&tree, third), number_of(hash(HASH_START, b"/tmp/key")));
    tree.end();
}

#[test]
fn what_is_removed_in_use_keeps_the_directories_it_was_in() {
    let mut tree = Tree::new();
    let before = tree.files.in_use();
    let mut directory = tree.files.lookup(ROOT, b"tmp").unwrap();
    let mut way = vec![];
    for _ in 0..500 {
        way.push(directory);
        directory = tree.make(directory, b"d", Kind::Directory).unwrap();
    }
    let file = tree.make(directory, b"f", Kind::Regular).unwrap();
    tree.files.hold(file);
    tree.unlink(directory, b"f", Removed::Other).unwrap();
    for &parent in way.iter().rev() {
        tree.unlink(parent, b"d", Removed::Directory).unwrap();
    }
    // Slots that others take are none of theirs.
    for number in 0..100 {
        let name = [b'n', number];
        tree.make(way[0], &name, Kind::Directory).unwrap();
    }
    let mut room = [0; 2000];
    assert_eq!(
        tree.files.path(file, &mut room),
        [b"/tmp".as_slice(), &b"/d".repeat(500), b"/f"].concat()
    );
    for number in 0..100 {
        tree.unlink(way[0], &[b'n', number], Removed::Directory).unwrap();
    }
    assert!(tree.files.in_use() > before + 1000);
    // All of them go at once, and without a stack as deep as they were.
    tree.files.release(&mut tree.memory, file);
    assert_eq!(tree.files.in_use(), before);
    tree.end();
}

#[test]
fn what_is_replaced_in_use_keeps_its_name() {
    let mut tree = Tree::new();
    let tmp = tree.files.lookup(ROOT, b"tmp").unwrap();
    let before = tree.files.in_use();
    let long = [b'l'; 255];
    let old = tree.make(tmp, &long, Kind::Regular).unwrap();
    tree.make(tmp, b"new", Kind::Regular).unwrap();
    tree.files.hold(old);
    tree.rename((tmp, b"new"), (tmp, &long), 0).unwrap();
    tree.unlink(tmp, &long, Removed::Other).unwrap();
    let mut room = [0; 300];
    assert_eq!(tree.files.path(old, &mut room), [b"/tmp/", &long[..]].concat());
    tree.files.release(&mut tree.memory, old);
    assert_eq!(tree.files.in_use(), before);
    tree.end();
}

#[test]
fn names_that_are_nearly_the_same_give_numbers_that_are_not() {
    let mut tree = Tree::new();
    let tmp = tree.files.lookup(ROOT, b"tmp").unwrap();
    let names: Vec<_> = (0..1000).map(|n| format!("key{n}")).collect();
    let mut low = std::collections::BTreeSet::new();
    for name in names.iter().rev() {
        let file = tree.make(tmp, name.as_bytes(), Kind::Regular).unwrap();
        let number = tree.files.inodes.get(file).number;
        let path = format!("/tmp/{name}");
        assert_eq!(number, number_of(hash(HASH_START, path.as_bytes())), "{path}");
        low.insert(number as u16);
    }
    // As many as chance has it, of 65536: 7 or 8 pairs.
    assert!(low.len() > 980, "{}", low.len());
    for name in &names {
        tree.unlink(tmp, name.as_bytes(), Removed::Other).unwrap();
    }
    tree.end();
}

#[test]
fn long_names_are_kept_whole_and_told_apart() {
    let mut tree = Tree::new();
    for len in [1, 42, 43, 44, 86, 87, 255] {
        for last in *b"ab" {
            let mut name = vec![b'x'; len];
            name[len - 1] = last;
            tree.make(ROOT, &name, Kind::Regular).unwrap();
            assert_eq!(tree.make(ROOT, &name, Kind::Regular), Err(Errno::EEXIST));
            assert_eq!(tree.list(ROOT).last(), Some(&name));
        }
    }
    tree.end();
}

#[test]
fn a_file_lives_as_long_as_it_is_used() {
    let mut tree = Tree::new();
    let file = tree.make(ROOT, b"file", Kind::Regular).unwrap();
    tree.memory
        .put_in_file(&mut tree.world, file, 5000, b"text")
        .unwrap();
    tree.files.hold(file);
    tree.unlink(ROOT, b"file", Removed::Other).unwrap();
    let mut text = [1; 6];
    assert_eq!(tree.memory.get_from_file(file, 4998, &mut text), 6);
    assert_eq!(&text, b"\0\0text");
    assert_eq!(tree.files.path(file, &mut [0; 20]), b"/file");
    tree.files.release(&mut tree.memory, file);
    assert_eq!(tree.memory.frames.free_frames(), tree.free);
    tree.end();
}

#[test]
fn tables_that_are_full_are_told_and_lose_nothing() {
    let mut tree = Tree::new();
    let mut made = 0u32;
    let why = loop {
        match tree.make(ROOT, format!("file-{made}").as_bytes(), Kind::Regular) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(why, Errno::ENOSPC);
    assert!(made > 4000, "{made}");
    for number in 0..made {
        tree.unlink(ROOT, format!("file-{number}").as_bytes(), Removed::Other)
            .unwrap();
    }
    // Names run out before inodes when they are long.
    let mut long = 0u32;
    while tree
        .make(ROOT, format!("{long:0250}").as_bytes(), Kind::Regular)
        .is_ok()
    {
        long += 1;
    }
    assert!(long > 1000 && long < made, "{long}");
    tree.end();
}

#[test]
fn pages_are_limited_to_half_of_the_frames() {
    let mut tree = Tree::new();
    let file = tree.make(ROOT, b"file", Kind::Regular).unwrap();
    let half = tree.memory.frames.total() / 2;
    let mut pages = 0;
    let why = loop {
        match tree.memory.own_page(&mut tree.world, file, pages, false) {
            Ok(_) => pages += 1,
            Err(error) => break error,
        }
        tree.memory.extend_file(file, pages * 4096);
    };
    assert_eq!(why, Errno::ENOSPC);
    assert!(pages > half - 64 && tree.memory.contents.held() <= half);
    tree.memory
        .resize_file(&mut tree.world, file, 4096 * 3 + 5)
        .unwrap();
    // Four pages and the two nodes above them: a tree does not become lower.
    assert_eq!(tree.memory.contents.frames(file), 6);
    assert_eq!(tree.memory.file_page(file, 4), Page::Hole);
    tree.end();
}

#[test]
fn pages_far_apart_take_few_nodes_and_all_go() {
    let mut tree = Tree::new();
    let file = tree.make(ROOT, b"file", Kind::Regular).unwrap();
    let places = [0, 1, 511, 512, 1 << 20, (1 << 51) - 2];
    for (byte, page) in places.into_iter().enumerate() {
        tree.memory
            .put_in_file(&mut tree.world, file, page * 4096 + 7, &[byte as u8 + 1])
            .unwrap();
    }
    for (byte, page) in places.into_iter().enumerate() {
        let mut got = [0; 3];
        tree.memory.get_from_file(file, page * 4096 + 6, &mut got);
        assert_eq!(got[..2], [0, byte as u8 + 1]);
    }
    assert!(tree.memory.contents.frames(file) < 30);
    for (left, size) in [(5, (1u64 << 51) * 4096 - 8192), (3, 512 * 4096), (1, 10), (0, 0)] {
        tree.memory.resize_file(&mut tree.world, file, size).unwrap();
        let there = places
            .iter()
            .filter(|page| tree.memory.file_page(file, **page) != Page::Hole);
        assert_eq!(there.count(), left);
    }
    assert_eq!(tree.memory.contents.frames(file), 0);
    tree.end();
}

/// What the model knows: for each thing its kind and, for a directory, what is in it; for others how many names.
#[derive(Clone, Debug)]
enum Known {
    Directory(BTreeMap<Vec<u8>, usize>),
    File(usize),
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Make(u8, u8),
    Mkdir(u8, u8),
    Link(u8, u8, u8),
    Unlink(u8, u8),
    Rmdir(u8, u8),
    Rename(u8, u8, u8, u8, u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let (d, n) = (0..8u8, 0..5u8);
    prop_oneof![
        (d.clone(), n.clone()).prop_map(|(d, n)| Operation::Make(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Operation::Mkdir(d, n)),
        (0..20u8, d.clone(), n.clone()).prop_map(|(f, d, n)| Operation::Link(f, d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Operation::Unlink(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Operation::Rmdir(d, n)),
        (
            d.clone(),
            n.clone(),
            d,
            n,
            prop_oneof![Just(0), Just(RENAME_NOREPLACE), Just(RENAME_EXCHANGE)]
        )
            .prop_map(|(a, b, c, d, flags)| Operation::Rename(a, b, c, d, flags)),
    ]
}

/// The model: things by number, 0 is the root; what they are in the tree; and directories that are somewhere.
struct Model {
    known: Vec<Known>,
    ids: Vec<FileId>,
}

impl Model {
    fn names(&self, directory: usize) -> &BTreeMap<Vec<u8>, usize> {
        match &self.known[directory] {
            Known::Directory(names) => names,
            Known::File(_) => panic!("no directory"),
        }
    }

    fn names_mut(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.known[directory] {
            Known::Directory(names) => names,
            Known::File(_) => panic!("no directory"),
        }
    }

    fn is_directory(&self, thing: usize) -> bool {
        matches!(self.known[thing], Known::Directory(_))
    }

    /// Directories that can be reached.
    fn directories(&self) -> Vec<usize> {
        let mut all = vec![0];
        let mut at = 0;
        while at < all.len() {
            let below = self.names(all[at]).values().copied();
            all.extend(
                below
                    .filter(|thing| self.is_directory(*thing))
                    .collect::<Vec<_>>(),
            );
            at += 1;
        }
        all
    }

    fn contains(&self, outer: usize, inner: usize) -> bool {
        outer == inner
            || self.is_directory(outer)
                && self
                    .names(outer)
                    .values()
                    .any(|thing| self.contains(*thing, inner))
    }

    fn count(&mut self, thing: usize, by: isize) {
        if let Known::File(names) = &mut self.known[thing] {
            *names = names.strict_add_signed(by);
        }
    }
}

fn name(number: u8) -> Vec<u8> {
    // Some need several records.
    vec![b'a' + number; 1 + usize::from(number) * 40]
}

fn apply(tree: &mut Tree, model: &mut Model, operation: Operation) {
    let directories = model.directories();
    let pick = |number: u8| directories[usize::from(number) % directories.len()];
    match operation {
        Operation::Make(d, n) | Operation::Mkdir(d, n) => {
            let (d, n) = (pick(d), name(n));
            let directory = matches!(operation, Operation::Mkdir(..));
            let kind = if directory { Kind::Directory } else { Kind::Regular };
            let made = tree.make(model.ids[d], &n, kind);
            if model.names(d).contains_key(&n) {
                assert_eq!(made, Err(Errno::EEXIST));
                return;
            }
            model.ids.push(made.unwrap());
            let new = if directory {
                Known::Directory(BTreeMap::new())
            } else {
                Known::File(1)
            };
            model.known.push(new);
            let thing = model.known.len() - 1;
            model.names_mut(d).insert(n, thing);
        }
        Operation::Link(f, d, n) => {
            let files: Vec<usize> = (0..model.known.len())
                .filter(|thing| matches!(model.known[*thing], Known::File(names) if names > 0))
                .collect();
            let Some(&file) = files.get(usize::from(f)) else {
                return;
            };
            let (d, n) = (pick(d), name(n));
            let who = Who::new(&Credentials::ROOT);
            let linked = tree.files.link(&who, model.ids[file], entry(model.ids[d], &n), 5);
            if model.names(d).contains_key(&n) {
                assert_eq!(linked, Err(Errno::EEXIST));
            } else {
                assert_eq!(linked, Ok(()));
                model.names_mut(d).insert(n, file);
                model.count(file, 1);
            }
        }
        Operation::Unlink(d, n) | Operation::Rmdir(d, n) => {
            let (d, n) = (pick(d), name(n));
            let rmdir = matches!(operation, Operation::Rmdir(..));
            let what = if rmdir { Removed::Directory } else { Removed::Other };
            let expected = match model.names(d).get(&n) {
                None => Err(Errno::ENOENT),
                Some(thing) if model.is_directory(*thing) && !rmdir => Err(Errno::EISDIR),
                Some(thing) if !model.is_directory(*thing) && rmdir => Err(Errno::ENOTDIR),
                Some(thing) if rmdir && !model.names(*thing).is_empty() => Err(Errno::ENOTEMPTY),
                Some(_) => Ok(()),
            };
            assert_eq!(tree.unlink(model.ids[d], &n, what), expected);
            if expected.is_ok()
                && let Some(thing) = model.names_mut(d).remove(&n)
            {
                model.count(thing, -1);
            }
        }
        Operation::Rename(from, old, to, new, flags) => {
            let (from, old, to, new) = (pick(from), name(old), pick(to), name(new));
            let source = model.names(from).get(&old).copied();
            let target = model.names(to).get(&new).copied();
            let exchange = flags == RENAME_EXCHANGE;
            let within =
                |outer: Option<usize>, inner| outer.is_some_and(|outer| model.contains(outer, inner));
            let (source_is, target_is) = (
                source.is_some_and(|thing| model.is_directory(thing)),
                target.is_some_and(|thing| model.is_directory(thing)),
            );
            let full =
                target.is_some_and(|thing| model.is_directory(thing) && !model.names(thing).is_empty());
            let expected = match (source, target) {
                (None, _) => Err(Errno::ENOENT),
                (_, Some(_)) if flags == RENAME_NOREPLACE => Err(Errno::EEXIST),
                (_, None) if exchange => Err(Errno::ENOENT),
                _ if within(source, to) => Err(Errno::EINVAL),
                _ if within(target, from) && target_is => {
                    Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY })
                }
                (source, target) if source == target => Ok(false),
                (_, Some(_)) if !exchange && source_is && !target_is => Err(Errno::ENOTDIR),
                (_, Some(_)) if !exchange && !source_is && target_is => Err(Errno::EISDIR),
                _ if !exchange && full => Err(Errno::ENOTEMPTY),
                _ => Ok(true),
            };
            let renamed = tree.rename((model.ids[from], &old), (model.ids[to], &new), flags);
            assert_eq!(renamed, expected.map(drop));
            if let (Ok(true), Some(source)) = (expected, source) {
                model.names_mut(from).remove(&old);
                if let Some(target) = model.names_mut(to).insert(new, source) {
                    if exchange {
                        model.names_mut(from).insert(old, target);
                    } else {
                        model.count(target, -1);
                    }
                }
            }
        }
    }
}

/// The tree is what the model says.
fn compare(tree: &Tree, model: &Model) {
    for directory in model.directories() {
        let inode = tree.files.inodes.get(model.ids[directory]);
        let mut there = tree.list(model.ids[directory]);
        there.sort();
        let expected: Vec<_> = model.names(directory).keys().cloned().collect();
        let mut usual: Vec<Vec<u8>> = match directory {
            0 => [&b"tmp"[..], b"etc", b"dev", b"proc", b"sys", b"var"]
                .map(<[u8]>::to_vec)
                .to_vec(),
            _ => vec![],
        };
        usual.extend(expected);
        usual.sort();
        assert_eq!(there, usual);
        assert_eq!(inode.directory.count as usize, usual.len());
        let below = model
            .names(directory)
            .values()
            .filter(|thing| model.is_directory(**thing))
            .count();
        let first = if directory == 0 { 8 } else { 2 };
        assert_eq!(inode.links as usize, first + below);
        for (name, thing) in model.names(directory) {
            let found = tree.files.lookup(model.ids[directory], name);
            assert_eq!(found, Some(model.ids[*thing]));
            match model.known[*thing] {
                Known::File(names) => {
                    assert_eq!(tree.files.inodes.get(model.ids[*thing]).links as usize, names);
                }
                Known::Directory(_) => {
                    let parent = tree.files.inodes.get(model.ids[*thing]).directory.parent;
                    assert_eq!(FileId(parent), model.ids[directory]);
                    let mut room = [0; 4096];
                    let path = tree.files.path(model.ids[*thing], &mut room);
                    assert!(path.ends_with(name));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_tree_is_what_a_model_says(operations in prop::collection::vec(operation(), 1..120)) {
        let mut tree = Tree::new();
        let mut model = Model {
            known: vec![Known::Directory(BTreeMap::new())],
            ids: vec![ROOT],
        };
        for operation in operations {
            apply(&mut tree, &mut model, operation);
        }
        compare(&tree, &model);
        tree.end();
    }
}
