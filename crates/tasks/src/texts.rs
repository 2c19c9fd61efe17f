//! Encoding of many texts, some of which a network cannot encode.

use std::collections::{BTreeMap, BTreeSet};

use models::NotFinite;

use crate::error::Result;

/// Number of texts that may fail in an encoder before the run ends: each costs another round of encoding.
const MOST_BAD: usize = 8;

/// Encoded texts, and the reasons for those whose embeddings are not finite.
pub(crate) type Encoded<T> = (BTreeMap<String, T>, BTreeMap<String, NotFinite>);

/// Encodes texts with `encode`, which returns an embedding for each. Texts whose embeddings are not finite are left out, and the
/// others encoded again.
///
/// # Errors
/// No text can be encoded, or many cannot; the other errors of `encode`.
pub(crate) fn encode_each<T>(
    texts: BTreeSet<String>,
    encode: impl Fn(&[String]) -> models::Result<Vec<T>>,
) -> Result<Encoded<T>> {
    let mut texts: Vec<String> = texts.into_iter().collect();
    let mut bad = BTreeMap::new();
    loop {
        let error = match encode(&texts) {
            Ok(encoded) => return Ok((texts.into_iter().zip(encoded).collect(), bad)),
            Err(error) => error.into_not_finite()?,
        };
        match error.text.clone().filter(|_| bad.len() < MOST_BAD && texts.len() > 1) {
            Some(text) => {
                texts.retain(|other| *other != text);
                bad.insert(text, error);
            }
            None => return Err(models::Error::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use models::Kind;

    use super::*;

    /// An encoder that fails on texts with a `!`.
    fn encode(texts: &[String]) -> models::Result<Vec<usize>> {
        match texts.iter().find(|text| text.contains('!')) {
            Some(text) => {
                let text = Some(text.clone());
                let output = "text embeddings";
                Err(NotFinite { output, layer: None, kind: Kind::Half, rows: vec![0], text }.into())
            }
            None => Ok(texts.iter().map(String::len).collect()),
        }
    }

    fn texts(each: impl IntoIterator<Item = impl ToString>) -> BTreeSet<String> {
        each.into_iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn texts_that_cannot_be_encoded_do_not_lose_the_others() -> Result<()> {
        let (encoded, bad) = encode_each(texts(["a", "b!", "ccc", "!"]), encode)?;
        assert_eq!(encoded, BTreeMap::from([("a".into(), 1), ("ccc".into(), 3)]));
        assert_eq!(bad.keys().collect::<Vec<_>>(), ["!", "b!"]);
        Ok(())
    }

    #[test]
    fn many_of_them_or_the_only_one_end_the_run() {
        assert!(encode_each(texts(["!"]), encode).is_err());
        assert!(encode_each(texts((0..8).map(|i| format!("{i}!")).chain(["a".into()])), encode).is_ok());
        assert!(encode_each(texts((0..9).map(|i| format!("{i}!")).chain(["a".into()])), encode).is_err());
    }
}
