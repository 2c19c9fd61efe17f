//! A machine for the subset of pickle that `torch.save` writes. It builds values and calls nothing: functions and
//! classes that tensors need stand for what the machine does itself, and all others are refused by name.

use std::collections::HashMap;
use std::ops::Range;

use tch::Kind;

use super::value::{Global, Node, Storage, Tensor, Value};
use crate::limits::PICKLE_VALUES;

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Unpickled<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    pub(super) root: Value,
}

impl<'a> Unpickled<'a> {
    /// Reads the pickle at the begin of `bytes`. Returns it with its length.
    ///
    /// # Errors
    /// The reason why it is damaged or is refused.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, usize), String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            values: 0,
        };
        let root = machine.run()?;
        Ok((Self { bytes, nodes: machine.nodes, root }, machine.at))
    }

    /// The value that holds others, if this is one.
    pub(super) fn node(&self, value: &Value) -> Option<&Node> {
        if let Value::Node(index) = value { self.nodes.get(*index) } else { None }
    }

    /// The storage of a tensor.
    pub(super) fn storage(&self, tensor: &Tensor) -> Option<&Storage> {
        match self.nodes.get(tensor.storage) {
            Some(Node::Storage(storage)) => Some(storage),
            Some(Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Tensor(_)) | None => None,
        }
    }

    /// All storages.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.nodes
            .iter()
            .filter_map(|node| if let Node::Storage(storage) = node { Some(storage) } else { None })
    }

    /// The text in this range, which the machine has checked.
    pub(super) fn text(&self, range: &Range<usize>) -> &'a str {
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    nodes: Vec<Node>,
    /// How many values were made, which bounds the memory.
    values: usize,
}

const CUT: &str = "the pickle is cut off";
const UNBALANCED: &str = "the pickle takes more values than it has made";

