//! Lists of tokens in text form: `0,3,60-76`.

use std::fmt;
use std::str::FromStr;

/// Maximum number of tokens in a list, far more than any matrix has.
const MOST: usize = 1 << 20;

/// Token numbers, counted from 0, in ascending order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenList(Vec<usize>);

impl TokenList {
    /// Makes a list of tokens in any order, with or without repetitions.
    pub fn of(tokens: impl IntoIterator<Item = usize>) -> Self {
        let mut tokens: Vec<usize> = tokens.into_iter().collect();
        tokens.sort_unstable();
        tokens.dedup();
        Self(tokens)
    }

    /// Returns the tokens in ascending order.
    pub fn tokens(&self) -> &[usize] {
        &self.0
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for TokenList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for part in text.split(',') {
            let number = |text: &str| {
                text.trim().parse::<usize>().map_err(|_| {
                    format!("`{}` is not a token number; expected a list such as 0,3,60-76", part.trim())
                })
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!("the range {first}-{last} runs backwards; write {last}-{first}"));
            }
            if last - first >= MOST || tokens.len() + (last - first) >= MOST {
                return Err(format!("more than {MOST} tokens are named"));
            }
            tokens.extend(first..=last);
        }
        Ok(Self::of(tokens))
    }
}

/// Formats the list as [`TokenList::from_str`] reads it; three or more consecutive tokens become a range.
impl fmt::Display for TokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [first, _, .., last] => write!(f, "{comma}{first}-{last}")?,
                few => {
                    let few: Vec<String> = few.iter().map(usize::to_string).collect();
                    write!(f, "{comma}{}", few.join(","))?;
                }
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, tokens, written) in [
            ("0", vec![0], "0"),
            ("3, 1,3", vec![1, 3], "1,3"),
            ("60-63,0", vec![0, 60, 61, 62, 63], "0,60-63"),
            ("1,2,5-5", vec![1, 2, 5], "1,2,5"),
        ] {
            let list: TokenList = text.parse().unwrap();
            assert_eq!((list.tokens(), list.to_string().as_str()), (&tokens[..], written));
        }
        for wrong in ["", "a", "1,", "-1", "3-1", "1.5", "0-99999999999", "1-2-3"] {
            wrong.parse::<TokenList>().unwrap_err();
        }
    }
}
