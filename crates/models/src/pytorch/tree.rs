//! Finds the state dict in the object that was saved, and gives every tensor its name.

use std::collections::HashSet;

use super::pickle::Unpickled;
use super::value::{Node, Tensor, Value};
use crate::error::quoted;
use crate::limits::{NAME_BYTES, PICKLE_DEPTH, PICKLE_VALUES, TENSORS};

/// Keys under which training scripts put the state dict of a network, the preferred one first.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "net"];
/// What wrappers of modules put before every name: of several devices, and of a compiled network.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Returns the tensors of the state dict in the saved object, in its order, with their names.
///
/// The state dict is the object itself if it holds tensors by name. Otherwise it is what the object has under one of
/// [`WRAPPERS`], or its only member that holds tensors by name; other members, such as the state of an optimizer, are left
/// out. A single tensor has an empty name. Names of nested mappings and lists are joined with dots. A prefix of [`PREFIXES`] is removed if all names
/// have it.
pub(super) fn state_dict<'a>(pickle: &'a Unpickled) -> Result<Vec<(String, &'a Tensor)>, String> {
    let mut root = &pickle.root;
    for _ in 0..PICKLE_DEPTH {
        match inner(pickle, root)? {
            Some(inner) => root = inner,
            None => break,
        }
    }
    let mut tensors = flatten(pickle, root)?;
    let common = |tensors: &[(String, &Tensor)]| {
        let of_all = |prefix: &&str| tensors.iter().all(|(name, _)| name.starts_with(*prefix));
        PREFIXES.into_iter().filter(|_| !tensors.is_empty()).find(of_all)
    };
    while let Some(prefix) = common(&tensors) {
        tensors.iter_mut().for_each(|(name, _)| drop(name.drain(..prefix.len())));
    }
    let mut seen = HashSet::new();
    match tensors.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        Some((name, _)) => Err(format!("`{name}` occurs twice")),
        None => Ok(tensors),
    }
}

/// Returns the member of a mapping that holds the state dict, or `None` if the mapping is it.
fn inner<'a>(pickle: &'a Unpickled, root: &'a Value) -> Result<Option<&'a Value>, String> {
    let Some(Node::Dict(members)) = pickle.node(root) else { return Ok(None) };
    if holds_tensors(pickle, root) {
        return Ok(None);
    }
    let named: Vec<(&str, &Value)> = members
        .iter()
        .filter_map(|(key, value)| {
            let Value::Text(key) = key else { return None };
            matches!(pickle.node(value), Some(Node::Dict(_))).then(|| (pickle.text(key), value))
        })
        .collect();
    if let Some((_, value)) = WRAPPERS.iter().find_map(|wrapper| named.iter().find(|(key, _)| key == wrapper))
    {
        return Ok(Some(value));
    }
    let holders: Vec<_> = named.iter().filter(|(_, value)| holds_tensors(pickle, value)).collect();
    match holders.as_slice() {
        [] => Ok(None),
        [(_, value)] => Ok(Some(value)),
        several => Err(format!(
            "it holds several networks ({}), and nothing says which one is meant; in Python, save one of them alone",
            quoted(several.iter().map(|(key, _)| key))
        )),
    }
}

/// Whether a value is a mapping that has tensors as members.
fn holds_tensors(pickle: &Unpickled, value: &Value) -> bool {
    match pickle.node(value) {
        Some(Node::Dict(members)) => {
            members.iter().any(|(_, value)| matches!(pickle.node(value), Some(Node::Tensor(_))))
        }
        Some(Node::Tuple(_) | Node::List(_) | Node::Storage(_) | Node::Tensor(_)) | None => false,
    }
}

/// Returns all tensors below a value. Without recursion, since values may contain themselves.
fn flatten<'a>(pickle: &'a Unpickled, root: &'a Value) -> Result<Vec<(String, &'a Tensor)>, String> {
    let (mut found, mut steps) = (Vec::new(), 0_usize);
    let mut open = vec![(String::new(), 0, root)];
    while let Some((path, depth, value)) = open.pop() {
        let below = match pickle.node(value) {
            Some(Node::Tensor(tensor)) => {
                found.push((path, tensor));
                if found.len() > TENSORS {
                    return Err(format!("it holds more than {TENSORS} tensors"));
                }
                continue;
            }
            Some(Node::Dict(members)) => {
                members.iter().filter_map(|(key, value)| Some((key_name(pickle, key)?, value))).collect()
            }
            Some(Node::Tuple(items) | Node::List(items)) => {
                items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect::<Vec<_>>()
            }
            Some(Node::Storage(_)) | None => continue,
        };
        steps += below.len();
        if depth >= PICKLE_DEPTH || steps > PICKLE_VALUES {
            return Err(format!(
                "its mappings are nested more than {PICKLE_DEPTH} times, or refer to each other"
            ));
        }
        for (name, value) in below.into_iter().rev().filter(|(_, value)| pickle.node(value).is_some()) {
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            if path.len() > NAME_BYTES {
                let start: String = path.chars().take(20).collect();
                let length = path.len();
                return Err(format!("the name `{start}…` has {length} bytes; the maximum is {NAME_BYTES}"));
            }
            open.push((path, depth + 1, value));
        }
    }
    Ok(found)
}

/// The name of a key; `None` for keys that are neither texts nor numbers.
fn key_name(pickle: &Unpickled, key: &Value) -> Option<String> {
    match key {
        Value::Text(key) => Some(pickle.text(key).to_owned()),
        Value::Int(key) => Some(key.to_string()),
        Value::None | Value::Bool(_) | Value::Global(_) | Value::Node(_) | Value::Other => None,
    }
}
