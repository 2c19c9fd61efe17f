//! The miniature data set: procedural scenes of shapes, drawn from a seed.
//!
//! A scene consists of one or more objects of ten classes of shapes, with varied colour, size, place and rotation, on a
//! textured background with distractors, together with the exact mask, box, class and colour of each object and a
//! caption. It is a pure function of `(spec, seed, split, index)` and identical on every platform, so the data set
//! needs no files: [`scene`] draws an item in memory, [`export`] writes the same items as PNG files.
//!
//! The geometry lives in the unit square and does not depend on the size in pixels: scene 7 at 256 pixels is scene 7 at
//! 64 pixels, only sharper. `datasets/mini/README.md` shows the scenes; `results/mini/README.md` says how the miniature
//! models were trained on them.

mod background;
mod colour;
mod export;
mod layout;
mod render;
pub(crate) mod rng;
mod shape;
mod spec;

pub use background::Texture;
pub use colour::Colour;
pub use export::{ExportError, export};
pub use layout::{BORDER, SEVERAL_AREA, SINGLE_AREA};
pub use shape::Class;
pub use spec::{SceneSpec, SpecError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use background::{Background, Distractor};
use rng::Rng;

/// Part of the data set a scene belongs to. The parts are drawn from independent random streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Scenes for training models.
    Train,
    /// Scenes for evaluation; no model was trained on them.
    Val,
}

impl Split {
    /// Both splits.
    pub const ALL: [Split; 2] = [Split::Train, Split::Val];

    /// The name of the split, `train` or `val`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        Split::ALL
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| SpecError::Split(name.to_owned()))
    }
}

/// One object of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Class of its shape.
    pub class: Class,
    /// Name of its colour.
    pub colour: Colour,
    /// Its own shade of that colour, before light and grain are added.
    pub rgb: [u8; 3],
    /// The smallest box around the mask, in pixels: `[x0, y0, x1, y1]`, excluding column `x1` and row `y1`. All 0 if no
    /// part is visible.
    pub bbox: [usize; 4],
    /// For each pixel, row by row (`size * size`): whether its centre lies in the visible part of the object.
    pub mask: Vec<bool>,
}

impl Object {
    /// Number of visible pixels.
    pub fn area(&self) -> usize {
        self.mask.iter().filter(|&&inside| inside).count()
    }
}

/// An image with everything known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width and height in pixels.
    pub size: usize,
    /// `size * size * 3` bytes: rows, then pixels, then red, green, blue (sRGB, as a decoded PNG gives them).
    pub rgb: Vec<u8>,
    /// The objects, from the lowest to the topmost. Their classes differ, and so do their colours.
    pub objects: Vec<Object>,
    /// Kind of background.
    pub background: Texture,
    /// A caption, such as `a red star on a striped background`.
    pub caption: String,
}

impl Scene {
    /// The class of every pixel, row by row: 0 for the background, `k + 1` for the class with label `k`.
    pub fn labels(&self) -> Vec<u8> {
        let mut labels = vec![0; self.size * self.size];
        for object in &self.objects {
            for (label, _) in labels.iter_mut().zip(&object.mask).filter(|&(_, &inside)| inside) {
                *label = object.class.label() as u8 + 1;
            }
        }
        labels
    }
}

/// The purpose of a stream of random numbers. Each part of a scene has its own stream, so that a change in how one part
/// is drawn leaves the others as they were.
#[derive(Clone, Copy)]
enum Part {
    Order = 0,
    Objects = 1,
    Layout = 2,
    Colours = 3,
    Background = 4,
    Distractors = 5,
    Light = 6,
}

fn stream(seed: u64, split: Split, index: u64, part: Part) -> Rng {
    let split = match split {
        Split::Train => 1,
        Split::Val => 2,
    };
    Rng::keyed(&[seed, split, index, part as u64])
}

/// The class of the scene's first object. Every ten scenes in a row (from a multiple of ten) show each class once.
pub fn leading_class(seed: u64, split: Split, index: u64) -> Class {
    let mut order = Class::ALL;
    let block = order.len() as u64;
    stream(seed, split, index / block, Part::Order).shuffle(&mut order);
    order[(index % block) as usize]
}

