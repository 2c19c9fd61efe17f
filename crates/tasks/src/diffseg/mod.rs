//! Unsupervised segmentation of images by the self-attention of Stable Diffusion (DiffSeg, Tian et al., arXiv
//! 2308.12469), with anchors on a grid or chosen by TokenRank.
//!
//! The UNet processes an image once, without added noise, while a probe aggregates its self-attention. Every method
//! then chooses anchors, merges the maps around them, and assigns each pixel to the proposal with the largest value
//! there. The records count the pixels of each pair of segment and label; the crate `eval` computes metrics from them.

mod aggregate;
mod anchors;
mod config;
mod from_file;
mod labels;
mod merge;
mod method;
mod picture;
mod record;
mod score;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use models::Stream;
use models::pipeline::{Draw, ImageEncoder, NoiseInput, NoisePipeline, NoisePredictor};
use ndarray::Array2;
use rayon::prelude::*;
use tch::Tensor;

pub use aggregate::{Aggregates, Aggregator};
pub use anchors::{anchors, drawn, ranked, uniform};
pub use config::DiffSegConfig;
pub use from_file::Sizes;
pub use labels::labels;
pub use merge::{Merging, distances, gather, merge, unite};
pub use method::{Drawn, Grid, Method, Outside, Ranked};
pub use picture::{middle, nearest, samples};
pub use record::{Boundary, DiffSegRecord, Pictures, Runs, SegmentPicture, Segments};
pub use score::boundary;

use crate::ahead::Ahead;
use crate::dataset::segmentation::{DenseImage, Segmented};
use crate::error::{Error, Result};
pub use crate::method::HeadShare;
use crate::score_file::ScoreFiles;
use crate::screen::screen;
use crate::seed::seed_of;
use crate::task::{Answer, Failure, Rest, Task, in_order, parted};
use from_file::{Stored, stored};

/// The DiffSeg experiment on one pipeline and one dataset.
pub struct DiffSeg {
    config: Arc<DiffSegConfig>,
    pipeline: Box<dyn NoisePipeline>,
    items: Vec<DenseImage>,
    /// Side of images and label maps in pixels.
    side: i64,
    /// Rows and columns of the finest grid of tokens with self-attention.
    grid: (usize, usize),
    seed: u64,
    files: ScoreFiles,
    ready: Option<Ready>,
    /// The images of each batch, or why one cannot be read.
    images: Ahead<Vec<Result<Segmented, Failure>>>,
}

/// The networks and the embedded prompt.
struct Ready {
    /// The embedded prompt, `[tokens, width]`.
    text: Tensor,
    encoder: ImageEncoder,
    network: Box<dyn NoisePredictor>,
}

/// The result of a method on one aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmentation {
    /// The anchors as token numbers in row order, listed in the order in which they were merged.
    pub anchors: Vec<usize>,
    /// Number of segments.
    pub proposals: usize,
    /// The segment of every pixel.
    pub labels: Array2<u16>,
}

/// Segments one image by its aggregate `[n, n]` over `grid`, with a label for each of `size` pixels (rows, columns).
/// `seed` determines the draws.
///
/// # Errors
/// Fails if the map is not a transition matrix, or if libtorch fails.
pub fn segment(
    config: &DiffSegConfig,
    method: &Method,
    aggregate: &Tensor,
    grid: (usize, usize),
    size: (usize, usize),
    seed: u64,
) -> Result<Segmentation> {
    let anchors = anchors(method, aggregate, grid, config.alpha, seed)?;
    grow(config, anchors, aggregate, grid, size)
}

/// Segments one image by the anchors that were chosen on its aggregate; see [`segment`].
fn grow(
    config: &DiffSegConfig,
    anchors: Vec<usize>,
    aggregate: &Tensor,
    grid: (usize, usize),
    size: (usize, usize),
) -> Result<Segmentation> {
    let proposals = merge(aggregate, &anchors, &config.merging())?;
    let labels = labels(&proposals, grid, size)?;
    Ok(Segmentation { anchors, proposals: proposals.size()[0] as usize, labels })
}

/// The segmentations of one image.
struct Found {
    /// Rows and columns of the finest grid of tokens with self-attention.
    grid: (usize, usize),
    /// In the order of the methods.
    by_methods: Vec<Segmentation>,
}

impl DiffSeg {
    /// Creates the experiment; nothing large is loaded yet. `seed` determines the anchors that are drawn; `files` are those
    /// of [`DiffSegConfig::score_files`].
    ///
    /// # Errors
    /// Fails if a setting is out of range or does not fit the pipeline.
    pub fn new(
        config: DiffSegConfig,
        pipeline: impl NoisePipeline + 'static,
        items: Vec<DenseImage>,
        seed: u64,
        files: ScoreFiles,
    ) -> Result<Self> {
        config.check()?;
        config.check_outside(&files)?;
        let (height, width) = config.image_size.map_or_else(|| pipeline.default_size(), |side| (side, side));
        let refuse = |reason: String| Err(Error::Setting { setting: "task.diffseg.image_size", reason });
        if height != width {
            return refuse(format!(
                "the network was trained on images of {height} by {width} pixels, but only square images are segmented; set the side"
            ));
        }
        let [_, rows, columns] = match pipeline.latent_shape((height, width)) {
            Ok(shape) => shape,
            Err(error) => return refuse(error.to_string()),
        };
        let Some(grid) = finest(&pipeline, (rows, columns)) else {
            return refuse("this UNet has no self-attention, which the segmentation reads".into());
        };
        Ok(Self {
            config: Arc::new(config),
            pipeline: Box::new(pipeline),
            items,
            side: height,
            grid,
            seed,
            files,
            ready: None,
            images: Ahead::default(),
        })
    }

