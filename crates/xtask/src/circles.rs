//! `cargo xtask circles`: import circles between the files of a crate.
//!
//! A file imports another if a path in it (`use` declarations and any other path) leads to an item of the other file; names
//! that a module re-exports lead to the file that has them. A module and the modules below it do not count: they may import
//! each other. Test code does not count either.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// The place of a file in its crate: the names of its module path. Empty for `lib.rs` and `main.rs`.
type Module = Vec<String>;

/// Of each file, the files it imports and one name from each of them.
type Graph = BTreeMap<Module, BTreeMap<Module, String>>;

/// Files of a crate that import each other, directly or through others of them.
#[derive(Debug)]
struct Circle {
    of: String,
    files: Vec<Module>,
    imports: Vec<String>,
}

impl Circle {
    /// Crate and files, on one line.
    fn line(&self) -> String {
        let files: Vec<String> = self.files.iter().map(shown).collect();
        format!("{}: {}", self.of, files.join(", "))
    }

    /// The circle and every import that is part of it.
    fn report(&self) -> String {
        format!("import circle between files of {}\n  {}", self.line(), self.imports.join("\n  "))
    }
}

/// A module path as the path of its file without extension.
fn shown(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("/") }
}

/// Fails if the crates have an import circle.
pub(crate) fn run(workspace: &Workspace) -> Result<u8> {
    let crates = workspace.root.join("crates");
    let mut names: Vec<String> = list(&crates)?.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| crates.join(name).join("src").is_dir());
    let mut circles = Vec::new();
    for name in &names {
        let graph = imports::graph(&source::files(&crates.join(name).join("src"))?);
        circles.extend(circles_of(name, &graph));
    }
    if !circles.is_empty() {
        return Err(Error::missing(circles.iter().map(Circle::report).collect::<Vec<_>>().join("\n")));
    }
    println!("{} crates, no import circles", names.len());
    Ok(0)
}

/// The groups of files that reach each other.
fn circles_of(name: &str, graph: &Graph) -> Vec<Circle> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reached(graph, module))).collect();
    let reaches = |from: &Module, to: &Module| reached.get(from).is_some_and(|found| found.contains(to));
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for module in graph.keys().filter(|module| reaches(module, module)) {
        if seen.contains(module) {
            continue;
        }
        let files: Vec<Module> =
            graph.keys().filter(|other| reaches(module, other) && reaches(other, module)).cloned().collect();
        seen.extend(files.iter().cloned());
        let imports = files.iter().flat_map(|from| {
            let inside = graph[from].iter().filter(|(to, _)| files.contains(to));
            inside.map(|(to, item)| format!("{} imports {item} of {}", shown(from), shown(to)))
        });
        circles.push(Circle { of: name.to_owned(), imports: imports.collect(), files });
    }
    circles
}

/// Every file that can be reached from one by imports; the file itself only if a circle leads back to it.
fn reached<'a>(graph: &'a Graph, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// Names and kinds (`true` for a folder) of what is in a folder, in order.
fn list(folder: &Path) -> Result<Vec<(String, bool)>> {
    let fault = |error| Error::missing(format!("{} cannot be read: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate made of these files.
    fn circles(files: &[(&str, &str)]) -> Vec<Circle> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        circles_of("made-up", &imports::graph(&source::files(dir.path()).unwrap()))
    }

    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        circles(files).iter().map(Circle::line).collect()
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let pair = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "use crate::b::{self, Two};\n"),
            ("b.rs", "use super::a::One as First;\npub struct Two;"),
            ("c.rs", "use crate::{a::One, b::Two};"),
        ];
        assert_eq!(lines(&pair), ["made-up: a, b"]);
        let ring = [
            ("a.rs", "pub fn f() { crate::b::g() }"),
            ("b/mod.rs", "fn g() { super::c::h::<u8>() }"),
            ("c.rs", "use crate::a;\nfn h() { a::f() }"),
        ];
        assert_eq!(lines(&ring), ["made-up: a, b, c"]);
        assert_eq!(
            circles(&ring)[0].imports,
            ["a imports g of b", "b imports h of c", "c imports a of a"].map(str::to_owned)
        );
    }

    #[test]
    fn a_re_exported_name_leads_to_the_file_that_has_it() {
        let files = [
            ("lib.rs", "pub mod run;\nmod plan;\npub use run::Plan;"),
            ("plan.rs", "use crate::run::{Plan, read};"),
            ("run/mod.rs", "mod one;\nmod two;\npub use one::Plan;\npub(crate) use self::two::read;"),
            ("run/one.rs", "use super::two::read;"),
            ("run/two.rs", "use crate::Plan;"),
        ];
        assert_eq!(lines(&files), ["made-up: run/one, run/two"]);
        // A module that was imported is one that paths begin with.
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c;"),
            ("a/c.rs", "use crate::b;"),
            ("b.rs", "use crate::a; fn f() { a::c::g() }"),
        ];
        assert_eq!(lines(&files), ["made-up: a/c, b"]);
    }

    #[test]
    fn modules_and_those_below_them_may_import_each_other() {
        let files = [
            ("lib.rs", "mod a;\nuse a::b::f;\npub struct Error;"),
            ("a/mod.rs", "mod b;\nuse b::f;\nuse crate::Error;"),
            ("a/b.rs", "use super::g;\nuse crate::Error;"),
        ];
        assert_eq!(lines(&files), [""; 0]);
    }

    #[test]
    fn comments_strings_and_tests_do_not_import() {
        let files = [
            ("a.rs", "use crate::b::f;"),
            (
                "b.rs",
                "//! [`crate::a`]\n/* crate::a /* nested */ crate::a */\nconst A: &str = \"use crate::a::x; \\\" crate::a\";\n\
                 const B: &str = r#\"\" crate::a::x \"#; const C: char = '\"';\nfn f<'a>(_: &'a u8) {}\n\
                 #[cfg(test)]\nuse crate::a::{x, y};\n#[cfg(test)]\nmod tests;\n\
                 #[cfg(test)]\n#[allow(dead_code)]\npub(crate) mod more {\n fn t() { crate::a::g() }\n}",
            ),
            ("b/tests.rs", "mod deep; use crate::a;"),
            ("b/tests/deep.rs", "use crate::a;"),
        ];
        assert_eq!(lines(&files), [""; 0]);
        let after = [files[0], ("b.rs", "#[cfg(test)]\nmod tests { }\nuse crate::a::x;")];
        assert_eq!(lines(&after), ["made-up: a, b"]);
    }

    #[test]
    fn a_circle_is_reported_with_its_imports() {
        let found = circles(&[("a.rs", "use crate::b::f;"), ("b.rs", "use crate::a::g;")]);
        let report = found[0].report();
        assert!(report.contains("made-up: a, b") && report.contains("a imports f of b"), "{report}");
    }
}
