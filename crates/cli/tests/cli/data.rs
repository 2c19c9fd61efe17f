//! Attacks: data sets that are damaged or made to do harm. An item that cannot be read is named and left out; a table that is
//! wrong is refused before anything is computed.
//!
//! A line of [`ATTACKS`] is an attack: an experiment on files, what is done to them, and what must come of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::words;
use crate::experiments::ALL;
use crate::on_files::OnFiles;

/// What must come of an attack.
#[derive(Clone, Copy)]
enum Comes {
    /// This item is left out, exit code 3; the other eight are answered.
    LeftOut,
    /// Nothing is computed and no folder appears; the exit code.
    Refused(i32),
    /// All nine items are answered, exit code 0.
    Answered,
}
use Comes::{Answered, LeftOut, Refused};

/// Numbers of experiments in [`ALL`].
const MASKING: usize = 0;
const DIFFSEG: usize = 3;

/// The image that attacks strike.
const IMAGE: &str = "images/000004.png";
const MASK: &str = "masks/000004.png";

/// Name, experiment, what is done to the folder of files, what comes of it, and words of the message.
type Attack = (&'static str, usize, fn(&Path), Comes, &'static str);

const ATTACKS: &[Attack] = &[
    ("cut in half", MASKING, |dir| cut(&dir.join(IMAGE)), LeftOut, "000004.png"),
    ("empty", MASKING, |dir| put(&dir.join(IMAGE), b""), LeftOut, "000004.png"),
    ("text", MASKING, |dir| put(&dir.join(IMAGE), b"not an image at all"), LeftOut, "not an image"),
    (
        "of a format that is not read",
        MASKING,
        |dir| put(&dir.join(IMAGE), b"GIF89a\x01\x00\x01\x00"),
        LeftOut,
        "GIF",
    ),
    ("claims 2^31 pixels a side", MASKING, |dir| claim(&dir.join(IMAGE), 0x7fff_ffff), LeftOut, "000004.png"),
    ("claims no pixel", MASKING, |dir| claim(&dir.join(IMAGE), 0), LeftOut, "000004.png"),
    ("a folder", MASKING, |dir| folder(&dir.join(IMAGE)), Refused(3), "000004.png"),
    (
        "a link to itself",
        MASKING,
        |dir| link(&dir.join(IMAGE), Path::new("000004.png")),
        Refused(3),
        "000004.png",
    ),
    (
        "a device without an end",
        MASKING,
        |dir| link(&dir.join(IMAGE), Path::new("/dev/zero")),
        Refused(3),
        "000004.png",
    ),
    ("a pipe", MASKING, |dir| pipe(&dir.join(IMAGE)), Refused(3), "000004.png"),
    ("gone", MASKING, |dir| fs::remove_file(dir.join(IMAGE)).expect("removed"), Refused(3), "000004.png"),
    ("gone", DIFFSEG, |dir| fs::remove_file(dir.join(MASK)).expect("removed"), Refused(3), "000004.png"),
    ("cut in half", DIFFSEG, |dir| cut(&dir.join(MASK)), LeftOut, "000004.png"),
    ("of another size", DIFFSEG, |dir| claim(&dir.join(MASK), 32), LeftOut, "000004.png"),
    (
        "a table without a header",
        MASKING,
        |dir| table(dir, "images/000000.png,1\n"),
        Refused(3),
        "labels.csv",
    ),
    ("an empty table", MASKING, |dir| table(dir, ""), Refused(3), "labels.csv"),
    ("no row", MASKING, |dir| table(dir, "file,label\n"), Refused(3), "labels.csv"),
    ("a label that is not a number", MASKING, |dir| row(dir, "images/000004.png,dog"), Refused(3), "dog"),
    ("a negative label", MASKING, |dir| row(dir, "images/000004.png,-1"), Refused(3), "-1"),
    (
        "a label beyond the classes",
        MASKING,
        |dir| row(dir, "images/000004.png,4000000000"),
        Refused(2),
        "4000000000",
    ),
    ("a path upwards", MASKING, |dir| row(dir, "../000004.png,1"), Refused(3), ".."),
    ("an absolute path", MASKING, |dir| row(dir, "/etc/passwd,1"), Refused(3), "/etc/passwd"),
    ("an image twice", MASKING, |dir| row(dir, "images/000003.png,1"), Refused(3), "000003.png"),
    ("a column too few", MASKING, |dir| row(dir, "images/000004.png"), Refused(3), "labels.csv"),
    (
        "bytes that are not UTF-8",
        MASKING,
        |dir| put(&dir.join("labels.csv"), b"file,label\n\xff\xfe,1\n"),
        Refused(3),
        "labels.csv",
    ),
    ("Windows' line ends and a mark of byte order", MASKING, windows, Answered, ""),
];

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("writable");
}

fn cut(path: &Path) {
    let bytes = fs::read(path).expect("a file");
    put(path, &bytes[..bytes.len() / 2]);
}

/// Writes a side into the header of a PNG file, with the checksum that belongs to it.
fn claim(path: &Path, side: u32) {
    let mut bytes = fs::read(path).expect("a file");
    for place in [16, 20] {
        bytes[place..place + 4].copy_from_slice(&side.to_be_bytes());
    }
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    put(path, &bytes);
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

fn folder(path: &Path) {
    fs::remove_file(path).and_then(|()| fs::create_dir(path)).expect("a folder");
}

fn link(path: &Path, to: &Path) {
    fs::remove_file(path).expect("removed");
    #[cfg(unix)]
    std::os::unix::fs::symlink(to, path).expect("a link");
    #[cfg(not(unix))]
    put(path, to.as_os_str().as_encoded_bytes());
}

fn pipe(path: &Path) {
    fs::remove_file(path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success());
}

fn table(dir: &Path, text: &str) {
    put(&dir.join("labels.csv"), text.as_bytes());
}

/// Replaces the row of the struck image.
fn row(dir: &Path, row: &str) {
    let text = fs::read_to_string(dir.join("labels.csv")).expect("a table");
    let lines: Vec<&str> =
        text.lines().map(|line| if line.contains("000004.png") { row } else { line }).collect();
    table(dir, &(lines.join("\n") + "\n"));
}

fn windows(dir: &Path) {
    let text = fs::read_to_string(dir.join("labels.csv")).expect("a table");
    table(dir, &format!("\u{feff}{}", text.replace('\n', "\r\n")));
}

#[test]
fn damaged_data_are_named_and_never_become_results() {
    for &(name, experiment, damage, comes, expected) in ATTACKS {
        let on = OnFiles::new(&ALL[experiment]);
        damage(&on.dir.path().join("scenes"));
        let code = match comes {
            LeftOut => 3,
            Refused(code) => code,
            Answered => 0,
        };
        let told = words(&on.run("run", &[], code));
        assert!(told.contains(expected), "{name}: {told}");
        let results = fs::read(on.out("run").join("results.json"));
        let found = results.as_ref().ok().map(|bytes| {
            let results: Value = serde_json::from_slice(bytes).expect("JSON");
            let failed = results["failed"].as_array().map_or(0, Vec::len);
            (results["items"].as_u64().expect("a number"), failed)
        });
        let wanted = match comes {
            LeftOut => Some((8, 1)),
            Refused(_) => None,
            Answered => Some((9, 0)),
        };
        assert_eq!(found, wanted, "{name}: {told}");
        assert!(!matches!(comes, Refused(_)) || !on.out("run").exists(), "{name}: something was written");
    }
}