    /// The sizes that the contents of files of scores must have.
    pub fn sizes(&self) -> Sizes {
        Sizes { grid: self.grid, side: self.side as usize }
    }

    /// Returns the aggregates that the methods read; empty if none reads a pass of the UNet.
    fn weightings(&self) -> Result<BTreeSet<HeadShare>> {
        let mut weightings = BTreeSet::new();
        for method in &self.config.methods {
            if self.config.reads_pass(method, &self.files)? {
                weightings.insert(method.aggregate());
            }
        }
        Ok(weightings)
    }

    fn prepare(&self) -> Result<Ready> {
        let texts = self.pipeline.encode_texts(std::slice::from_ref(&self.config.prompt))?;
        let [text] = &texts[..] else {
            let reason = "the text encoder did not return one embedding for the prompt".into();
            return Err(models::Error::Text { text: self.config.prompt.clone(), reason }.into());
        };
        Ok(Ready {
            text: text.shallow_clone(),
            encoder: self.pipeline.image_encoder()?,
            network: self.pipeline.network()?,
        })
    }

    /// Returns the latents `[batch, channels, h, w]`: the mean of the encoder's distribution. Each image is encoded by
    /// itself.
    fn latents<'a>(&self, ready: &Ready, images: impl Iterator<Item = &'a Segmented>) -> Result<Tensor> {
        let latents = images.enumerate().map(|(row, image)| {
            let pixels = samples(&image.rgb, self.side)?;
            Ok(ready.encoder.encode(&pixels, Draw::Mode).map_err(|error| error.of_items(|_| row))?)
        });
        Ok(Tensor::f_cat(&latents.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// One pass over images without noise, up to the last block with attention; the prediction of the network is not
    /// computed.
    fn aggregates(
        &self,
        ready: &Ready,
        weightings: &BTreeSet<HeadShare>,
        latents: &Tensor,
    ) -> Result<Aggregates> {
        let (batch, ..) = latents.size4()?;
        let mut probe = Aggregator::new(weightings);
        let text = ready.text.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?;
        let timestep = f64::from(self.config.timestep);
        let input = NoiseInput { latents, timestep, text: &text, step: 0, perturbation: None };
        ready.network.watch(&input, &mut probe)?;
        probe.finish()
    }

    /// Returns the segmentations of images by all methods, each image with its position in the batch that begins with the item
    /// `first`. `ready` is `None` if no method reads a pass of the UNet.
    fn found(
        &self,
        ready: Option<&Ready>,
        first: usize,
        images: &[&(usize, Segmented)],
    ) -> Result<Vec<Found>> {
        let items = &self.items[first..];
        let aggregates = match ready {
            Some(ready) => {
                let latents = self.latents(ready, images.iter().map(|(_, image)| image))?;
                Some(self.aggregates(ready, &self.weightings()?, &latents)?)
            }
            None => None,
        };
        let grid = aggregates.as_ref().map_or(self.grid, Aggregates::grid);
        let of_item = |(row, (place, _)): (usize, &&(usize, Segmented))| {
            let of_method =
                |method: &Method| self.found_by(method, &items[*place].id, (aggregates.as_ref(), row));
            let by_methods = self.config.methods.iter().map(of_method).collect::<Result<_>>()?;
            Ok(Found { grid, by_methods })
        };
        images.iter().enumerate().map(of_item).collect()
    }

    /// Returns the segmentation of one image, which is row `row` of the aggregates.
    fn found_by(
        &self,
        method: &Method,
        id: &str,
        (aggregates, row): (Option<&Aggregates>, usize),
    ) -> Result<Segmentation> {
        let size = (self.side as usize, self.side as usize);
        let no_pass = || models::Error::Probe(format!("`{}` needs a pass of the UNet", method.key()));
        let aggregate = || -> Result<(Tensor, (usize, usize))> {
            let aggregates = aggregates.ok_or_else(no_pass)?;
            Ok((aggregates.get(method.aggregate(), row)?, aggregates.grid()))
        };
        match method {
            Method::File(outside) => match stored(outside, &self.files, id, self.sizes())? {
                Stored::Anchors(anchors) => {
                    let (aggregate, grid) = aggregate()?;
                    grow(&self.config, anchors, &aggregate, grid, size)
                }
                Stored::Segments(labels, proposals) => {
                    Ok(Segmentation { anchors: Vec::new(), proposals, labels })
                }
            },
            Method::Uniform(_)
            | Method::Tokenrank(_)
            | Method::TokenrankSampled(_)
            | Method::ColumnSum(_)
            | Method::Random(_) => {
                let (aggregate, grid) = aggregate()?;
                segment(&self.config, method, &aggregate, grid, size, self.seed_of(id))
            }
        }
    }

    /// Returns the seed of the anchors drawn for an image. It does not depend on the other images of the batch.
    fn seed_of(&self, id: &str) -> u64 {
        seed_of(&format!("{}/{id}", self.seed))
    }

    /// Returns the record of one item from the segmentations of all methods, in their order.
    fn record(
        config: &DiffSegConfig,
        item: &DenseImage,
        image: &Segmented,
        found: &[Segmentation],
        side: usize,
        grid: Option<(usize, usize)>,
    ) -> DiffSegRecord {
        let truth = nearest(&image.labels, side);
        // The tolerance is a fraction of the diagonal.
        let reach = config.tolerance * (side as f64).hypot(side as f64);
        let mut methods = BTreeMap::new();
        let mut pictures = grid.map(|grid| Pictures { size: (side, side), grid, methods: BTreeMap::new() });
        for (method, Segmentation { anchors, proposals, labels }) in config.methods.iter().zip(found) {
            let scored = score::score(labels.view(), truth.view(), *proposals, reach);
            methods.insert(method.key().to_owned(), scored);
            if let Some(pictures) = &mut pictures {
                let width = pictures.grid.1;
                let place = |&token: &usize| ((token / width) as u16, (token % width) as u16);
                let labels = Runs::encode(labels.iter().copied());
                let picture = SegmentPicture { labels, anchors: anchors.iter().map(place).collect() };
                pictures.methods.insert(method.key().to_owned(), picture);
            }
        }
        let (sha256, image_sha256) = (image.sha256.clone(), image.image_sha256.clone());
        DiffSegRecord { id: item.id.clone(), sha256, image_sha256, methods, pictures }
    }
}

/// Returns rows and columns of the finest grid with self-attention, for latents of (rows, columns).
fn finest(pipeline: &impl NoisePipeline, latents: (i64, i64)) -> Option<(usize, usize)> {
    let grids = pipeline.streams().into_keys().filter_map(|stream| match stream {
        Stream::Unet(layer) => (!layer.cross).then(|| pipeline.grid(layer, latents)),
        Stream::Vision
        | Stream::Text
        | Stream::T5
        | Stream::Dual
        | Stream::Single
        | Stream::Concept
        | Stream::Autoencoder => None,
    });
    let (rows, columns) = grids.max_by_key(|(rows, columns)| rows * columns)?;
    Some((rows as usize, columns as usize))
}

impl Task for DiffSeg {
    type Item = DenseImage;
    type Record = DiffSegRecord;

    const NAME: &'static str = "diffseg";
    const MEMORY_SETTINGS: &'static [&'static str] =
        &["task.diffseg.batch", "task.diffseg.image_size", "model.dtype"];

    fn manifest(&self) -> &[DenseImage] {
        &self.items
    }

    fn id(item: &DenseImage) -> &str {
        &item.id
    }

    fn answered(record: &DiffSegRecord) -> &str {
        &record.id
    }

    fn made_from(record: &DiffSegRecord) -> Option<&str> {
        Some(record.sha256.as_str()).filter(|sha256| !sha256.is_empty())
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn prefetch(&mut self, batches: &[Range<usize>]) {
        self.images.expect(batches);
    }

    fn start(&mut self, range: Range<usize>) -> Result<Rest<DiffSegRecord>> {
        let ready = match self.ready.take() {
            Some(ready) => Some(ready),
            None if self.weightings()?.is_empty() => None,
            None => Some(self.prepare()?),
        };
        let all = &self.items;
        let each = self.images.take(&range, |range| {
            let items = all[range].to_vec();
            move || items.par_iter().map(read).collect()
        });
        let (images, failures) = parted(each);
        let items = self.items[range.clone()].to_vec();
        let found = screen(
            (0..images.len()).collect(),
            |index| &items[images[index].0].id,
            |batch| {
                let images: Vec<_> = batch.iter().map(|&index| &images[index]).collect();
                self.found(ready.as_ref(), range.start, &images)
            },
        )?;
        self.ready = ready;

        let (config, side) = (Arc::clone(&self.config), self.side as usize);
        Ok(Box::new(move || {
            let record = |(index, found): (usize, Answer<Found>)| {
                let (place, image) = &images[index];
                let answer = found.and_then(|Found { grid, by_methods }| {
                    let shown = (range.start + place < config.figures).then_some(grid);
                    Ok(Self::record(&config, &items[*place], image, &by_methods, side, shown).into())
                });
                Ok((*place, answer?))
            };
            Ok(in_order(found.into_par_iter().map(record).collect::<Result<_>>()?, failures))
        }))
    }
}

fn read(item: &DenseImage) -> Result<Segmented, Failure> {
    item.load().and_then(|image| middle(&image)).map_err(|error| Failure::new(&item.id, error))
}
