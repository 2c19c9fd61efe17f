//! The footer of a Parquet file: its columns, its row groups and where their bytes lie.

use super::thrift::{Check, Kind, Reader};

/// Maximum number of columns and groups of columns. Published tables have a few thousand.
const NODES: usize = 1 << 16;
/// Maximum number of row groups in a file. A shard of 480 MB with a row group for each of its images has about 4,000.
const GROUPS: usize = 1 << 17;
/// Maximum depth of a column. The schema is a tree that is stored in preorder.
const DEPTH: usize = 64;
/// Number of columns that an error lists.
const LISTED: usize = 20;

/// The parts of a footer that reading columns needs.
#[derive(Debug)]
pub(super) struct Footer {
    /// Number of rows of the file.
    pub rows: u64,
    pub groups: Vec<RowGroup>,
    /// The JSON text that the hub's library stores under the key `huggingface`.
    pub description: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct RowGroup {
    pub rows: u64,
    /// The chunks of all columns that hold values, in the order of the schema.
    pub chunks: Vec<Chunk>,
}

/// The bytes of a column in one row group.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Position of the first page in the file.
    pub start: u64,
    /// Number of bytes with the headers of pages.
    pub length: u64,
    /// Number of values, nulls included.
    pub values: u64,
    pub codec: i64,
    physical: i64,
    elsewhere: bool,
}

/// A column that can be read: one value or null in every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Position among the chunks of a row group.
    pub index: usize,
    /// The definition level of a value that is not null: 0 if there are no nulls.
    pub defined: u8,
    pub physical: Physical,
}

/// The stored types that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Int32,
    Int64,
    Bytes,
}

/// The columns of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageColumn {
    pub bytes: Leaf,
    /// The name of the image's file, if the column is the hub's struct.
    pub path: Option<Leaf>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    name: String,
    physical: Option<i64>,
    repetition: Option<i64>,
    children: usize,
    converted: Option<i64>,
    logical: Option<i16>,
    /// Depth in the tree; 0 is the root, 1 a column.
    depth: usize,
    /// Position of the first value column at or below the node.
    leaf: usize,
}

