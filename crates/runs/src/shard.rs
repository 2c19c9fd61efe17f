//! Division of the batches of a manifest between processes.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of several parts that the batches of a manifest are divided into.
///
/// Shards take turns at batches: batch `b`, counted from 0, belongs to shard `b mod of + 1`. Batches do not depend on the number
/// of shards, so any sharding gives the records of a single run, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "AsWritten")]
pub struct Shard {
    /// Number of the shard, from 1.
    pub index: usize,
    /// Number of shards.
    pub of: usize,
}

/// The numbers as written in a file, which may be invalid.
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

    /// Reads `2/4`; `auto`, which takes both numbers from the variables that Slurm sets in a job array; or `auto/4`, which takes
    /// the first from a Slurm job array or a Kubernetes Indexed Job.
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
            value.parse().map(Some).map_err(|_| format!("{name} must be a number, found `{value}`"))
        };
        let (index, of) = match text.split_once('/') {
            None if text == "auto" => {
                let of = count("SLURM_ARRAY_TASK_COUNT")?
                    .ok_or("auto: SLURM_ARRAY_TASK_COUNT is not set; outside a Slurm job array give the number of shards, \
                            as in auto/8")?;
                (from_environment(count)?, of)
            }
            Some(("auto", of)) => {
                let of = of.parse().map_err(|_| format!("`{of}` is not a number of shards"))?;
                // `sbatch --array=3` is an array of one task, number 3. Its variables do not tell which of eight shards that is.
                match count("SLURM_ARRAY_TASK_COUNT")? {
                    Some(tasks) if tasks != of && variable("SLURM_ARRAY_TASK_ID").is_some() => {
                        return Err(format!(
                            "auto/{of}: the Slurm job array has {tasks} of the {of} tasks, and its variables do not tell which; \
                             give the shard, as in $SLURM_ARRAY_TASK_ID/{of}"
                        ));
                    }
                    _ => (from_environment(count)?, of),
                }
            }
            Some((index, of)) => {
                let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a number"));
                (number(index)?, number(of)?)
            }
            None => {
                return Err(format!(
                    "`{text}` is not a shard; write 2/4 (the second of four), auto or auto/4"
                ));
            }
        };
        Self::new(index, of)
    }

    /// Returns the name of the shard's folder below the folder of the run.
    pub fn folder(&self) -> String {
        format!("shard-{}-of-{}", self.index, self.of)
    }
}

/// Returns the number, from 1, of this task of a Slurm job array or of this pod of a Kubernetes Indexed Job.
fn from_environment(count: impl Fn(&str) -> Result<Option<usize>, String>) -> Result<usize, String> {
    if let Some(task) = count("SLURM_ARRAY_TASK_ID")? {
        let first = count("SLURM_ARRAY_TASK_MIN")?.unwrap_or(1);
        let step = count("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        return match task.checked_sub(first) {
            Some(past) if past % step == 0 => Ok(1 + past / step),
            _ => Err(format!("SLURM_ARRAY_TASK_ID {task} is not one of {first}, {}, …", first + step)),
        };
    }
    match count("JOB_COMPLETION_INDEX")? {
        Some(completion) => Ok(1 + completion),
        None => Err(
            "auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside a Slurm job array \
                     or a Kubernetes Indexed Job give the shard, as in 2/4"
                .into(),
        ),
    }
}

/// A manifest divided into batches, and the shard whose batches are to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Number of items of the whole manifest.
    pub items: usize,
    /// Number of items of a batch; the last one may have fewer.
    pub batch: usize,
    /// `None` if one process runs all batches.
    pub shard: Option<Shard>,
}

impl Batches {
    /// Returns the batches to be run, in order.
    pub fn mine(self) -> impl Iterator<Item = Range<usize>> {
        let (first, step) = self.turns();
        (first..self.count()).step_by(step).map(move |batch| self.range(batch))
    }

    /// Returns the number of items to be run, without a loop, because the numbers of a damaged header may be huge.
    pub fn total(self) -> usize {
        let (first, step) = self.turns();
        let mine = self.count().saturating_sub(first).div_ceil(step);
        // The last batch of the manifest may be short.
        match self.count().checked_sub(1).filter(|&last| last >= first && (last - first) % step == 0) {
            Some(last) => (mine - 1) * self.batch + self.range(last).len(),
            None => mine * self.batch,
        }
    }

    /// Returns the number of batches of the whole manifest.
    pub fn count(self) -> usize {
        self.items.div_ceil(self.batch)
    }

    /// Returns the first batch to be run, and the step to the next.
    fn turns(self) -> (usize, usize) {
        self.shard.map_or((0, 1), |shard| (shard.index - 1, shard.of))
    }

    /// Whether these items are one of the batches to be run.
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
    fn shards_are_parsed_or_read_from_the_environment() {
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
    fn invalid_shards_are_refused() {
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
            // `sbatch --array=3`: one of eight tasks submitted again alone.
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
        `two` is not a shard; write 2/4 (the second of four), auto or auto/4
        `four` is not a number
        auto: SLURM_ARRAY_TASK_COUNT is not set; outside a Slurm job array give the number of shards, as in auto/8
        auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside a Slurm job array or a Kubernetes Indexed Job give the shard, as in 2/4
        auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside a Slurm job array or a Kubernetes Indexed Job give the shard, as in 2/4
        SLURM_ARRAY_TASK_ID must be a number, found `x`
        auto: SLURM_ARRAY_TASK_COUNT is not set; outside a Slurm job array give the number of shards, as in auto/8
        auto/8: the Slurm job array has 1 of the 8 tasks, and its variables do not tell which; give the shard, as in $SLURM_ARRAY_TASK_ID/8
        ");
    }

    proptest! {
        #[test]
        fn every_batch_belongs_to_exactly_one_shard(items in 0usize..200, batch in 1usize..20, of in 1usize..12) {
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
