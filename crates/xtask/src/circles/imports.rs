//! Which file imports which, from the paths in their tokens.

use std::collections::BTreeMap;

use super::{Graph, Module};

/// The files of a crate, as tokens.
type Files = BTreeMap<Module, Vec<String>>;

/// A path as it is written, and the name it goes by in the file if a `use` brings it in.
#[derive(Debug)]
struct Written {
    path: Vec<String>,
    name: Option<String>,
    public: bool,
}

/// Of each file, the names it has from elsewhere in the crate: paths from the crate's root.
type Names = BTreeMap<Module, BTreeMap<String, Vec<String>>>;

/// Reads the imports of every file.
pub(super) fn graph(files: &Files) -> Graph {
    let written: BTreeMap<&Module, Vec<Written>> =
        files.iter().map(|(module, tokens)| (module, written(tokens))).collect();
    let names = |public_only: bool| -> Names {
        let of = |(module, paths): (&&Module, &Vec<Written>)| {
            let brought_in = paths.iter().filter(|path| path.public || !public_only);
            let names = brought_in.filter_map(|path| {
                let absolute = absolute(files, &BTreeMap::new(), module, &path.path)?;
                Some((path.name.clone()?, absolute))
            });
            ((*module).clone(), names.collect())
        };
        written.iter().map(of).collect()
    };
    let (own, public) = (names(false), names(true));
    let mut graph = Graph::new();
    for (&module, paths) in &written {
        let imports = graph.entry(module.clone()).or_default();
        for path in paths {
            let brought_in = if path.name.is_some() { &BTreeMap::new() } else { &own[module] };
            let Some(absolute) = absolute(files, brought_in, module, &path.path) else { continue };
            let (file, item) = found(files, &public, absolute);
            if !file.starts_with(module) && !module.starts_with(&file) {
                imports.entry(file).or_insert(item);
            }
        }
    }
    graph
}

/// A path from the crate's root; none where it leads to another crate or to a name of the file's own.
fn absolute(
    files: &Files,
    brought_in: &BTreeMap<String, Vec<String>>,
    module: &Module,
    path: &[String],
) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let child = || [&module[..], std::slice::from_ref(first)].concat();
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([&module[..], rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        _ if files.contains_key(&child()) => Some([&child()[..], rest].concat()),
        name => brought_in.get(name).map(|start| [&start[..], rest].concat()),
    }
}

/// The file that a path from the crate's root leads to, and the name it asks for there.
fn found(files: &Files, public: &Names, mut path: Vec<String>) -> (Module, String) {
    // A re-export may lead to another one; a circle of them is an error of the crate's.
    for _ in 0..8 {
        let end = (0..=path.len()).rev().find(|&end| files.contains_key(&path[..end])).unwrap_or(0);
        let (file, rest) = path.split_at(end);
        match rest.first().and_then(|name| public.get(file)?.get(name)) {
            Some(origin) if *origin != path[..=end] => path = [&origin[..], &rest[1..]].concat(),
            _ => break,
        }
    }
    let end = (0..=path.len()).rev().find(|&end| files.contains_key(&path[..end])).unwrap_or(0);
    let item = path.get(end).or(path.last()).cloned().unwrap_or_default();
    (path[..end].to_vec(), item)
}

/// Every path of a file: those of its `use` declarations, and those with `::` elsewhere.
fn written(tokens: &[String]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
        let next = tokens.get(at + 1).map_or("", String::as_str);
        if tokens[at] == "use" && next != "<" {
            let public = before == "pub" || (before == ")" && opened_by_pub(&tokens[..at]));
            let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(tokens.len() - at);
            tree(&tokens[at + 1..end], &[], public, &mut found);
            at = end;
        } else if is_name(&tokens[at]) && next == "::" && before != "::" {
            let mut path = vec![tokens[at].clone()];
            while let [colons, name, ..] = &tokens[at + 1..]
                && colons == "::"
                && is_name(name)
            {
                path.push(name.clone());
                at += 2;
            }
            found.push(Written { path, name: None, public: false });
        }
        at += 1;
    }
    found
}

/// Whether the `)` at the end closes `pub(…)`.
fn opened_by_pub(tokens: &[String]) -> bool {
    let opened = tokens.iter().rposition(|token| token == "(");
    opened.and_then(|at| at.checked_sub(1)).is_some_and(|at| tokens[at] == "pub")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The paths of a `use` tree below `prefix`.
fn tree(tokens: &[String], prefix: &[String], public: bool, found: &mut Vec<Written>) {
    if let Some(open) = tokens.iter().position(|token| token == "{") {
        let names = tokens[..open].iter().filter(|token| is_name(token)).cloned();
        let prefix: Vec<String> = prefix.iter().cloned().chain(names).collect();
        let inside = &tokens[open + 1..tokens.iter().rposition(|token| token == "}").unwrap_or(tokens.len())];
        let mut depth = 0;
        let branches = inside.split(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && token == ","
        });
        branches.for_each(|branch| tree(branch, &prefix, public, found));
        return;
    }
    let renamed = tokens.iter().position(|token| token == "as");
    let names = tokens[..renamed.unwrap_or(tokens.len())].iter().filter(|token| *token != "::").cloned();
    let mut path: Vec<String> = prefix.iter().cloned().chain(names).collect();
    // `a::{self}` is `a`; `a::*` is of `a`.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
        path.pop();
    }
    let name = renamed.and_then(|at| tokens.get(at + 1)).or(path.last()).cloned();
    if !path.is_empty() {
        found.push(Written { path, name, public });
    }
}
