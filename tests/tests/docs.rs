//! What the documents claim about the tree is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source of the workspace, relative to its root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec!["guest".to_owned(), "tests".into(), "vmm".into()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(root().join(&directory))
            .expect("a directory of the tree")
            .flatten()
        {
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                open.push(name);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).expect("a source is UTF-8");
                found.push((name, text));
            }
        }
    }
    assert!(found.len() > 50, "the tree is found");
    found
}

/// Paths in backquotes that look like sources.
fn named_in(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.ends_with(".rs") && word.contains('/'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_list_of_unsafe_modules_is_complete_and_has_nothing_else() {
    let document = fs::read_to_string(root().join("docs/unsafe.md")).expect("docs/unsafe.md");
    let listed = named_in(&document);
    let marked: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().any(|line| line.starts_with("// UNSAFETY:")))
        .map(|(name, _)| name)
        .collect();
    let missing: Vec<_> = marked.difference(&listed).collect();
    let superfluous: Vec<_> = listed.difference(&marked).collect();
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "missing: {missing:?}, superfluous: {superfluous:?}"
    );
}

#[test]
fn modules_with_unsafe_code_say_why_at_their_top() {
    for (name, text) in sources() {
        // Test programs are no modules.
        if name.starts_with("tests/programs/") {
            continue;
        }
        // Wherever the attribute is broken into lines; the words are apart here so as not to find themselves.
        let packed: String = text.split_whitespace().collect();
        let expects = packed.contains(&["expect(", "unsafe_code"].concat());
        let says = text.lines().any(|line| line.starts_with("// UNSAFETY:"));
        assert_eq!(
            expects, says,
            "{name}: unsafe code and `// UNSAFETY:` go together"
        );
    }
}

#[test]
fn every_module_opens_with_an_essay() {
    for (name, text) in sources() {
        if !name.starts_with("tests/programs/") && !name.ends_with("tests.rs") {
            assert!(text.starts_with("//! "), "{name} does not open with `//! `");
        }
    }
}

#[test]
fn files_stay_small_enough_to_be_read() {
    for (name, text) in sources() {
        assert!(
            text.lines().count() <= 700,
            "{name} has {} lines",
            text.lines().count()
        );
    }
}

/// README and everything in `docs`, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(directory)).expect("docs").flatten() {
            paths.push(entry.path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "md"));
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a document");
    paths.iter().map(|path| (path.clone(), text(path))).collect()
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for (path, text) in documents() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let file = target.split('#').next().unwrap_or_default();
            let there = path.parent().expect("a document lies somewhere").join(file);
            assert!(there.exists(), "{} links to {target}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_of_a_merge() {
    let documents = documents()
        .into_iter()
        .map(|(path, text)| (path.display().to_string(), text));
    for (name, text) in documents.chain(sources()) {
        let mark = text
            .lines()
            .find(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "));
        assert_eq!(mark, None, "{name}");
    }
}

#[test]
fn every_system_call_is_in_the_list() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a file of the tree");
    // `203, 204` and `142–148`.
    let numbers = |text: &str| -> Vec<u32> {
        let ranges = text.split(", ").filter_map(|part| {
            let (first, last) = part.split_once('–').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        ranges.flatten().collect()
    };
    let list = read("docs/system-calls.md");
    let listed: BTreeSet<u32> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .flat_map(|line| numbers(line.split(" |").next().unwrap_or_default()))
        .collect();
    let source = read("guest/kernel/src/syscall/number.rs");
    let served = source.lines().filter_map(|line| {
        let (_, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
        number.parse::<u32>().ok()
    });
    let missing: Vec<_> = served.filter(|number| !listed.contains(number)).collect();
    assert!(
        missing.is_empty(),
        "docs/system-calls.md does not list {missing:?}"
    );
}

#[test]
fn files_named_in_the_documents_exist() {
    // Decisions tell of what was there when they were made.
    let lasting = documents()
        .into_iter()
        .filter(|(path, _)| !path.parent().is_some_and(|parent| parent.ends_with("decisions")));
    for (path, text) in lasting {
        for name in named_in(&text) {
            // Short names are relative to the package the document speaks of.
            let exists = [
                "",
                "vmm/",
                "vmm/src/",
                "guest/",
                "guest/kernel/src/",
                "tests/",
                "docs/",
            ]
            .iter()
            .any(|prefix| root().join(format!("{prefix}{name}")).exists());
            assert!(exists, "{} names {name}, which is not there", path.display());
        }
    }
}
