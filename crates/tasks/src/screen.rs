//! Batches in which a network returns numbers that are not finite for some items.

use crate::error::{Error, Result};
use crate::task::{Answer, Failure};

/// Returns an answer for each of `items`. If a network's output is not finite for some of them, they are failures, and `run`
/// is called again with the others. `id` returns the name of an item.
///
/// # Errors
/// The errors of `run` except [`models::Error::NotFinite`].
pub(crate) fn screen<'a, I: Copy, T: Into<Answer<R>>, R>(
    mut items: Vec<I>,
    id: impl Fn(I) -> &'a str,
    mut run: impl FnMut(&[I]) -> Result<Vec<T>>,
) -> Result<Vec<(I, Answer<R>)>> {
    let mut answers = Vec::new();
    while !items.is_empty() {
        let error = match run(&items) {
            Ok(results) => {
                answers.extend(items.into_iter().zip(results.into_iter().map(Into::into)));
                break;
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
                answers.push((item, Answer::Failed(Failure::of_network(id(item), &error))));
            }
            !bad
        });
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use models::{Kind, NotFinite};

    use super::*;

    const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    /// A network that fails on the items `bad`, two at a time.
    fn run(bad: &[usize], items: &[usize]) -> Result<Vec<usize>> {
        let rows: Vec<usize> = (0..items.len()).filter(|&row| bad.contains(&items[row])).take(2).collect();
        if rows.is_empty() {
            return Ok(items.iter().map(|item| 10 * item).collect());
        }
        let error = NotFinite { output: "logits", layer: None, kind: Kind::Half, rows, text: None };
        Err(models::Error::from(error).into())
    }

    /// The record of each item, or its name if it failed, in the order of the items.
    fn sorted(mut answers: Vec<(usize, Answer<usize>)>) -> Vec<Result<usize, String>> {
        answers.sort_by_key(|(item, _)| *item);
        let each = answers.into_iter().map(|(_, answer)| match answer {
            Answer::Record(record) => Ok(record),
            Answer::Failed(failure) => Err(failure.id),
        });
        each.collect()
    }

    #[test]
    fn items_that_the_network_fails_on_do_not_take_their_neighbours_along() -> Result<()> {
        let found = screen((0..6).collect(), |item| IDS[item], |items| run(&[0, 2, 5], items))?;
        let failed = |id: &str| Err(id.to_owned());
        assert_eq!(sorted(found), [failed("a"), Ok(10), failed("c"), Ok(30), Ok(40), failed("f")]);
        let all = screen((0..3).collect(), |item| IDS[item], |items| run(&[0, 1, 2], items))?;
        assert_eq!(sorted(all), ["a", "b", "c"].map(failed));
        Ok(())
    }

    #[test]
    fn an_error_that_names_no_item_of_the_batch_is_returned() {
        let error = NotFinite { output: "logits", layer: None, kind: Kind::Half, rows: vec![7], text: None };
        let run = |_: &[usize]| Err::<Vec<usize>, _>(models::Error::from(error.clone()).into());
        let found: Result<Vec<(usize, Answer<usize>)>> = screen(vec![1, 2], |item| IDS[item], run);
        assert!(found.is_err());
    }
}
