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

#[test]
fn files_named_in_the_documents_exist() {
    let mut documents = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs").flatten() {
        documents.push(entry.path());
    }
    for path in documents
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
    {
        for name in named_in(&fs::read_to_string(&path).expect("a document")) {
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
