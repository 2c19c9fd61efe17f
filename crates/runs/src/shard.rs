//! Which batches of a manifest a process runs.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of several processes that share a manifest between them.
///
/// Shards take turns at whole batches: batch `b`, counted from 0, belongs to shard `b mod of + 1`. Batches are the same
/// whoever runs them, so any sharding gives the records of a single run, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "AsWritten")]
pub struct Shard {
    /// From 1.
    pub index: usize,
    /// Number of shards.
    pub of: usize,
}

/// Numbers of a file that may be those of no shard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AsWritten {
    index: usize,
    of: usize,
}

impl TryFrom<AsWritten> for Shard {
    type Error = String;

    fn try_from(AsWritten { index, of }: AsWritten) -> Result<Self, String> {
        Self::new(index, of)
    }
}

/// `2/4`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `2/4`; `auto`, both numbers from the variables that Slurm sets in a job array; or `auto/4`, where the first
    /// may also come from a Kubernetes Indexed Job.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, |name| std::env::var(name).ok())
    }
}

impl Shard {
    fn new(index: usize, of: usize) -> Result<Self, String> {
        if of == 0 {
            return Err("a run has at least one shard".into());
        }
        if index == 0 || index > of {
            return Err(format!("there is no shard {index} of {of}; they count from 1 to {of}"));
        }
        Ok(Self { index, of })
    }

    fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let count = |name: &str| -> Result<Option<usize>, String> {
            let Some(value) = variable(name) else { return Ok(None) };
            value.parse().map(Some).map_err(|_| format!("{name} is `{value}`, no number"))
        };
        let (index, of) = match text.split_once('/') {
            None if text == "auto" => {
                let of = count("SLURM_ARRAY_TASK_COUNT")?
                    .ok_or("auto: SLURM_ARRAY_TASK_COUNT is not set; in anything but a Slurm job array say how many shards \
                            there are, as in auto/8")?;
                (from_environment(count)?, of)
            }
            Some(("auto", of)) => {
                let of = of.parse().map_err(|_| format!("`{of}` is no number of shards"))?;
                // `sbatch --array=3` is an array of one task whose first number is 3: which of eight that is, it does not say.
                match count("SLURM_ARRAY_TASK_COUNT")? {
                    Some(tasks) if tasks != of && variable("SLURM_ARRAY_TASK_ID").is_some() => {
                        return Err(format!(
                            "auto/{of}: the Slurm job array has {tasks} of the {of} tasks, and its numbers do not say which; \
                             name the shard, as in $SLURM_ARRAY_TASK_ID/{of}"
                        ));
                    }
                    _ => (from_environment(count)?, of),
                }
            }
            Some((index, of)) => {
                let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
                (number(index)?, number(of)?)
            }
            None => {
                return Err(format!("`{text}` is no shard; write 2/4 (the second of four), auto or auto/4"));
            }
        };
        Self::new(index, of)
    }

    /// The folder of the shard, below that of the run.
    pub fn folder(&self) -> String {
        format!("shard-{}-of-{}", self.index, self.of)
    }
}

/// Index from 1 of this task of a Slurm job array, or of this pod of a Kubernetes Indexed Job.
fn from_environment(count: impl Fn(&str) -> Result<Option<usize>, String>) -> Result<usize, String> {
    if let Some(task) = count("SLURM_ARRAY_TASK_ID")? {
        let first = count("SLURM_ARRAY_TASK_MIN")?.unwrap_or(1);
        let step = count("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        return match task.checked_sub(first) {
            Some(past) if past % step == 0 => Ok(1 + past / step),
            _ => Err(format!("SLURM_ARRAY_TASK_ID {task} is none of {first}, {}, …", first + step)),
        };
    }
    match count("JOB_COMPLETION_INDEX")? {
        Some(completion) => Ok(1 + completion),
        None => Err("auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside of a Slurm job array \
                     or a Kubernetes Indexed Job say which shard this is, as in 2/4"
            .into()),
    }
}

/// A manifest cut into batches, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Items of the whole manifest.
    pub items: usize,
    /// Items of a batch; the last one may have fewer.
    pub batch: usize,
    /// None where one process runs all of them.
    pub shard: Option<Shard>,
}

impl Batches {
    /// Those to be run, in order.
    pub fn mine(self) -> impl Iterator<Item = Range<usize>> {
        let (first, step) = self.turns();
        (first..self.count()).step_by(step).map(move |batch| self.range(batch))
    }

    /// Number of items to be run. Nothing is counted one by one: numbers of a damaged header may be of any size.
    pub fn total(self) -> usize {
        let (first, step) = self.turns();
        let mine = self.count().saturating_sub(first).div_ceil(step);
        // The last batch of all may be short.
        match self.count().checked_sub(1).filter(|&last| last >= first && (last - first) % step == 0) {
            Some(last) => (mine - 1) * self.batch + self.range(last).len(),
            None => mine * self.batch,
        }
    }

