//! `rank`.

use eval::analysis::{AnalysisError, AnalysisOptions, TokenList, analyse};
use markov_core::Stop;

use crate::args::{Direction, RankArgs};
use crate::failure::Failure;
use crate::remedy;

/// Number of bounces that are written if only a start is given.
const BOUNCES: usize = 10;

pub(crate) fn rank(args: &RankArgs) -> Result<(), Failure> {
    let together = |lists: &[TokenList]| TokenList::of(lists.iter().flat_map(TokenList::tokens).copied());
    let options = AnalysisOptions {
        alpha: args.alpha,
        teleport: args.teleport.clone(),
        direction: match args.direction {
            Direction::Forward => markov_core::Direction::Forward,
            Direction::Backward => markov_core::Direction::Backward,
        },
        start: args.start,
        bounces: args.start.map(|_| args.bounces.unwrap_or(BOUNCES)),
        drop: together(&args.drop),
        absorb: together(&args.absorb),
        sets: args.sets,
        spectrum: args.spectrum,
        spectrum_tolerance: args.spectrum_tolerance,
        tolerance: args.tolerance,
        stop: if args.reference_stop { Stop::reference() } else { Stop::strict() },
    };
    let found = analyse(&args.file, &args.keys, &options, &args.out).map_err(eval::Error::from)?;
    found.notes.iter().for_each(|note| say!("{}", remedy::of_note(note)));
    if found.written {
        say!("written: {}", args.out.display());
    }
    match found.incomplete {
        Some(missing) => Err(eval::Error::from(AnalysisError::Incomplete(missing)).into()),
        None => Ok(()),
    }
}
