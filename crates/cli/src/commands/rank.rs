//! `rank`.

use eval::analysis::{AnalysisOptions, analyse};
use markov_core::Stop;

use crate::args::{Direction, RankArgs};
use crate::failure::Failure;

/// Bounces written where only a start is given.
const BOUNCES: usize = 10;

pub fn rank(args: &RankArgs) -> Result<(), Failure> {
    let options = AnalysisOptions {
        alpha: args.alpha,
        direction: match args.direction {
            Direction::Forward => markov_core::Direction::Forward,
            Direction::Backward => markov_core::Direction::Backward,
        },
        bounces: args.start.map(|start| (start, args.bounces.unwrap_or(BOUNCES))),
        spectrum: args.spectrum,
        tolerance: args.tolerance,
        stop: if args.reference_stop { Stop::reference() } else { Stop::strict() },
    };
    analyse(&args.file, args.key.as_deref(), &options, &args.out).map_err(eval::Error::from)?;
    say!("written: {}", args.out.display());
    Ok(())
}
