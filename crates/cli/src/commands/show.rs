//! `show`.

use models::attend::ChainTokens;
use models::flux::pipeline::FluxPipeline;
use models::t5::TokenLookup;
use pages::show::{Drawing, FluxShowOptions, ShowOptions, Start, show as draw, show_flux};

use super::flux;
use crate::args::ShowArgs;
use crate::failure::Failure;
use crate::print;

pub(crate) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let start = match (args.token, args.patch, &args.word) {
        (Some(token), ..) => Start::Token(token),
        (None, Some((row, col)), _) => Start::Patch(row, col),
        (None, None, Some(word)) => Start::Word {
            word: word.clone(),
            lookup: args.token_lookup.map_or(TokenLookup::Mean, TokenLookup::from),
        },
        (None, None, None) => Start::Middle,
    };
    let drawing = Drawing { bounces: args.bounces, alpha: args.alpha, sets: args.sets };
    let device = models::device::parse(&args.device)?;
    let shown = if FluxPipeline::is_pipeline(&args.model) {
        if args.without_special {
            return Err(Failure::usage(
                "--without-special leaves CLS and registers out, and a FLUX pipeline has none; leave it out",
            ));
        }
        let prompt = args.prompt.as_deref().ok_or_else(|| flux::one_prompt(0))?;
        let options = FluxShowOptions {
            start,
            drawing,
            layers: flux::layers(args.layers.as_deref())?,
            capture: args.flux.capture_options(prompt, args.image_size),
            kind: args.flux.kind(device),
            device,
        };
        show_flux(&args.model, args.image.as_deref(), &options, &args.out)?
    } else {
        let others = [(args.prompt.is_some(), "--prompt"), (args.word.is_some(), "--word")];
        flux::refuse(&args.model, &args.flux, &others)?;
        let image = args.image.as_deref().ok_or_else(|| {
            Failure::usage("--image is missing; only a FLUX pipeline makes an image where none is given")
        })?;
        let options = ShowOptions {
            start,
            drawing,
            layers: args.layers.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            tokens: if args.without_special { ChainTokens::WithoutSpecial } else { ChainTokens::All },
            image_size: args.image_size,
            device,
        };
        draw(&args.model, image, &options, &args.out)?
    };
    print(&shown.summary);
    if shown.triangular {
        say!(
            "note: the causal mask alone determines TokenRank here; `tokenrank rank` with --absorb, --drop or --teleport depends on \
             what the network learned"
        );
    }
    for file in shown.files {
        say!("written: {}", file.display());
    }
    Ok(())
}
