//! The files of a crate as tokens, without comments, strings and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Module, list};
use crate::error::{Error, Result};

/// Reads every file below `src` that is compiled without `cfg(test)`.
pub(super) fn files(src: &Path) -> Result<BTreeMap<Module, Vec<String>>> {
    let (mut found, mut of_tests) = (BTreeMap::new(), BTreeSet::new());
    walk(src, &Vec::new(), &mut |module, text| {
        let (tokens, tests) = without_tests(tokens(text));
        of_tests.extend(tests.into_iter().map(|name| [&module[..], &[name]].concat()));
        found.insert(module, tokens);
    })?;
    found.retain(|module, _| (0..=module.len()).all(|end| !of_tests.contains(&module[..end])));
    Ok(found)
}

fn walk(folder: &Path, module: &Module, visit: &mut impl FnMut(Module, &str)) -> Result<()> {
    for (name, is_folder) in list(folder)? {
        let path = folder.join(&name);
        if is_folder {
            walk(&path, &[&module[..], &[name]].concat(), visit)?;
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let text = fs::read_to_string(&path)
                .map_err(|error| Error::missing(format!("{} cannot be read: {error}", path.display())))?;
            let own = if ["lib", "main", "mod"].contains(&stem) { None } else { Some(stem.to_owned()) };
            visit(module.iter().cloned().chain(own).collect(), &text);
        }
    }
    Ok(())
}

/// Names, `::` and single other characters; comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character(rest)
        } else if word > 0 {
            let (name, behind) = rest.split_at(word);
            if ["r", "br", "cr"].contains(&name) && (behind.starts_with('"') || behind.starts_with("#\"")) {
                word + raw_string(behind)
            } else {
                found.push(name.to_owned());
                word
            }
        } else if rest.starts_with("::") {
            found.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        let (opens, closes) = (rest.find("/*"), rest.find("*/"));
        match (opens, closes) {
            (Some(open), Some(close)) if open < close => (depth, at) = (depth + 1, at + open + 2),
            (_, Some(close)) => (depth, at) = (depth - 1, at + close + 2),
            (_, None) => return text.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Of `#"…"#` with any number of `#`.
fn raw_string(text: &str) -> usize {
    let hashes = text.find('"').unwrap_or(0);
    let end = format!("\"{}", &text[..hashes]);
    text[hashes + 1..].find(&end).map_or(text.len(), |at| hashes + 1 + at + end.len())
}

/// Of a character, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut rest = text.char_indices().skip(1);
    match (rest.next(), rest.next()) {
        (Some((_, '\\')), Some(_)) => rest.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Leaves out the items behind `#[cfg(test)]`. Returns as well the names of the modules among them that have files of their own.
fn without_tests(tokens: Vec<String>) -> (Vec<String>, Vec<String>) {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().zip(TEST).all(|(token, of)| token == of) || tokens.len() - at < TEST.len() {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = at + TEST.len() + item(&tokens[at + TEST.len()..]);
        let of_item = &tokens[at..end];
        if let [.., keyword, name, semicolon] = of_item
            && keyword == "mod"
            && semicolon == ";"
        {
            modules.push(name.clone());
        }
        at = end;
    }
    (kept, modules)
}

/// How many tokens an item has, with the attributes before it: up to the first `;` or the end of the first block outside of
/// brackets.
fn item(tokens: &[String]) -> usize {
    let is_use = tokens.iter().take_while(|token| *token != "{" && *token != ";").any(|token| token == "use");
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 && !is_use {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}
