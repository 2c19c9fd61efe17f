//! Resampling of float samples as torchvision does it with antialiasing.

use super::Resample;

/// Resizes one channel of `(width, height)` float samples, row by row, to another size: columns first, then rows, as
/// `torch.nn.functional.interpolate(…, antialias=True)` on the CPU. Sums are rounded to `f32` after every term, without the
/// fused multiply-add that some processors have, so results differ from libtorch's in the last bits.
pub(super) fn resize_plane(
    plane: Vec<f32>,
    (from_width, from_height): (usize, usize),
    (width, height): (usize, usize),
    filter: Resample,
) -> Vec<f32> {
    let columns = if width == from_width { plane } else { horizontal(&plane, from_width, width, filter) };
    if height == from_height { columns } else { vertical(&columns, width, (from_height, height), filter) }
}

fn horizontal(plane: &[f32], from: usize, to: usize, filter: Resample) -> Vec<f32> {
    let taps: Vec<(usize, Vec<f32>)> = taps(from, to, filter).collect();
    let mut resized = Vec::with_capacity(plane.len() / from.max(1) * to);
    for line in plane.chunks_exact(from) {
        resized.extend(taps.iter().map(|(first, weights)| {
            line[*first..].iter().zip(weights).fold(0.0, |sum: f32, (sample, weight)| sum + sample * weight)
        }));
    }
    resized
}

fn vertical(plane: &[f32], width: usize, (from, to): (usize, usize), filter: Resample) -> Vec<f32> {
    let mut resized = vec![0.0_f32; width * to];
    for ((first, weights), out) in taps(from, to, filter).zip(resized.chunks_exact_mut(width)) {
        for (line, weight) in plane[first * width..].chunks_exact(width).zip(weights) {
            for (sum, sample) in out.iter_mut().zip(line) {
                *sum += sample * weight;
            }
        }
    }
    resized
}

/// Returns for each of `to` new pixels along an axis the first source pixel (of `from`) and the weights of it and those after
/// it, which sum to one. Rounds to `f32` where ATen does (`UpSampleKernel.cpp`), since the distance of a pixel from the centre
/// of the new one loses digits there.
fn taps(from: usize, to: usize, filter: Resample) -> impl Iterator<Item = (usize, Vec<f32>)> {
    let scale = from as f32 / to as f32;
    let support = filter.support() as f32 * scale.max(1.0);
    let inverse_scale = 1.0 / scale.max(1.0);
    (0..to).map(move |pixel| {
        let centre = (f64::from(scale) * (pixel as f64 + 0.5)) as f32;
        // Casts truncate and saturate at zero, which rounds half up and clips at the left edge.
        let first = (f64::from(centre - support) + 0.5) as usize;
        let last = ((f64::from(centre + support) + 0.5) as usize).min(from);
        let weight = |source: usize| {
            let distance = (f64::from(source as f32 - centre) + 0.5) * f64::from(inverse_scale);
            filter.weight(f64::from(distance as f32)) as f32
        };
        let mut weights: Vec<f32> = (first..last).map(weight).collect();
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        (first, weights)
    })
}
