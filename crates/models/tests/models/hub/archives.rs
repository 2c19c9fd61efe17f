//! Archives of data sets that are hostile or damaged, and files at web addresses with published hashes.

use std::path::Path;

use md5::{Digest, Md5};
use models::hub::{Hub, UnpackedFolder, WebFile};
use zip::CompressionMethod;

use super::server::{Reply, Server, sha256};
use crate::torch_file::archive;

fn file(url: &str) -> WebFile {
    WebFile {
        name: "data".into(),
        url: url.into(),
        licence: "MIT".into(),
        size: None,
        sha256: None,
        md5: None,
    }
}

fn folder(from: &str, to: &Path) -> UnpackedFolder {
    UnpackedFolder { from: from.into(), to: to.into() }
}

/// The names of a folder, with hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

/// Unpacks `data/` of an archive. Returns the refusal.
fn unpack(bytes: &[u8]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (given, root) = (dir.path().join("data.zip"), dir.path().join("root"));
    std::fs::create_dir(&root).expect("writable");
    std::fs::write(&given, bytes).expect("writable");
    let hub = Hub::at("http://127.0.0.1:1", &dir.path().join("cache"));
    let to = root.join("data");
    let done = hub.fetch_archive(&file("http://h/data.zip"), Some(&given), &[folder("data/", &to)], &mut ());
    match done {
        Ok(()) => Ok(names(&to)),
        Err(error) => {
            assert!(names(&root).is_empty(), "{error}: {:?} was left", names(&root));
            assert_eq!(names(dir.path()), ["cache", "data.zip", "root"], "{error}");
            Err(error.to_string())
        }
    }
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(entries, CompressionMethod::Deflated)
}

/// A tar archive with the names as they are: the library refuses to write most of these.
fn tar(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, content) in entries {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = *kind;
        header[157..168].copy_from_slice(b"/etc/passwd");
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend(header);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn archives_are_unpacked_whole_or_not_at_all() {
    let good: [(&str, &[u8]); 3] = [("data/a.png", b"a"), ("data/b.png", b"b"), ("other/c.png", b"c")];
    assert_eq!(unpack(&zip(&good)), Ok(vec!["a.png".into(), "b.png".into()]));
    let in_tar = tar(&[("./data/a.png", b'0', b"a"), ("data/", b'5', b""), ("data/b.png", b'0', b"b")]);
    assert_eq!(unpack(&in_tar), Ok(vec!["a.png".into(), "b.png".into()]));

    let mut damaged = zip(&[("data/a.png", &[7; 5000])]);
    let at = damaged.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
    // The checksum in the directory.
    damaged[at + 16] ^= 1;
    let bomb = {
        let mut bytes = zip(&[("data/a.png", b"a")]);
        let at = bytes.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
        bytes[at + 24..at + 28].copy_from_slice(&u32::MAX.wrapping_sub(1).to_le_bytes());
        bytes
    };
    let whole = zip(&good);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (zip(&[("data/../../evil", b"x")]), "leads out of its folder"),
        (zip(&[("data//etc/evil", b"x")]), "leads out of its folder"),
        (zip(&[("data/..", b"x")]), "leads out of its folder"),
        (zip(&[("data/a\\b", b"x")]), "leads out of its folder"),
        (zip(&[("data/a", b"x"), ("data/a", b"y")]), "occurs twice"),
        (zip(&[("data/a", b"x"), ("data/a/b", b"y")]), "cannot create"),
        (zip(&[("other/a", b"x")]), "no files below `data/`"),
        (zip(&[("/data/a", b"x")]), "no files below `data/`"),
        (damaged, "is damaged"),
        (bomb, "more bytes than the archive can hold"),
        (whole[..whole.len() - 10].to_vec(), "is damaged"),
        (b"PK\x03\x04".to_vec(), "is damaged"),
        (b"<html>login</html>".to_vec(), "neither a whole zip nor a whole tar"),
        (Vec::new(), "no files below"),
        (tar(&[("data/../evil", b'0', b"x")]), "leads out of its folder"),
        (tar(&[("data/link", b'2', b"")]), "not a regular file"),
        (tar(&[("data/hard", b'1', b"")]), "not a regular file"),
        (tar(&[("data/device", b'3', b"")]), "not a regular file"),
        (tar(&[("data/a", b'0', &[7; 2000])])[..1500].to_vec(), "another size than the archive says"),
    ];
    for (i, (bytes, word)) in cases.iter().enumerate() {
        let message = unpack(bytes).expect_err(word);
        assert!(message.contains(word), "case {i}: {word} is not in {message}");
    }
}

