//! The miniature scenes as a dataset.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::segmentation::{self, DenseImage, LabelledPixels, NamedClass, SceneLabels, SegmentedImage};
use super::{LabelledImage, Source};
use crate::error::{Error, Result};
use crate::mini::{self, SceneSpec, Split};

/// Maximum number of scenes of a dataset. All scenes are listed before the first one is drawn.
const MOST_SCENES: u64 = 1_000_000;

/// `[dataset.mini]`: procedural scenes. Whole images carry the class of their one object. Pixels are labelled with the
/// exact masks of the classes that `protocol` searches or, where every pixel needs a class, with the classes of all objects.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MiniConfig {
    /// Number of scenes, at least 1.
    pub count: u64,
    /// Seed of the scenes.
    #[serde(default)]
    pub seed: u64,
    /// Side of a scene in pixels.
    #[serde(default = "MiniConfig::default_size")]
    pub size: usize,
    /// Part of the data set.
    #[serde(default = "MiniConfig::default_split")]
    pub split: Split,
    /// Number of objects in a scene.
    #[serde(default, skip_serializing_if = "Objects::is_one")]
    pub objects: Objects,
    /// Which classes are searched in a scene. Default: that of the main object.
    #[serde(default, skip_serializing_if = "MiniProtocol::is_default")]
    pub protocol: MiniProtocol,
}

/// Which classes are searched in a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MiniProtocol {
    /// The class of the scene's main object; all other objects belong to the background.
    #[default]
    LeadingClass,
    /// The classes of all objects.
    MultiClass,
}

impl MiniProtocol {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Range of the number of objects in a scene; all numbers in it are equally likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// Smallest number of objects, at least 1.
    pub from: usize,
    /// Largest number of objects.
    pub to: usize,
}

impl Default for Objects {
    fn default() -> Self {
        Self { from: 1, to: 1 }
    }
}

impl Objects {
    fn is_one(&self) -> bool {
        *self == Self::default()
    }
}

impl MiniConfig {
    fn default_size() -> usize {
        64
    }

    fn default_split() -> Split {
        Split::Val
    }

    pub(super) fn items(&self) -> Result<Vec<LabelledImage>> {
        if !self.objects.is_one() {
            return Err(Error::Setting {
                setting: "dataset.mini.objects",
                reason:
                    "a label for the whole image needs scenes of one object; leave `objects` out, or use an \
                         experiment that reads pixel labels"
                        .into(),
            });
        }
        self.refuse_protocol("a label for the whole image")?;
        let spec = self.spec()?;
        let &Self { seed, split, .. } = self;
        let item = |index| {
            let label = mini::leading_class(seed, split, index).label();
            LabelledImage {
                id: self.id(index),
                label,
                source: Source::Scene { spec: spec.clone(), seed, split, index },
            }
        };
        Ok((0..self.count).map(item).collect())
    }

    pub(super) fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        let spec = self.spec()?;
        let &Self { seed, split, .. } = self;
        let item = |index| {
            let (classes, labels) = match self.protocol {
                MiniProtocol::LeadingClass => {
                    let name = mini::leading_class(seed, split, index).name().to_owned();
                    (vec![NamedClass { label: 1, name }], SceneLabels::Leading)
                }
                MiniProtocol::MultiClass => {
                    let mut classes = mini::classes(&spec, seed, split, index);
                    classes.sort_by_key(|class| class.label());
                    (classes.into_iter().map(named).collect(), SceneLabels::All)
                }
            };
            let source = segmentation::Source::Scene { spec: spec.clone(), seed, split, index, labels };
            SegmentedImage::new(self.id(index), classes, source)
        };
        Ok((0..self.count).map(item).collect())
    }

    /// Returns the scenes with all of their objects: the background is class 0 and the ten shapes follow.
    pub(super) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        self.refuse_protocol("a class for every pixel")?;
        let spec = self.spec()?;
        let &Self { seed, split, .. } = self;
        let item = |index| {
            let labels = SceneLabels::All;
            let source = segmentation::Source::Scene { spec: spec.clone(), seed, split, index, labels };
            DenseImage::new(self.id(index), source)
        };
        let shapes = mini::Class::ALL.map(mini::Class::name);
        let classes = std::iter::once("background").chain(shapes).map(str::to_owned).collect();
        Ok(LabelledPixels { classes, items: (0..self.count).map(item).collect() })
    }

    /// Fails if a protocol was chosen although `needed`, which the experiment reads, does not depend on it.
    fn refuse_protocol(&self, needed: &str) -> Result<()> {
        if self.protocol.is_default() {
            return Ok(());
        }
        Err(Error::Setting {
            setting: "dataset.mini.protocol",
            reason: format!(
                "this experiment needs {needed} and searches for no classes; leave `protocol` out"
            ),
        })
    }

    fn spec(&self) -> Result<SceneSpec> {
        if !(1..=MOST_SCENES).contains(&self.count) {
            return Err(Error::Setting {
                setting: "dataset.mini.count",
                reason: format!("must lie between 1 and {MOST_SCENES}, found {}", self.count),
            });
        }
        Ok(SceneSpec::new(self.size, self.objects.from..=self.objects.to)?)
    }

    fn id(&self, index: u64) -> String {
        format!("{}-{index:06}", self.split.name())
    }
}

/// Returns a class with its label in [`SceneLabels::All`].
fn named(class: mini::Class) -> NamedClass {
    // There are ten classes.
    NamedClass { label: class.label() as u8 + 1, name: class.name().to_owned() }
}