    /// Batches of the whole manifest.
    pub fn count(self) -> usize {
        self.items.div_ceil(self.batch)
    }

    /// The first batch to be run, and how far it is to the next.
    fn turns(self) -> (usize, usize) {
        self.shard.map_or((0, 1), |shard| (shard.index - 1, shard.of))
    }

    /// Whether these items are a batch that is to be run.
    pub fn has(self, range: &Range<usize>) -> bool {
        let batch = range.start / self.batch;
        let mine = self.shard.is_none_or(|shard| batch % shard.of == shard.index - 1);
        mine && !range.is_empty() && *range == self.range(batch)
    }

    fn range(self, batch: usize) -> Range<usize> {
        let first = batch.saturating_mul(self.batch);
        first..first.saturating_add(self.batch).min(self.items)
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, set: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match Shard::parse(text, variable) {
            Ok(shard) => shard.to_string(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn shards_are_named_or_told_by_the_environment() {
        let slurm = |id, min, step, count| {
            [("ID", id), ("MIN", min), ("STEP", step), ("COUNT", count)]
                .map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value))
        };
        let with = |text, set: &[(String, &str)]| {
            parse(text, &set.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>())
        };
        assert_eq!(parse("2/4", &[]), "2/4");
        assert_eq!(with("auto", &slurm("3", "0", "1", "8")), "4/8");
        assert_eq!(with("auto", &slurm("8", "1", "1", "8")), "8/8");
        assert_eq!(with("auto", &slurm("21", "1", "10", "3")), "3/3");
        assert_eq!(with("auto/8", &slurm("3", "1", "1", "8")), "3/8");
        assert_eq!(parse("auto/8", &[("JOB_COMPLETION_INDEX", "0")]), "1/8");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        let refused = [
            parse("5/4", &[]),
            parse("0/4", &[]),
            parse("1/0", &[]),
            parse("two", &[]),
            parse("1/four", &[]),
            parse("auto", &[]),
            parse("auto/8", &[]),
            parse("auto", &[("SLURM_ARRAY_TASK_COUNT", "8")]),
            parse("auto/8", &[("SLURM_ARRAY_TASK_ID", "x")]),
            parse("auto", &[("JOB_COMPLETION_INDEX", "0")]),
            // `sbatch --array=3`: one task of eight submitted again, alone.
            parse(
                "auto/8",
                &[
                    ("SLURM_ARRAY_TASK_ID", "3"),
                    ("SLURM_ARRAY_TASK_MIN", "3"),
                    ("SLURM_ARRAY_TASK_STEP", "1"),
                    ("SLURM_ARRAY_TASK_COUNT", "1"),
                ],
            ),
        ];
        assert_snapshot!(refused.join("\n"), @r"
        there is no shard 5 of 4; they count from 1 to 4
        there is no shard 0 of 4; they count from 1 to 4
        a run has at least one shard
        `two` is no shard; write 2/4 (the second of four), auto or auto/4
        `four` is no number
        auto: SLURM_ARRAY_TASK_COUNT is not set; in anything but a Slurm job array say how many shards there are, as in auto/8
        auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside of a Slurm job array or a Kubernetes Indexed Job say which shard this is, as in 2/4
        auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside of a Slurm job array or a Kubernetes Indexed Job say which shard this is, as in 2/4
        SLURM_ARRAY_TASK_ID is `x`, no number
        auto: SLURM_ARRAY_TASK_COUNT is not set; in anything but a Slurm job array say how many shards there are, as in auto/8
        auto/8: the Slurm job array has 1 of the 8 tasks, and its numbers do not say which; name the shard, as in $SLURM_ARRAY_TASK_ID/8
        ");
    }

    proptest! {
        #[test]
        fn every_batch_is_exactly_one_shards(items in 0usize..200, batch in 1usize..20, of in 1usize..12) {
            let of_shard = |index| Batches { items, batch, shard: Some(Shard { index, of }) };
            let whole = Batches { items, batch, shard: None };
            let mut all: Vec<_> = (1..=of).flat_map(|index| of_shard(index).mine()).collect();
            all.sort_by_key(|range| range.start);
            prop_assert_eq!(&all, &whole.mine().collect::<Vec<_>>());
            prop_assert_eq!(all.iter().map(Range::len).sum::<usize>(), items);
            for index in 1..=of {
                let mine = of_shard(index);
                prop_assert_eq!(mine.total(), mine.mine().map(|range| range.len()).sum::<usize>());
            }
            for range in &all {
                let owners = (1..=of).filter(|&index| of_shard(index).has(range)).count();
                prop_assert_eq!(owners, 1);
                prop_assert!(whole.has(range));
                prop_assert!(!whole.has(&(range.start..range.end + 1)));
            }
        }
    }
}
