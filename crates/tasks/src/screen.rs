//! Batches in which a network returns numbers that are not finite for some items.

use models::NotFinite;

use crate::error::{Error, Result};

/// The items of a batch that have results, and those that a network failed on, each with the reason.
pub(crate) struct Screened<I, R> {
    pub(crate) answered: Vec<(I, R)>,
    pub(crate) failed: Vec<(I, NotFinite)>,
}

/// Returns the results of `run` for `items`, one each. If a network's output is not finite for some of them, `run` is
/// called again with the others.
///
/// # Errors
/// The errors of `run` except [`models::Error::NotFinite`].
pub(crate) fn screen<I: Copy, R>(
    mut items: Vec<I>,
    mut run: impl FnMut(&[I]) -> Result<Vec<R>>,
) -> Result<Screened<I, R>> {
    let mut failed = Vec::new();
    while !items.is_empty() {
        let error = match run(&items) {
            Ok(results) => {
                return Ok(Screened { answered: items.into_iter().zip(results).collect(), failed });
            }
            Err(Error::Model(error)) => error.into_not_finite()?,
            Err(other) => return Err(other),
        };
        if error.rows.iter().all(|&row| row >= items.len()) {
            return Err(models::Error::from(error).into());
        }
        let mut row = 0..;
        items.retain(|&item| {
            let bad = row.next().is_some_and(|row| error.rows.contains(&row));
            if bad {
                failed.push((item, error.clone()));
            }
            !bad
        });
    }
    Ok(Screened { answered: Vec::new(), failed })
}

#[cfg(test)]
mod tests {
    use models::Kind;

    use super::*;

    /// A network that fails on the items `bad`, two at a time.
    fn run(bad: &[usize], items: &[usize]) -> Result<Vec<usize>> {
        let rows: Vec<usize> = (0..items.len()).filter(|&row| bad.contains(&items[row])).take(2).collect();
        if rows.is_empty() {
            return Ok(items.iter().map(|item| 10 * item).collect());
        }
        let error = NotFinite { output: "logits", layer: None, kind: Kind::Half, rows, text: None };
        Err(models::Error::from(error).into())
    }

    #[test]
    fn items_that_the_network_fails_on_do_not_take_their_neighbours_along() -> Result<()> {
        let found = screen((0..6).collect(), |items| run(&[0, 2, 5], items))?;
        assert_eq!(found.answered, [(1, 10), (3, 30), (4, 40)]);
        let failed: Vec<usize> = found.failed.iter().map(|(item, _)| *item).collect();
        assert_eq!(failed, [0, 2, 5]);
        let all = screen((0..3).collect(), |items| run(&[0, 1, 2], items))?;
        assert_eq!((all.answered.len(), all.failed.len()), (0, 3));
        Ok(())
    }

    #[test]
    fn an_error_that_names_no_item_of_the_batch_is_returned() {
        let error = NotFinite { output: "logits", layer: None, kind: Kind::Half, rows: vec![7], text: None };
        let run = |_: &[usize]| Err::<Vec<usize>, _>(models::Error::from(error.clone()).into());
        assert!(screen(vec![1, 2], run).is_err());
    }
}
