//! `show`.

use models::attend::ChainTokens;
use models::pipeline::PipelineKind;
use models::t5::TokenLookup;
use pages::show::{Drawing, FluxShowOptions, SdShowOptions, ShowOptions, Start};
use pages::show::{show as draw, show_flux, show_sd};

use super::{flux, sd};
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
    let kind = PipelineKind::of(&args.model)?;
    sd::refuse_timestep(args.timestep, kind, &args.model)?;
    flux::refuse_reference(&args.flux, kind, &args.model)?;
    if let Some(kind) = kind.filter(|_| args.without_special) {
        return Err(Failure::usage(format!(
            "--without-special leaves CLS and registers out, and a {kind} pipeline has none; leave it out"
        )));
    }
    let image = || {
        args.image.as_deref().ok_or_else(|| {
            Failure::usage("--image is missing; only a FLUX pipeline makes an image where none is given")
        })
    };
    let shown = match kind {
        Some(PipelineKind::Flux | PipelineKind::FluxKontext) => {
            let prompt = args.prompt.as_deref().ok_or_else(|| flux::one_prompt(0))?;
            let options = FluxShowOptions {
                start,
                drawing,
                layers: flux::layers(args.layers.as_deref())?,
                capture: args.flux.capture_options(prompt, args.image_size),
                reference: args.flux.reference.clone(),
                reference_size: args.flux.reference_size.unwrap_or_default(),
                kind: args.flux.kind(device),
                device,
            };
            show_flux(&args.model, args.image.as_deref(), &options, &args.out)?
        }
        Some(PipelineKind::StableDiffusion) => {
            sd::refuse_flux(&args.model, &args.flux)?;
            let options = SdShowOptions {
                start,
                drawing,
                layers: args.layers.as_deref().map(str::parse).transpose()?,
                capture: sd::capture_options(args.prompt.as_deref(), args.timestep, args.image_size),
                kind: args.flux.kind(device),
                device,
            };
            show_sd(&args.model, image()?, &options, &args.out)?
        }
        None => {
            let others = [(args.prompt.is_some(), "--prompt"), (args.word.is_some(), "--word")];
            flux::refuse(&args.model, &args.flux, &others)?;
            let options = ShowOptions {
                start,
                drawing,
                layers: args.layers.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
                tokens: if args.without_special { ChainTokens::WithoutSpecial } else { ChainTokens::All },
                image_size: args.image_size,
                device,
            };
            draw(&args.model, image()?, &options, &args.out)?
        }
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