impl Machine<'_> {
    /// Runs to the end of the pickle and returns its value. Numbers in the arms are those of Python's `pickletools`.
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                // PROTO, FRAME
                0x80 => match self.byte()? {
                    2..=5 => {}
                    other => return Err(format!("pickle protocol {other} is unknown")),
                },
                0x95 => drop(self.number(8)?),
                // MARK, STOP, POP, POP_MARK
                b'(' => {
                    self.count(1)?;
                    self.marks.push(self.stack.len());
                }
                b'.' => return self.pop(),
                b'0' => _ = self.pop()?,
                b'1' => drop(self.above_mark()?),
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                // BININT, BININT1, BININT2, LONG1
                b'J' => {
                    let number = self.number(4)? as u32;
                    self.push(Value::Int(i64::from(number.cast_signed())))?;
                }
                b'K' => self.int(1)?,
                b'M' => self.int(2)?,
                0x8a => self.long()?,
                // BINFLOAT
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other)?;
                }
                // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8, SHORT_BINSTRING, BINSTRING: Python 2 wrote its names as bytes.
                0x8c | b'U' => self.text(1)?,
                b'X' | b'T' => self.text(4)?,
                0x8d => self.text(8)?,
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
                b'C' => self.skip_bytes(1)?,
                b'B' => self.skip_bytes(4)?,
                0x8e | 0x96 => self.skip_bytes(8)?,
                // EMPTY_TUPLE, TUPLE1 to TUPLE3, TUPLE
                b')' => self.make(Node::Tuple(Vec::new()))?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.above_mark()?;
                    self.make(Node::Tuple(items))?;
                }
                // EMPTY_LIST, LIST, APPEND, APPENDS
                b']' => self.make(Node::List(Vec::new()))?,
                b'l' => {
                    let items = self.above_mark()?;
                    self.make(Node::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.above_mark()?;
                    self.append(items)?;
                }
                // EMPTY_DICT, DICT, SETITEM, SETITEMS
                b'}' => self.make(Node::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.above_mark()?;
                    self.make(Node::Dict(Vec::new()))?;
                    self.set_items(items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.set_items(items)?;
                }
                // EMPTY_SET, ADDITEMS, FROZENSET
                0x8f => self.push(Value::Other)?,
                0x90 => drop(self.above_mark()?),
                0x91 => {
                    self.above_mark()?;
                    self.push(Value::Other)?;
                }
                // BINPUT, LONG_BINPUT, MEMOIZE
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => {
                    let index = self.memo.len() as u64;
                    self.remember(index)?;
                }
                // BINGET, LONG_BINGET
                b'h' => self.get(1)?,
                b'j' => self.get(4)?,
                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(module, name)?;
                }
                0x93 => {
                    let name = self.pop()?;
                    let module = self.pop()?;
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err("a function is named by something else than a text".into());
                    };
                    self.global(module, name)?;
                }
                // REDUCE, NEWOBJ
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    let value = self.call(&function, arguments)?;
                    self.push(value)?;
                }
                // BUILD: attributes of a mapping, such as versions of modules, or of a tensor.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Node(_) | Value::Other)) {
                        return Err("attributes are set on something that has none".into());
                    }
                }
                // BINPERSID
                b'Q' => {
                    let id = self.pop()?;
                    self.persistent(&id)?;
                }
                other => {
                    return Err(format!("the pickle has the opcode {other:#04x}, which tensors do not need"));
                }
            }
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.bytes.get(self.at).ok_or(CUT)?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes a range of bytes.
    fn take(&mut self, length: usize) -> Result<Range<usize>, String> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len()).ok_or(CUT)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// Takes a number without sign, the lowest byte first.
    fn number(&mut self, length: usize) -> Result<u64, String> {
        let range = self.take(length)?;
        Ok(self.bytes[range].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Takes bytes whose length stands before them.
    fn counted(&mut self, length: usize) -> Result<Range<usize>, String> {
        let count = usize::try_from(self.number(length)?).map_err(|_| CUT)?;
        self.take(count)
    }

    /// Takes a line without its end.
    fn line(&mut self) -> Result<Range<usize>, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let range = self.at..self.at + length;
        self.at = range.end + 1;
        self.check_text(&range)?;
        Ok(range)
    }

    fn check_text(&self, range: &Range<usize>) -> Result<(), String> {
        let text = std::str::from_utf8(&self.bytes[range.clone()]);
        text.map(drop).map_err(|_| "a text of the pickle is not UTF-8".to_owned())
    }

    /// Counts values that are about to be made.
    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        if self.values > PICKLE_VALUES {
            return Err(format!("the pickle has more than {PICKLE_VALUES} values"));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.count(1)?;
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, node: Node) -> Result<(), String> {
        let value = self.node(node);
        self.push(value)
    }

    fn node(&mut self, node: Node) -> Value {
        self.nodes.push(node);
        Value::Node(self.nodes.len() - 1)
    }

    /// Takes the top of the stack, but nothing below the last mark.
    fn pop(&mut self) -> Result<Value, String> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(UNBALANCED.into());
        }
        self.stack.pop().ok_or_else(|| UNBALANCED.into())
    }

    fn above_mark(&mut self) -> Result<Vec<Value>, String> {
        let height = self.marks.pop().ok_or(UNBALANCED)?;
        Ok(self.stack.split_off(height))
    }

    fn int(&mut self, length: usize) -> Result<(), String> {
        let number = self.number(length)? as i64;
        self.push(Value::Int(number))
    }

    /// An integer of any length. One with more than 64 bits cannot be the size of a tensor.
    fn long(&mut self) -> Result<(), String> {
        let range = self.counted(1)?;
        let bytes = &self.bytes[range];
        let negative = bytes.last().is_some_and(|byte| byte.cast_signed() < 0);
        let value = match bytes.len() {
            0..=8 => {
                let start = if negative { -1 } else { 0 };
                Value::Int(bytes.iter().rev().fold(start, |number: i64, byte| number << 8 | i64::from(*byte)))
            }
            _ => Value::Other,
        };
        self.push(value)
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let range = self.counted(length)?;
        self.check_text(&range)?;
        self.push(Value::Text(range))
    }

    fn skip_bytes(&mut self, length: usize) -> Result<(), String> {
        self.counted(length)?;
        self.push(Value::Other)
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.make(Node::Tuple(items))
    }

    /// The node on the top of the stack; `None` for a value whose content does not matter.
    fn top(&mut self) -> Result<Option<&mut Node>, String> {
        match self.stack.last() {
            Some(Value::Node(index)) => Ok(self.nodes.get_mut(*index)),
            Some(Value::Other) => Ok(None),
            Some(Value::None | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Global(_)) | None => {
                Err(UNBALANCED.into())
            }
        }
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.count(items.len())?;
        match self.top()? {
            Some(Node::List(list)) => list.extend(items),
            None => {}
            Some(Node::Tuple(_) | Node::Dict(_) | Node::Storage(_) | Node::Tensor(_)) => {
                return Err("items are appended to something that is not a list".into());
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), String> {
        if !items.len().is_multiple_of(2) {
            return Err("a mapping has a key without a value".into());
        }
        self.count(items.len())?;
        match self.top()? {
            Some(Node::Dict(dict)) => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
            }
            None => {}
            Some(Node::Tuple(_) | Node::List(_) | Node::Storage(_) | Node::Tensor(_)) => {
                return Err("items are set in something that is not a mapping".into());
            }
        }
        Ok(())
    }

    fn put(&mut self, length: usize) -> Result<(), String> {
        let index = self.number(length)?;
        self.remember(index)
    }

    fn remember(&mut self, index: u64) -> Result<(), String> {
        self.count(1)?;
        let value = self.stack.last().cloned().ok_or(UNBALANCED)?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, length: usize) -> Result<(), String> {
        let index = self.number(length)?;
        let value = self.memo.get(&index).cloned();
        self.push(value.ok_or("the pickle refers to a value that it has not made")?)
    }

    fn quoted(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default()
    }

    fn global(&mut self, module: Range<usize>, name: Range<usize>) -> Result<(), String> {
        let (module, name) = (self.quoted(&module), self.quoted(&name));
        let Some(global) = Global::named(module, name) else {
            let full: String = format!("{module}.{name}").chars().take(100).collect();
            return Err(format!(
                "it calls `{full}`, which is not needed for tensors and is never run; in Python, save the tensors alone \
                 (`torch.save(model.state_dict(), …)` or safetensors)"
            ));
        };
        self.push(Value::Global(global))
    }

    /// Returns what a function would, for the few functions that tensors need.
    fn call(&mut self, function: &Value, arguments: Value) -> Result<Value, String> {
        let Value::Global(function) = function else {
            return Err("it calls something that is not a function".into());
        };
        let Value::Node(index) = arguments else {
            return Err("a function has no arguments".into());
        };
        let Some(Node::Tuple(given)) = self.nodes.get(index) else {
            return Err("the arguments of a function are not a tuple".into());
        };
        match function {
            Global::Ignored => Ok(Value::Other),
            // The sizes, which are a tuple already.
            Global::Size => match given.as_slice() {
                [sizes] => Ok(sizes.clone()),
                _ => Err("torch.Size has other arguments than sizes".into()),
            },
            Global::Mapping => {
                let pairs = given.first().cloned();
                let pairs = pairs.map_or(Ok(Vec::new()), |pairs| self.pairs(&pairs))?;
                self.count(2 * pairs.len())?;
                Ok(self.node(Node::Dict(pairs)))
            }
            // A parameter is its tensor.
            Global::Parameter => match given.first() {
                Some(tensor) => Ok(tensor.clone()),
                None => Err("a parameter has no tensor".into()),
            },
            Global::Tensor => {
                let given = given.clone();
                let [storage, offset, shape, strides, others @ ..] = given.as_slice() else {
                    return Err("a tensor lacks its storage, offset, shape or strides".into());
                };
                self.check_metadata(others.get(2))?;
                self.tensor(storage, None, [offset, shape, strides])
            }
            Global::TensorOfBytes => {
                let given = given.clone();
                let [storage, offset, shape, strides, _, _, Value::Global(Global::Dtype(kind)), others @ ..] =
                    given.as_slice()
                else {
                    return Err("a tensor lacks its storage, offset, shape, strides or type".into());
                };
                self.check_metadata(others.first())?;
                self.tensor(storage, Some(*kind), [offset, shape, strides])
            }
            Global::StorageOf(_) | Global::UntypedStorage | Global::Dtype(_) => {
                Err("it calls a type of numbers as a function".into())
            }
        }
    }

    /// The pairs of a mapping, given as a list as Python 2 wrote it or as a mapping.
    fn pairs(&self, pairs: &Value) -> Result<Vec<(Value, Value)>, String> {
        let wrong = || "a mapping is made of something else than pairs".to_owned();
        let Value::Node(index) = pairs else { return Err(wrong()) };
        match self.nodes.get(*index) {
            Some(Node::Dict(pairs)) => Ok(pairs.clone()),
            Some(Node::List(items) | Node::Tuple(items)) => {
                let pair = |item: &Value| {
                    let Value::Node(index) = item else { return Err(wrong()) };
                    match self.nodes.get(*index) {
                        Some(Node::Tuple(pair) | Node::List(pair)) if pair.len() == 2 => {
                            Ok((pair[0].clone(), pair[1].clone()))
                        }
                        _ => Err(wrong()),
                    }
                };
                items.iter().map(pair).collect()
            }
            Some(Node::Storage(_) | Node::Tensor(_)) | None => Err(wrong()),
        }
    }

    /// Refuses tensors whose numbers mean something else: `conj` and `neg` are applied when they are read.
    fn check_metadata(&self, metadata: Option<&Value>) -> Result<(), String> {
        let Some(Value::Node(index)) = metadata else { return Ok(()) };
        match self.nodes.get(*index) {
            Some(Node::Dict(entries)) if entries.iter().any(|(_, value)| *value == Value::Bool(true)) => Err(
                "a tensor is stored as a conjugate or negative view; in Python, save `tensor.resolve_conj().resolve_neg()`"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    fn tensor(
        &mut self,
        storage: &Value,
        kind: Option<Kind>,
        [offset, shape, strides]: [&Value; 3],
    ) -> Result<Value, String> {
        let &Value::Node(storage) = storage else { return Err("a tensor has no storage".into()) };
        let Some(Node::Storage(found)) = self.nodes.get(storage) else {
            return Err("a tensor has no storage".into());
        };
        let kind = match (kind, found.kind) {
            (Some(kind), None) | (None, Some(kind)) => kind,
            (Some(asked), Some(stored)) if asked == stored => asked,
            (None, None) => return Err("a tensor has no type".into()),
            (Some(_), Some(_)) => return Err("a tensor has another type than its storage".into()),
        };
        let Value::Int(offset) = offset else { return Err("a tensor has no offset".into()) };
        let offset = usize::try_from(*offset).map_err(|_| "a tensor has a negative offset")?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err("a tensor has not as many strides as sides".into());
        }
        self.count(2 * shape.len())?;
        Ok(self.node(Node::Tensor(Tensor { storage, kind, offset, shape, strides })))
    }

    fn sizes(&self, value: &Value) -> Result<Vec<i64>, String> {
        let Value::Node(index) = value else { return Err("the shape of a tensor is missing".into()) };
        let Some(Node::Tuple(items) | Node::List(items)) = self.nodes.get(*index) else {
            return Err("the shape of a tensor is not a tuple".into());
        };
        let size = |item: &Value| {
            let size = if let Value::Int(size) = item { Some(*size) } else { None };
            size.filter(|&size| size >= 0)
                .ok_or_else(|| "a side or a stride of a tensor is not a number from 0".to_owned())
        };
        items.iter().map(size).collect()
    }

    /// A storage, named by `("storage", type, key, location, numbers)` and, in old files, the view.
    fn persistent(&mut self, id: &Value) -> Result<(), String> {
        let wrong = || "the description of a storage has an unknown form".to_owned();
        let Value::Node(index) = id else { return Err(wrong()) };
        let Some(Node::Tuple(parts)) = self.nodes.get(*index) else { return Err(wrong()) };
        let [
            Value::Text(word),
            Value::Global(class),
            Value::Text(key),
            Value::Text(_),
            Value::Int(numbers),
            others @ ..,
        ] = parts.as_slice()
        else {
            return Err(wrong());
        };
        let kind = match class {
            Global::StorageOf(kind) => Some(*kind),
            Global::UntypedStorage => None,
            Global::Mapping
            | Global::Size
            | Global::Ignored
            | Global::Dtype(_)
            | Global::Tensor
            | Global::TensorOfBytes
            | Global::Parameter => return Err(wrong()),
        };
        if self.quoted(word) != "storage" {
            return Err(wrong());
        }
        let size =
            |number: &i64| usize::try_from(*number).map_err(|_| "a storage has a negative size".to_owned());
        let view = match others {
            [] | [Value::None] => None,
            [Value::Node(view)] => match self.nodes.get(*view) {
                Some(Node::Tuple(view)) => match view.as_slice() {
                    [_, Value::Int(offset), Value::Int(numbers)] => Some((size(offset)?, size(numbers)?)),
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        let storage = Storage { key: key.clone(), kind, numbers: size(numbers)?, view };
        self.make(Node::Storage(storage))
    }
}
