//! The content of `show.json`, with the numbers behind the figures.

use std::path::PathBuf;

use models::Stream;
use serde_json::{Value, json};

use super::Scene;
use super::blocks::Block;
use super::findings::ChainFindings;
use super::tokens::{Origin, Spread};

/// The source of the attention maps, as recorded in `show.json`.
pub(super) struct Record {
    pub model: PathBuf,
    /// Path of the image; `None` if the network generated it.
    pub image: Option<PathBuf>,
    /// Path of the reference image, if there is one.
    pub reference: Option<PathBuf>,
    /// Settings that only some networks have.
    pub settings: Vec<(&'static str, Value)>,
}

impl Record {
    /// Returns the content of `show.json`.
    pub(super) fn into_json(self, scene: &Scene) -> Value {
        let Scene { image, tokens, start: Origin { spread, name }, findings, drawing, .. } = scene;
        let steps = |chain: &ChainFindings| chain.steps();
        let peak = spread.peak();
        let mut start = json!({ "state": peak, "token": tokens.in_sequence(peak), "name": name });
        match spread {
            Spread::Even(states) if tokens.layout.text > 0 => start["states"] = states.clone().collect(),
            Spread::Even(_) => {}
            Spread::Weighted(weights) => start["distribution"] = json!(weights),
        }
        let mut settings = json!({
            "alpha": drawing.alpha,
            "bounces": drawing.bounces,
            "layers": findings.blocks().into_iter().map(named).collect::<Vec<_>>(),
            "picture": [image.height, image.width],
            "states": tokens.layout,
            "start": start,
        });
        for (setting, value) in self.settings {
            settings[setting] = value;
        }
        json!({
            "schema": 1,
            "model": self.model,
            "image": self.image,
            "settings": settings,
            "lambda2": findings.layers.iter().map(|layer| &layer.lambda2).collect::<Vec<_>>(),
            "layers": findings.layers.iter().map(|layer| &layer.mean).collect::<Vec<_>>(),
            "average": findings.average,
            "steps": {
                "layers": findings.layers.iter().map(|layer| steps(&layer.mean)).collect::<Vec<_>>(),
                "average": steps(&findings.average),
            },
            "forward": findings.forward,
            "backward": findings.backward,
            "metastable": findings.metastable,
        })
    }
}

/// Returns the name of a block as in the tensors of `tokenrank attend`, or its number if the network has only one stream.
pub(super) fn named(block: Block) -> Value {
    match block.stream {
        Stream::Dual | Stream::Single => json!(format!("{}.{}", block.stream, block.number)),
        Stream::Unet(_) => json!(block.stream.to_string()),
        Stream::Vision | Stream::Text | Stream::T5 | Stream::Concept | Stream::Autoencoder => {
            json!(block.number)
        }
    }
}
