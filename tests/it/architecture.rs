//! The folders under src know of each other only what ARCHITECTURE.md allows.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The table of ARCHITECTURE.md that says what each folder may import.
struct Table {
    /// A folder, as `store/kafka`, and what it may name of the crate; `None` for everything.
    rows: Vec<(String, Option<Vec<String>>)>,
    /// What every folder may name.
    open: Vec<String>,
}

impl Table {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
        let text = fs::read_to_string(file).expect("ARCHITECTURE.md");
        let (_, table) = text
            .split_once("| folder | may import | never contains |\n")
            .expect("the table of imports");
        let mut rows = Vec::new();
        let mut open = Vec::new();
        for line in table
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'))
        {
            let cells: Vec<_> = line.split('|').collect();
            let (folders, imports) = (cells[1].trim(), cells[2].trim());
            if folders == "all" {
                open = code_spans(imports);
                continue;
            }
            let imports = (imports != "everything").then(|| code_spans(imports));
            let folders = code_spans(folders).into_iter();
            rows.extend(folders.map(|folder| (folder, imports.clone())));
        }
        Self { rows, open }
    }

    /// The row of a file or of a path of the crate, both with `/` between their parts: that of the innermost folder.
    fn row(&self, module: &str) -> Option<&(String, Option<Vec<String>>)> {
        let rows = self.rows.iter().filter(|(folder, _)| {
            module
                .strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        });
        rows.max_by_key(|(folder, _)| folder.len())
    }

    /// Whether `folder`, which may import these, may name a path of the crate.
    fn allows(&self, folder: &str, imports: &[String], path: &str) -> bool {
        let named = self.row(&path.replace("::", "/"));
        let named = named.map(|(folder, _)| folder.as_str());
        let is_own = named == Some(folder);
        let mut allowed = self.open.iter().chain(imports);
        is_own
            || allowed.any(|part| {
                let part = part.replace('/', "::");
                // A folder within an allowed one has a row of its own.
                let row = self.row(&part.replace("::", "/"));
                is_within(path, &part) && row.map(|(folder, _)| folder.as_str()) == named
            })
    }
}

/// What stands between backquotes.
fn code_spans(cell: &str) -> Vec<String> {
    let spans = cell.split('`').skip(1).step_by(2);
    spans.map(ToOwned::to_owned).collect()
}

/// Never in the pure folders. `resource/message` alone may use prost's encoding functions.
const NEVER_IN_PURE: [&str; 8] = [
    "async",
    "await",
    "tokio",
    "tonic",
    "sqlx",
    "prost",
    "Instant",
    "SystemTime",
];

/// Every source file with its path inside src and its text without comments, strings and tests.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let sources = files.into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("source text");
        let file = file.strip_prefix(&root).expect("inside src");
        (file.to_string_lossy().into_owned(), product_code(&text))
    });
    // Tests of a folder may put its neighbours together.
    sources.filter(|(file, _)| !is_test_file(file)).collect()
}

fn is_test_file(file: &str) -> bool {
    let mut parts = file.split('/');
    parts.any(|part| {
        let part = part.trim_end_matches(".rs");
        part == "tests" || part == "contract" || part == "scenarios" || part.ends_with("_tests")
    })
}

/// `text` up to its test module, without comments and string literals.
fn product_code(text: &str) -> String {
    let tests = text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        text[*at..]
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with('{'))
    });
    let text = tests.map_or(text, |(at, _)| &text[..at]);
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        for (number, part) in line.split('"').enumerate() {
            if number % 2 == 0 {
                code.push_str(part);
            }
        }
        code.push('\n');
    }
    code
}

/// Every path of the crate that `code` of `file` names, from `crate::` or through `super::`.
fn crate_paths(file: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !continues_word(code, at) {
            expand(&code[at + "crate::".len()..], "", &mut paths);
        }
    }
    let mut module: Vec<_> = file.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    for (at, _) in code.match_indices("super::") {
        if continues_word(code, at) || code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut depth = module.len();
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
            depth = depth.saturating_sub(1);
        }
        let prefix: String = module[..depth].iter().flat_map(|one| [one, "::"]).collect();
        expand(rest, &prefix, &mut paths);
    }
    paths
}

