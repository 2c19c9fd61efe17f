//! Writes scenes of the miniature data set as PNGs, with labels, masks and captions: what the miniature models are
//! trained on.
//!
//! ```text
//! cargo run --release -p tasks --example mini_export -- --out DIR --split train --count 60000 --size 64 --seed 0
//! ```

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use tasks::mini::{SceneSpec, Split, export};

const USAGE: &str = "usage: mini_export --out DIR [--split train|val] [--count N] [--size PIXELS] [--seed S] \
                     [--objects N or LOW-HIGH]";

struct Arguments {
    out: PathBuf,
    split: Split,
    count: u64,
    size: usize,
    seed: u64,
    objects: RangeInclusive<usize>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let mut out = None;
    let (mut split, mut count, mut size, mut seed, mut objects) = (Split::Train, 1000, 64, 0, 1..=1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
        let bad = |error: &dyn Error| format!("{flag} {value}: {error}\n{USAGE}");
        match flag.as_str() {
            "--out" => out = Some(PathBuf::from(value)),
            "--split" => split = value.parse()?,
            "--count" => count = value.parse().map_err(|error| bad(&error))?,
            "--size" => size = value.parse().map_err(|error| bad(&error))?,
            "--seed" => seed = value.parse().map_err(|error| bad(&error))?,
            "--objects" => {
                let (low, high) = value.split_once('-').unwrap_or((&value, &value));
                let end = |text: &str| text.parse::<usize>().map_err(|error| bad(&error));
                objects = end(low)?..=end(high)?;
            }
            _ => return Err(format!("there is no option {flag}\n{USAGE}").into()),
        }
    }
    let out = out.ok_or_else(|| format!("--out DIR is missing\n{USAGE}"))?;
    Ok(Arguments { out, split, count, size, seed, objects })
}

fn run() -> Result<(), Box<dyn Error>> {
    let Arguments { out, split, count, size, seed, objects } = parse(std::env::args().skip(1))?;
    let spec = SceneSpec::new(size, objects)?;
    export(&out, &spec, seed, split, count)?;
    println!("{count} scenes of split {} (seed {seed}, {size} pixels) in {}", split.name(), out.display());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
