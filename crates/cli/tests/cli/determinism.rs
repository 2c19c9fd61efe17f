//! Attacks: parts of a run that are computed with different numbers of threads. Last digits of some networks depend on it, so
//! resuming, a shard and a merge say it.

use std::path::Path;
use std::process::Output;

use crate::common::{arg, scratch, tokenrank, words};
use crate::experiments::{ALL, segments};

/// One part of a run, made with this number of threads.
#[derive(Clone, Copy)]
enum Part {
    /// The whole run.
    Whole(&'static str),
    /// The whole run, of which only the first batch is kept, as if it had been killed.
    Cut(&'static str),
    /// A shard of two.
    Shard(&'static str, &'static str),
    /// The merge of the shards.
    Merge(&'static str),
}
use Part::{Cut, Merge, Shard, Whole};

/// Parts of a run in their order, and what the last one must say.
type Case = (&'static [Part], Option<&'static str>);

const CASES: &[Case] = &[
    (&[Cut("1"), Whole("1")], None),
    (&[Cut("1"), Whole("2")], Some("was computed with 1 thread, the rest with 2")),
    (&[Cut("2"), Whole("1")], Some("was computed with 2 threads, the rest with 1")),
    (&[Shard("1/2", "2"), Shard("2/2", "2"), Merge("1")], None),
    (
        &[Shard("1/2", "1"), Shard("2/2", "2")],
        Some("shard-1-of-2 was computed with 1 thread, the rest with 2"),
    ),
    (
        &[Shard("2/2", "1"), Shard("1/2", "2"), Merge("2")],
        Some("was computed with 1 thread, the rest with 2"),
    ),
];

fn run(out: &Path, part: Part) -> Output {
    let small = &ALL[0];
    let (mut command, threads) = match part {
        Whole(threads) | Cut(threads) => (small.command(out), threads),
        Shard(shard, threads) => {
            let mut command = small.command(out);
            command.args(["--shard", shard]);
            (command, threads)
        }
        Merge(threads) => {
            let mut command = tokenrank();
            command.args(["merge", arg(out)]);
            (command, threads)
        }
    };
    let output = command.env("OMP_NUM_THREADS", threads).output().expect("the binary starts");
    assert!(output.status.success(), "{}", words(&output));
    if matches!(part, Cut(_)) {
        let records = out.join("records.jsonl");
        let first = segments(&std::fs::read(&records).expect("records")).remove(&0).expect("the first batch");
        std::fs::write(&records, first).expect("writable");
        std::fs::remove_file(out.join("results.json")).expect("results");
    }
    output
}

#[test]
fn other_numbers_of_threads_are_said() {
    for (parts, expected) in CASES {
        let dir = scratch();
        let out = dir.path().join("run");
        let outputs: Vec<Output> = parts.iter().map(|&part| run(&out, part)).collect();
        let told = words(outputs.last().expect("a part"));
        match expected {
            Some(expected) => assert!(told.contains(expected) && told.contains("OMP_NUM_THREADS"), "{told}"),
            None => assert!(!told.contains("thread"), "{told}"),
        }
    }
}