/// Whether the text before `at` runs on into what is there, as in `$crate` or `_super`.
fn continues_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
}

/// Reads a path, or a tree of paths in braces, from the beginning of `text`; returns what follows it.
fn expand<'t>(text: &'t str, prefix: &str, paths: &mut Vec<String>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            rest = match rest.strip_prefix(',') {
                Some(after) => after,
                None if rest.is_empty() => return rest,
                None => {
                    let after = expand(rest, prefix, paths).trim_start();
                    // ` as name`, or anything else that is not a path.
                    let end = after.find([',', '}']).unwrap_or(after.len());
                    &after[end..]
                }
            };
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    match text[end..].strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => expand(rest, &format!("{path}::"), paths),
        _ => {
            paths.push(path);
            &text[end..]
        }
    }
}

fn is_within(path: &str, part: &str) -> bool {
    path == part
        || path
            .strip_prefix(part)
            .is_some_and(|rest| rest.starts_with("::"))
}

#[test]
fn folders_import_only_what_they_may() {
    let table = Table::read();
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let Some((folder, imports)) = table.row(&file) else {
            wrong.push(format!(
                "src/{file} is in no row of ARCHITECTURE.md's table of imports"
            ));
            continue;
        };
        let Some(imports) = imports else { continue };
        // A module's own list of its parts is no import, and the generated code names one type of ours.
        let paths = crate_paths(&file, &code).into_iter();
        for path in paths.filter(|path| !path.is_empty()) {
            if !table.allows(folder, imports, &path) {
                wrong.push(format!("src/{file} names {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn engine_resource_and_filter_are_pure() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        if !["engine/", "resource/", "filter/"]
            .iter()
            .any(|folder| file.starts_with(folder))
        {
            continue;
        }
        let words: Vec<_> = code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        for word in NEVER_IN_PURE {
            let is_of_messages =
                file == "resource/message.rs" || file.starts_with("resource/message/");
            let excepted = word == "prost" && is_of_messages;
            if !excepted && words.contains(&word) {
                wrong.push(format!("src/{file} has {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nested_imports_are_all_seen() {
    let code = "use crate::{a::{b, c as d, e::{f}}, g};\nuse super::super::h::I;\nlet x = crate::j::K::new();";
    let mut paths = crate_paths("one/two/three.rs", code);
    paths.sort();
    assert_eq!(
        paths,
        ["a::b", "a::c", "a::e::f", "g", "j::K::new", "one::h::I"]
    );
}

#[test]
fn a_folder_within_another_has_rules_of_its_own() {
    let table = Table::read();
    let allows = |file: &str, path: &str| {
        let (folder, imports) = table.row(file).expect("a row");
        table.allows(folder, imports.as_ref().expect("not everything"), path)
    };
    for (file, path) in [
        ("engine/mod.rs", "clock::Timestamp"),
        ("store/sqlite/flush.rs", "store::rows::distinct"),
        (
            "store/sqlite/flush.rs",
            "store::sqlite::state::write_failed",
        ),
        ("store/cached.rs", "engine::change::PartitionState"),
        ("delivery/driver.rs", "store::log::LogEnds"),
        ("doctor/kafka/probe.rs", "store::kafka::Inspection"),
    ] {
        assert!(allows(file, path), "{file} may name {path}");
    }
    for (file, path) in [
        ("engine/mod.rs", "clock::Clock"),
        ("store/cached.rs", "store::sqlite::SqliteState"),
        ("store/cached.rs", "engine::input::Config"),
        ("store/sqlite/flush.rs", "store::kafka::KafkaLog"),
        ("store/kafka/mod.rs", "doctor::finding::Finding"),
        ("delivery/driver.rs", "store::kafka::KafkaLog"),
        ("resource/name.rs", "store::StoreError"),
    ] {
        assert!(!allows(file, path), "{file} may not name {path}");
    }
}
