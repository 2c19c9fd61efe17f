//! Weights and images by the formula of `tools/golden_inception.py`, to the bit.

use std::collections::BTreeMap;
use std::path::Path;

use models::image::Rgb8;

use safetensors::tensor::{Dtype, TensorView};

/// The top 24 bits of a counter's hash (SplitMix64), the counter keyed by FNV-1a of the name.
fn bits(name: &str) -> impl Iterator<Item = u32> {
    let key = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    (0_u64..).map(move |place| {
        let mut z = place.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(key);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as u32
    })
}

/// A tensor of the network: He's spread for matrices, near the identity for norms.
fn weights(name: &str, shape: &[usize]) -> Vec<u8> {
    let matrix = shape.len() > 1;
    let spread = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
    let near_one = name.ends_with("weight") || name.ends_with("running_var");
    let of = |bits: u32| {
        let unit = bits as f32 * (-23_f32).exp2() - 1.0;
        match (matrix, near_one) {
            (true, _) => unit * spread,
            (false, true) => 1.0 + 0.25 * unit,
            (false, false) => 0.125 * unit,
        }
    };
    bits(name).take(shape.iter().product()).flat_map(|bits| of(bits).to_le_bytes()).collect()
}

/// Writes the network's weights: 95 MB.
pub fn write_weights(path: &Path) {
    let shapes = include_str!("../../fixtures/inception/shapes.json");
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_str(shapes).expect("the fixture");
    let tensors: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        shapes.iter().map(|(name, shape)| (name, shape, weights(name, shape))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("as many numbers"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a writable folder");
}

/// Image `k` of a list of `count`, `[height, width, 3]`, its samples changed by `change`.
pub fn picture(
    name: &str,
    (k, count): (usize, usize),
    (height, width): (usize, usize),
    change: impl Fn(u32) -> u32,
) -> Rgb8 {
    let (rows, columns) = (height.div_ceil(8), width.div_ceil(8));
    let coarse: Vec<u32> = bits(name).take(count * 3 * rows * columns).map(|bits| bits >> 16).collect();
    let fine: Vec<u32> =
        bits(&format!("{name}.fine")).take(count * 3 * height * width).map(|bits| bits >> 16).collect();
    let mut data = Vec::with_capacity(height * width * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in k * 3..k * 3 + 3 {
                let (far, near) = (
                    coarse[(channel * rows + y / 8) * columns + x / 8],
                    fine[(channel * height + y) * width + x],
                );
                data.push(change((3 * far + near) / 4) as u8);
            }
        }
    }
    Rgb8::new(width, height, data).expect("a picture")
}