impl Footer {
    /// Parses the bytes between the last page and the length of the footer.
    pub(super) fn parse(bytes: &[u8]) -> Check<Self> {
        let (mut nodes, mut groups, mut rows, mut description) = (None, None, None, None);
        let mut reader = Reader::new(bytes);
        reader.fields(|reader, number, kind| {
            match (number, kind) {
                (2, Kind::List) => nodes = Some(reader.structs(NODES, node)?),
                (3, Kind::Integer) => rows = Some(reader.size()?),
                (4, Kind::List) => groups = Some(reader.structs(GROUPS, row_group)?),
                (5, Kind::List) => {
                    let pairs = reader.structs(NODES, key_value)?;
                    description = pairs.into_iter().find_map(|(key, value)| {
                        (key == b"huggingface").then(|| String::from_utf8_lossy(value).into_owned())
                    });
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (Some(nodes), Some(rows), Some(groups)) = (nodes, rows, groups) else {
            return Err("the schema, the number of rows or the list of row groups is missing".into());
        };
        let (nodes, leaves) = tree(nodes)?;
        let mut sum = 0_u64;
        for group in &groups {
            if group.chunks.len() != leaves.len() {
                return Err(format!(
                    "a row group has {} columns, the schema {}",
                    group.chunks.len(),
                    leaves.len()
                ));
            }
            if group.chunks.iter().zip(&leaves).any(|(chunk, &physical)| chunk.physical != physical) {
                return Err("a row group has columns of other types than the schema".into());
            }
            sum = sum.saturating_add(group.rows);
        }
        if sum != rows {
            return Err(format!("it claims {rows} rows, but its row groups have {sum}"));
        }
        Ok(Self { rows, groups, description, nodes })
    }

    /// Returns a column of images: plain bytes, or a struct with the bytes and the name of a file.
    pub(super) fn image(&self, name: &str, setting: &str) -> Check<ImageColumn> {
        let (place, node) = self.column(name, setting)?;
        let bytes = |place: usize| self.leaf(place).filter(|leaf| leaf.physical == Physical::Bytes);
        if let Some(leaf) = bytes(place).filter(|_| !node.is_text()) {
            return Ok(ImageColumn { bytes: leaf, path: None });
        }
        let child = |name: &str| {
            let below = self.children(place).find(|&child| self.nodes[child].name == name)?;
            bytes(below)
        };
        let found = child("bytes").map(|leaf| ImageColumn { bytes: leaf, path: child("path") });
        found.filter(|_| node.physical.is_none()).ok_or_else(|| {
            self.refuse(
                name,
                place,
                setting,
                "not images: these are binary or a struct {bytes: binary, path: string}",
            )
        })
    }

    /// Returns a column of whole numbers.
    pub(super) fn integers(&self, name: &str, setting: &str) -> Check<Leaf> {
        let (place, node) = self.column(name, setting)?;
        let leaf = self.leaf(place).filter(|leaf| leaf.physical != Physical::Bytes && node.is_integer());
        leaf.ok_or_else(|| self.refuse(name, place, setting, "not class indices, which are int64"))
    }

    fn column(&self, name: &str, setting: &str) -> Check<(usize, &Node)> {
        let mut columns = self.children(0).map(|place| (place, &self.nodes[place]));
        columns.find(|(_, node)| node.name == name).ok_or_else(|| {
            format!("has no column `{}`; set {setting} to one of {}", shown(name), self.listed())
        })
    }

    fn refuse(&self, name: &str, place: usize, setting: &str, what: &str) -> String {
        format!(
            "the column `{}` is {}, {what}; set {setting} to another of {}",
            shown(name),
            self.describe(place),
            self.listed()
        )
    }

    /// Returns the value column at a node if every row has one value or null there.
    fn leaf(&self, place: usize) -> Option<Leaf> {
        let node = &self.nodes[place];
        let physical = match node.physical? {
            1 => Physical::Int32,
            2 => Physical::Int64,
            6 => Physical::Bytes,
            _ => return None,
        };
        // A column, or a field of a struct that is a column.
        let parent = (0..place).rev().find(|&above| self.nodes[above].depth < node.depth)?;
        let levels = [place, parent];
        let levels = levels.iter().map(|&place| &self.nodes[place]).filter(|node| node.depth > 0);
        let mut defined = 0;
        for level in levels {
            match level.repetition? {
                0 => {}
                1 => defined += 1,
                _ => return None,
            }
        }
        (node.depth <= 2).then_some(Leaf { index: node.leaf, defined, physical })
    }

    /// The positions of a node's direct children.
    fn children(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        let depth = self.nodes.get(place).map_or(0, |node| node.depth);
        let below = self.nodes.iter().enumerate().skip(place + 1);
        below
            .take_while(move |(_, node)| node.depth > depth)
            .filter(move |(_, node)| node.depth == depth + 1)
            .map(|(place, _)| place)
    }

    /// The columns with their types, for errors.
    fn listed(&self) -> String {
        let columns: Vec<usize> = self.children(0).take(LISTED + 1).collect();
        let each = columns
            .iter()
            .take(LISTED)
            .map(|&place| format!("`{}` ({})", shown(&self.nodes[place].name), self.describe(place)));
        let mut list = each.collect::<Vec<_>>().join(", ");
        if columns.is_empty() {
            list = "its columns, of which there are none".into();
        } else if columns.len() > LISTED {
            list += ", …";
        }
        list
    }

    /// The type of a column in Arrow's words.
    fn describe(&self, place: usize) -> String {
        let node = &self.nodes[place];
        if node.repetition == Some(2) || matches!(node.logical, Some(3)) || node.converted == Some(3) {
            return "list".into();
        }
        match node.physical {
            None => {
                let fields: Vec<usize> = self.children(place).take(5).collect();
                let field = |&place: &usize| {
                    let field = &self.nodes[place];
                    let kind = if field.physical.is_some() { field.primitive() } else { "group" };
                    format!("{}: {kind}", shown(&field.name))
                };
                let more = if fields.len() > 4 { ", …" } else { "" };
                let fields: Vec<String> = fields.iter().take(4).map(field).collect();
                format!("struct {{{}{more}}}", fields.join(", "))
            }
            Some(_) => node.primitive().into(),
        }
    }
}

impl Node {
    fn is_text(&self) -> bool {
        // UTF8, ENUM, JSON, BSON; the logical types STRING, ENUM, JSON, BSON.
        matches!(self.converted, Some(0 | 4 | 19 | 20)) || matches!(self.logical, Some(1 | 4 | 12 | 13))
    }

    fn is_integer(&self) -> bool {
        matches!(self.physical, Some(1 | 2))
            && matches!(self.converted, None | Some(11..=18))
            && matches!(self.logical, None | Some(10))
    }

    fn primitive(&self) -> &'static str {
        match self.physical {
            Some(0) => "bool",
            Some(1) if self.is_integer() => "int32",
            Some(2) if self.is_integer() => "int64",
            Some(1 | 2) => "date, time or decimal",
            Some(3) => "int96",
            Some(4) => "float",
            Some(5) => "double",
            Some(6) if self.is_text() => "string",
            Some(6) => "binary",
            Some(7) => "fixed-size binary",
            _ => "of an unknown type",
        }
    }
}

/// Sets depth and leaf of the nodes, which are stored in preorder, and returns the types of the value columns. The loop
/// instead of a recursion keeps a deep tree from overflowing the stack.
fn tree(mut nodes: Vec<Node>) -> Check<(Vec<Node>, Vec<i64>)> {
    if nodes.is_empty() || nodes.len() > NODES {
        return Err(format!("the schema has {} columns", nodes.len()));
    }
    let mut leaves = Vec::new();
    // Numbers of children that are still to come, for each node on the way from the root.
    let mut open: Vec<usize> = Vec::new();
    for (place, node) in nodes.iter_mut().enumerate() {
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if place == 0 => {}
            None => return Err("the schema has columns outside of its root".into()),
        }
        (node.depth, node.leaf) = (open.len(), leaves.len());
        if node.depth > DEPTH {
            return Err("the columns lie too deep within each other".into());
        }
        if place == 0 {
            node.physical = None;
        }
        match node.physical {
            Some(physical) if node.children == 0 => leaves.push(physical),
            Some(_) => return Err("a column has both values and columns below it".into()),
            None => open.push(node.children),
        }
    }
    if open.iter().any(|&left| left > 0) {
        return Err("the schema lacks columns that it announces".into());
    }
    Ok((nodes, leaves))
}

fn node(reader: &mut Reader<'_>) -> Check<Node> {
    let mut node = Node::default();
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Kind::Integer) => node.physical = Some(reader.integer()?),
            (3, Kind::Integer) => node.repetition = Some(reader.integer()?),
            (4, Kind::Binary) => node.name = String::from_utf8_lossy(reader.binary()?).into_owned(),
            (5, Kind::Integer) => node.children = usize::try_from(reader.size()?).unwrap_or(usize::MAX),
            (6, Kind::Integer) => node.converted = Some(reader.integer()?),
            (10, Kind::Struct) => reader.fields(|_, number, _| {
                node.logical = Some(number);
                Ok(false)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(node)
}

fn row_group(reader: &mut Reader<'_>) -> Check<RowGroup> {
    let mut group = RowGroup { rows: 0, chunks: Vec::new() };
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Kind::List) => group.chunks = reader.structs(NODES, chunk)?,
            (3, Kind::Integer) => group.rows = reader.size()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn chunk(reader: &mut Reader<'_>) -> Check<Chunk> {
    let mut chunk = Chunk { physical: -1, ..Chunk::default() };
    let (mut data, mut dictionary) = (0, None);
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Kind::Binary) => chunk.elsewhere = !reader.binary()?.is_empty(),
            (3, Kind::Struct) => reader.fields(|reader, number, kind| {
                match (number, kind) {
                    (1, Kind::Integer) => chunk.physical = reader.integer()?,
                    (4, Kind::Integer) => chunk.codec = reader.integer()?,
                    (5, Kind::Integer) => chunk.values = reader.size()?,
                    (7, Kind::Integer) => chunk.length = reader.size()?,
                    (9, Kind::Integer) => data = reader.size()?,
                    (11, Kind::Integer) => dictionary = Some(reader.size()?),
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if chunk.physical < 0 {
        return Err("a row group has a column without a type".into());
    }
    // Some writers store 0 instead of nothing.
    chunk.start = dictionary.filter(|&dictionary| dictionary > 0 && dictionary < data).unwrap_or(data);
    Ok(chunk)
}

impl Chunk {
    /// Checks that the chunk lies in the file before `end` and has `rows` values.
    pub(super) fn check(&self, end: u64, rows: u64) -> Check<()> {
        if self.elsewhere {
            return Err("a column lies in another file; store the table in one file".into());
        }
        if self.start < 4 || self.start.saturating_add(self.length) > end {
            return Err("a column ends beyond the end of the file".into());
        }
        if self.values != rows {
            return Err(format!("a column has {} values in a row group of {rows} rows", self.values));
        }
        Ok(())
    }
}

fn key_value<'a>(reader: &mut Reader<'a>) -> Check<(&'a [u8], &'a [u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Kind::Binary) => key = reader.binary()?,
            (2, Kind::Binary) => value = reader.binary()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((key, value))
}

/// A name of a column without line breaks and of bounded length.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 40;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut text: String = name.chars().map(clean).take(LONGEST).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}
