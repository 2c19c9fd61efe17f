//! The dynamic section of a program or a shared library: ELF, 64 bits, least significant byte first.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};

// Types of program headers and tags of the dynamic section, by their names in <elf.h>.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Largest table of names that is read. That of libtorch's largest library has 60 MB.
const LARGEST_TABLE: u64 = 1 << 30;

/// What the loader reads of a program or library.
#[derive(Debug)]
pub(crate) struct Dynamic {
    /// The names of the libraries that it needs.
    pub(crate) needed: Vec<String>,
    /// The folders in which the loader looks for them, as written: `$ORIGIN/lib`.
    pub(crate) search: Vec<String>,
    /// The newest version of glibc of which it needs a function.
    pub(crate) glibc: Option<(u32, u32)>,
    /// Where in the file the search path is written, with its length in bytes.
    place: Option<(u64, usize)>,
}

impl Dynamic {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of another kind.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path);
        let read = file.and_then(|file| Self::of(&file));
        read.map_err(|error| {
            Error::missing(format!("{} cannot be read as a program or library: {error}", path.display()))
        })
    }

    fn of(file: &File) -> io::Result<Self> {
        let head = bytes(file, 0, 64)?;
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return Err(other("it is not an ELF file of 64 bits"));
        }
        let (start, size, count) = (number(&head, 32, 8)?, number(&head, 54, 2)?, number(&head, 56, 2)?);
        let mut loads = Vec::new();
        let mut dynamic = None;
        for index in 0..count {
            let header = bytes(file, start.saturating_add(index * size), 56)?;
            let (offset, address, length) =
                (number(&header, 8, 8)?, number(&header, 16, 8)?, number(&header, 32, 8)?);
            match u32::try_from(number(&header, 0, 4)?).unwrap_or_default() {
                PT_LOAD => loads.push((address, offset, length)),
                PT_DYNAMIC => dynamic = Some((offset, length)),
                _ => {}
            }
        }
        let (offset, length) = dynamic.ok_or_else(|| other("it has no dynamic section"))?;
        let section = bytes(file, offset, length)?;
        let mut tags = Vec::new();
        for entry in section.chunks_exact(16) {
            match (number(entry, 0, 8)?, number(entry, 8, 8)?) {
                (DT_NULL, _) => break,
                entry => tags.push(entry),
            }
        }
        let tag = |wanted| tags.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let address = tag(DT_STRTAB).ok_or_else(|| other("it has no table of names"))?;
        let load = loads
            .iter()
            .find(|(start, _, length)| (*start..start.saturating_add(*length)).contains(&address));
        let (start, offset, _) = load.ok_or_else(|| other("its table of names is not in the file"))?;
        let table = address - start + offset;
        let names = bytes(file, table, tag(DT_STRSZ).unwrap_or_default())?;
        let name = |place: u64| {
            let rest = usize::try_from(place).ok().and_then(|place| names.get(place..));
            let name = rest.and_then(|rest| rest.split(|byte| *byte == 0).next());
            name.map(|name| String::from_utf8_lossy(name).into_owned())
                .ok_or_else(|| other("a name is missing"))
        };
        let needed = tags.iter().filter(|(tag, _)| *tag == DT_NEEDED).map(|(_, place)| name(*place));
        let path = tag(DT_RUNPATH).or(tag(DT_RPATH)).map(|place| Ok::<_, io::Error>((place, name(place)?)));
        let path = path.transpose()?;
        let search = path.iter().flat_map(|(_, path)| path.split(':')).filter(|folder| !folder.is_empty());
        Ok(Self {
            needed: needed.collect::<io::Result<_>>()?,
            search: search.map(str::to_owned).collect(),
            glibc: names.split(|byte| *byte == 0).filter_map(glibc).max(),
            place: path.map(|(place, path)| (table + place, path.len())),
        })
    }

    /// Writes another search path into the file. It must not be longer than the present one; whatever else shares the bytes behind
    /// it stays.
    ///
    /// # Errors
    /// Fails if there is no room for it, or if the file cannot be written.
    pub(crate) fn set_search(&self, path: &Path, search: &str) -> Result<()> {
        if self.search == [search] {
            return Ok(());
        }
        let refuse = |reason: &str| {
            Error::missing(format!("the search path of {} cannot become {search}: {reason}", path.display()))
        };
        let (place, _) = self
            .place
            .filter(|(_, length)| search.len() <= *length)
            .ok_or_else(|| refuse("it has none, or a shorter one"))?;
        let text = [search.as_bytes(), b"\0"].concat();
        let write = |mut file: File| {
            file.seek(SeekFrom::Start(place))?;
            file.write_all(&text)
        };
        let written = File::options().write(true).open(path).and_then(write);
        written.map_err(|error| refuse(&error.to_string()))
    }
}

/// The version in a name such as `GLIBC_2.34`.
fn glibc(name: &[u8]) -> Option<(u32, u32)> {
    let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn other(reason: &'static str) -> io::Error {
    io::Error::other(reason)
}

fn bytes(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > LARGEST_TABLE {
        return Err(other("a table in it is too large"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a number of so many bytes.
fn number(bytes: &[u8], offset: usize, length: usize) -> io::Result<u64> {
    let found = bytes.get(offset..offset + length).ok_or_else(|| other("a table in it is cut off"))?;
    Ok(found.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_glibc() {
        let exe = std::env::current_exe().unwrap();
        let dynamic = Dynamic::read(&exe).unwrap();
        assert!(dynamic.needed.iter().any(|name| name == "libc.so.6"), "{dynamic:?}");
        assert!(dynamic.glibc.unwrap() >= (2, 17), "{dynamic:?}");
    }

    #[test]
    fn another_search_path_is_written_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (exe, copy) = (std::env::current_exe().unwrap(), dir.path().join("copy"));
        std::fs::copy(&exe, &copy).unwrap();
        let before = Dynamic::read(&copy).unwrap();
        if before.search.is_empty() {
            // Flags of the environment have replaced those of the repository.
            return;
        }
        before.set_search(&copy, "$ORIGIN/lib").unwrap();
        let after = Dynamic::read(&copy).unwrap();
        assert_eq!((after.search, after.needed), (vec!["$ORIGIN/lib".to_owned()], before.needed));
        let [exe, text] = [&exe, &copy].map(|path| std::fs::read(path).unwrap());
        let changed: Vec<usize> = (0..exe.len()).filter(|&place| exe[place] != text[place]).collect();
        assert!(exe.len() == text.len() && changed.len() <= "$ORIGIN/lib\0".len(), "{changed:?}");
        let long = "x".repeat(1000);
        assert!(Dynamic::read(&copy).unwrap().set_search(&copy, &long).is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for content in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &whole[..100], &whole[..2000]] {
            std::fs::write(&path, content).unwrap();
            let message = Dynamic::read(&path).unwrap_err().to_string();
            assert!(message.contains("file cannot be read as a program or library"), "{message}");
        }
    }

    #[test]
    fn versions_of_glibc() {
        assert_eq!(glibc(b"GLIBC_2.34"), Some((2, 34)));
        assert_eq!(glibc(b"GLIBC_2.2.5"), Some((2, 2)));
        for name in [&b"GLIBC_PRIVATE"[..], b"GLIBCXX_3.4", b"GLIBC_ABI_DT_RELR", b"printf"] {
            assert_eq!(glibc(name), None);
        }
    }
}