#[test]
fn what_a_killed_process_has_left_is_replaced() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let given = dir.path().join("data.zip");
    std::fs::write(&given, zip(&[("data/a.png", b"a")])).expect("writable");
    let hub = Hub::at("http://127.0.0.1:1", &dir.path().join("cache"));
    let root = dir.path().join("root");
    let to = root.join("data");
    std::fs::create_dir_all(root.join(".data.unpacking/old")).expect("writable");
    std::fs::create_dir(&to).expect("writable");
    let get =
        || hub.fetch_archive(&file("http://h/data.zip"), Some(&given), &[folder("data/", &to)], &mut ());
    get().expect("unpacked");
    assert_eq!((names(&root), names(&to)), (vec!["data".into()], vec!["a.png".to_owned()]));
    // What is there stays.
    std::fs::write(to.join("mine.png"), b"").expect("writable");
    get().expect("nothing to do");
    assert_eq!(names(&to), ["a.png", "mine.png"]);
    // A link in the place of the scratch folder is removed, and not followed.
    #[cfg(unix)]
    {
        let victim = dir.path().join("victim");
        std::fs::create_dir(&victim).expect("writable");
        std::fs::write(victim.join("precious"), b"").expect("writable");
        std::fs::remove_dir_all(&to).expect("removed");
        std::os::unix::fs::symlink(&victim, root.join(".data.unpacking")).expect("a link");
        get().expect("unpacked");
        assert_eq!((names(&victim), names(&to)), (vec!["precious".to_owned()], vec!["a.png".to_owned()]));
    }
}

#[test]
fn published_hashes_and_sizes_decide() {
    let content = b"what was published".to_vec();
    let served = content.clone();
    let server = Server::start(move |_| Reply { status: 200, content: served.clone(), ..Reply::default() });
    let md5 = models::hex(Md5::digest(&content));
    let good = WebFile {
        size: Some(content.len() as u64),
        sha256: Some(sha256(&content)),
        md5: Some(md5.clone()),
        ..file(&format!("{}/folder/data.bin?token=secret", server.url()))
    };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let hub = Hub::at(&server.url(), &dir.path().join("cache")).with_pause(std::time::Duration::ZERO);
    let to = dir.path().join("data.bin");
    for (wrong, word) in [
        (WebFile { size: Some(17), ..good.clone() }, "its size is 18, expected 17"),
        (WebFile { sha256: Some(sha256(b"other")), ..good.clone() }, "its SHA-256 is"),
        (WebFile { md5: Some(models::hex(Md5::digest(b"other"))), ..good.clone() }, "its MD5 is"),
    ] {
        let error = hub.fetch_file(&wrong, &to, &mut ()).expect_err(word).to_string();
        assert!(error.contains(word) && !error.contains("secret"), "{error}");
        assert!(names(dir.path()).iter().all(|name| name == "cache"), "{:?}", names(dir.path()));
    }
    hub.fetch_file(&good, &to, &mut ()).expect("the published file");
    assert_eq!(std::fs::read(&to).expect("there"), content);
    let asked = server.requests().len();
    hub.fetch_file(&good, &to, &mut ()).expect("it is there");
    assert_eq!(server.requests().len(), asked);
    std::fs::write(&to, b"changed since then").expect("writable");
    let error = hub.fetch_file(&good, &to, &mut ()).expect_err("damaged").to_string();
    assert!(error.contains("its SHA-256 is"), "{error}");
    assert!(hub.with_offline(true).fetch_file(&good, &dir.path().join("new"), &mut ()).is_err());
}
