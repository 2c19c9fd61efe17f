//! `show`.

use eval::show::{ShowOptions, Start, show as draw};
use models::attend::ChainTokens;

use crate::args::ShowArgs;
use crate::failure::Failure;
use crate::print;

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let start = match (args.token, args.patch) {
        (Some(token), _) => Start::Token(token),
        (None, Some((row, col))) => Start::Patch(row, col),
        (None, None) => Start::Middle,
    };
    let options = ShowOptions {
        start,
        bounces: args.bounces,
        layers: args.layers.clone(),
        alpha: args.alpha,
        tokens: if args.without_special { ChainTokens::WithoutSpecial } else { ChainTokens::All },
        sets: args.sets,
        image_size: args.image_size,
        device: models::device::parse(&args.device)?,
    };
    let shown = draw(&args.model, &args.image, &options, &args.out)?;
    print(&shown.summary);
    for file in shown.files {
        eprintln!("written: {}", file.display());
    }
    Ok(())
}