/// The classes of the scene's objects, from the lowest to the topmost, without drawing the scene.
pub fn classes(spec: &SceneSpec, seed: u64, split: Split, index: u64) -> Vec<Class> {
    let mut rng = stream(seed, split, index, Part::Objects);
    let count = rng.between(spec.objects());
    let first = leading_class(seed, split, index);
    let mut others: Vec<Class> = Class::ALL.into_iter().filter(|&class| class != first).collect();
    rng.shuffle(&mut others);
    let mut classes: Vec<Class> = std::iter::once(first).chain(others).take(count).collect();
    // Shuffled so that the leading class is not always the lowest object.
    rng.shuffle(&mut classes);
    classes
}

/// Draws scene `index` of a split of the data set that `seed` and `spec` describe.
///
/// The result is identical to the bit on every platform. Neither geometry nor colours depend on the size in `spec`. In
/// single-object scenes the object covers a fraction of the image within [`SINGLE_AREA`]; in others the objects
/// together have an area within [`SEVERAL_AREA`] (less only if that many objects do not fit).
pub fn scene(spec: &SceneSpec, seed: u64, split: Split, index: u64) -> Scene {
    let part = |part: Part| stream(seed, split, index, part);

    let classes = classes(spec, seed, split, index);
    let count = classes.len();
    let figures = layout::arrange(&mut part(Part::Layout), &classes, spec.max_overlap());

    let mut rng = part(Part::Colours);
    let mut colours = Colour::ALL;
    rng.shuffle(&mut colours);
    let shades: Vec<[u8; 3]> = colours.iter().take(count).map(|colour| colour.shade(&mut rng)).collect();

    let mut rng = part(Part::Background);
    let texture = Texture::ALL[rng.below(Texture::ALL.len())];
    let tones = colour::tones(&mut rng, &shades);
    let background = Background::draw(&mut rng, texture, tones);

    let mut rng = part(Part::Distractors);
    let distractors: Vec<Distractor> =
        (0..rng.between(spec.distractors())).map(|_| Distractor::draw(&mut rng)).collect();

    let mut rng = part(Part::Light);
    let solids: Vec<render::Solid> = figures
        .into_iter()
        .zip(&shades)
        .map(|(figure, &rgb)| render::Solid::draw(&mut rng, figure, rgb))
        .collect();

    let rgb = render::paint(spec.size(), &background, &distractors, &solids);
    let masks = render::masks(spec.size(), &solids);
    let objects: Vec<Object> = classes
        .iter()
        .zip(colours)
        .zip(shades)
        .zip(masks)
        .map(|(((&class, colour), rgb), mask)| Object {
            class,
            colour,
            rgb,
            bbox: bounding_box(&mask, spec.size()),
            mask,
        })
        .collect();
    let caption = caption(&objects, texture);
    Scene { size: spec.size(), rgb, objects, background: texture, caption }
}

/// The smallest box around the set pixels, ends excluded; all zeros if no pixel is set.
fn bounding_box(mask: &[bool], size: usize) -> [usize; 4] {
    let mut bbox: Option<[usize; 4]> = None;
    for at in mask.iter().enumerate().filter_map(|(at, &inside)| inside.then_some(at)) {
        let (x, y) = (at % size, at / size);
        let [x0, y0, x1, y1] = bbox.unwrap_or([x, y, 0, 0]);
        bbox = Some([x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)]);
    }
    bbox.unwrap_or_default()
}

/// Returns a caption such as `a red star, an orange ring and a blue heart on a striped background`.
fn caption(objects: &[Object], background: Texture) -> String {
    let phrases: Vec<String> = objects
        .iter()
        .map(|object| {
            let article = if object.colour == Colour::Orange { "an" } else { "a" };
            format!("{article} {} {}", object.colour.name(), object.class)
        })
        .collect();
    let list = match phrases.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    };
    format!("{list} on a {} background", background.name())
}
