//! Checks `precompiled_charsmap`, sentencepiece's table of character replacements, before it is used.
//!
//! The library that applies the table (`spm_precompiled`) does not check its offsets and panics at one that leads out
//! of it. The layout: the size in bytes of a trie (32 bits), the trie as units of 32 bits (a double array, as in
//! Darts-clone), then the replacements, each ended by a zero byte. A leaf holds the offset of its replacement.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokenizers::normalizers::Precompiled;

/// Maximum length of a replacement, in bytes. The longest of NFKC has 33.
pub(super) const MOST_BYTES: usize = 64;

/// Reads and checks a table.
pub(super) fn read(table: &str) -> Result<Precompiled, String> {
    let table = BASE64_STANDARD.decode(table).map_err(|error| format!("is not valid base64: {error}"))?;
    check(&table)?;
    Precompiled::from(&table).map_err(|error| format!("is damaged: {error}"))
}

/// Follows every path of the trie that a text could take.
fn check(table: &[u8]) -> Result<(), String> {
    let (size, rest) = table.split_first_chunk().ok_or("is shorter than its size")?;
    let size = u32::from_le_bytes(*size) as usize;
    let (trie, replacements) =
        rest.split_at_checked(size / 4 * 4).ok_or_else(|| format!("claims a trie of {size} bytes"))?;
    let trie: Vec<u32> = trie.as_chunks().0.iter().map(|&unit| u32::from_le_bytes(unit)).collect();
    let replacements =
        std::str::from_utf8(replacements).map_err(|_| "has replacements that are not valid UTF-8")?;

    let outside = || "leads out of its trie".to_owned();
    let root = trie.first().ok_or_else(outside)?;
    // Offsets of nodes. The child of a node for a byte is at the offset with the bits of the byte flipped.
    let mut open = vec![offset(*root)];
    let mut seen = vec![false; trie.len()];
    while let Some(node) = open.pop() {
        for byte in 1..=255_usize {
            let place = node ^ byte;
            let unit = *trie.get(place).ok_or_else(outside)?;
            if label(unit) != byte as u32 || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            let next = place ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let leaf = trie.get(next).ok_or_else(outside)?;
                let replacement = (leaf & 0x7fff_ffff) as usize;
                let Some(rest) = replacements.get(replacement..) else {
                    return Err("leads out of its replacements".into());
                };
                let mut beginning = rest.bytes().take(MOST_BYTES + 1);
                if rest.len() > MOST_BYTES && beginning.all(|byte| byte != 0) {
                    return Err(format!("has a replacement of more than {MOST_BYTES} bytes"));
                }
            }
            open.push(next);
        }
    }
    Ok(())
}

fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(trie: &[u32], replacements: &str) -> Vec<u8> {
        let size = (trie.len() * 4) as u32;
        let units = trie.iter().flat_map(|unit| unit.to_le_bytes());
        size.to_le_bytes().into_iter().chain(units).chain(replacements.bytes()).collect()
    }

    /// `a` becomes what stands at `replacement`.
    fn trie(replacement: u32) -> Vec<u32> {
        let mut trie = vec![0; 1024];
        // The root's children begin at 256, those of `a` at 256 ^ 'a' ^ 512.
        trie[0] = 256 << 10;
        let a = 256 ^ usize::from(b'a');
        trie[a] = u32::from(b'a') | 1 << 8 | 512 << 10;
        trie[a ^ 512] = 1 << 31 | replacement;
        trie
    }

    #[test]
    fn offsets_stay_within_the_table() {
        assert_eq!(check(&table(&trie(0), "b\0")), Ok(()));
        let longest = "b".repeat(MOST_BYTES);
        assert_eq!(check(&table(&trie(0), &format!("{longest}\0"))), Ok(()));
        assert_eq!(check(&table(&trie(0), &longest)), Ok(()));
        let (mut beyond, mut leaf) = (trie(0), trie(0));
        beyond[0] = 1 << 20 << 10;
        leaf[256 ^ usize::from(b'a')] = u32::from(b'a') | 1 << 8 | (1 << 12) << 10;
        for (bytes, word) in [
            (Vec::new(), "shorter"),
            (u32::MAX.to_le_bytes().to_vec(), "claims a trie of 4294967295"),
            (table(&[], "b\0"), "out of its trie"),
            (table(&[0], "b\0"), "out of its trie"),
            (table(&beyond, "b\0"), "out of its trie"),
            (table(&leaf, "b\0"), "out of its trie"),
            (table(&trie(9), "b\0"), "out of its replacements"),
            (table(&trie(1), "ä\0"), "out of its replacements"),
            (table(&trie(0), &format!("{longest}b\0")), "more than 64 bytes"),
            (table(&trie(0), &format!("{longest}b")), "more than 64 bytes"),
        ] {
            let message = check(&bytes).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }
}
