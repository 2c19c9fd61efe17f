//! Colours: of text and axes, of series that colour-blind readers can tell apart, and the viridis scale.

use plotters::style::RGBColor;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

/// Background.
pub(crate) const WHITE: [u8; 3] = [255, 255, 255];
/// Text and axes.
pub(crate) const INK: [u8; 3] = [38, 38, 38];
/// Secondary text.
pub(crate) const FAINT: [u8; 3] = [110, 110, 110];
/// Grid lines.
pub(crate) const GRID: [u8; 3] = [226, 226, 226];
/// Cells of a heat map without a value.
pub(crate) const NO_VALUE: [u8; 3] = [214, 214, 214];

/// Twelve colours: the palette of Okabe and Ito without its yellow, which is hard to see on white paper, then colours of Paul
/// Tol's muted scheme. The first eight are distinct under the common colour-vision deficiencies; dashes and markers
/// tell the others apart.
const SERIES: [[u8; 3]; 12] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [38, 38, 38],
    [230, 159, 0],
    [86, 180, 233],
    [136, 34, 85],
    [153, 153, 51],
    [51, 34, 136],
    [128, 128, 128],
    [68, 170, 153],
];

/// Returns the colour of the series with this number.
pub(crate) fn series(index: usize) -> [u8; 3] {
    SERIES[index % SERIES.len()]
}

/// Twelve colours for areas over a grey image: all eight of Okabe and Ito with white instead of black, then colours of
/// Paul Tol's muted scheme.
const REGIONS: [[u8; 3]; 12] = [
    [230, 159, 0],
    [0, 114, 178],
    [0, 158, 115],
    [240, 228, 66],
    [204, 121, 167],
    [86, 180, 233],
    [213, 94, 0],
    [255, 255, 255],
    [136, 34, 85],
    [51, 34, 136],
    [153, 153, 51],
    [170, 68, 153],
];

/// Returns the colour of the area with this number.
pub(crate) fn regions(index: usize) -> [u8; 3] {
    REGIONS[index % REGIONS.len()]
}

/// Returns the colour of the class with this number: the colours of [`regions`], then darker, then lighter ones.
pub(crate) fn area(class: usize) -> [u8; 3] {
    let plain = regions(class);
    match class / REGIONS.len() % 3 {
        0 => plain,
        1 => blend(plain, INK, 0.5),
        _ => blend(plain, WHITE, 0.5),
    }
}

/// Returns the viridis colour at `t`, clamped to 0…1.
pub fn viridis(t: f64) -> [u8; 3] {
    let RGBColor(r, g, b) = ViridisRGB.get_color(t.clamp(0.0, 1.0));
    [r, g, b]
}

/// Blends `over` onto `under` with the given opacity, 0…1.
pub(crate) fn blend(under: [u8; 3], over: [u8; 3], opacity: f64) -> [u8; 3] {
    std::array::from_fn(|i| {
        (f64::from(under[i]) * (1.0 - opacity) + f64::from(over[i]) * opacity).round() as u8
    })
}

/// Converts a colour to grey (ITU-R BT.601 luma).
pub(crate) fn grey([r, g, b]: [u8; 3]) -> [u8; 3] {
    [((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8; 3]
}

/// Converts a colour to one of a narrow range of dark greys. Under a colour scale these show through without making a value
/// look like a larger one.
pub(crate) fn dim([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [light, ..] = grey([r, g, b]);
    [48 + light / 4; 3]
}

/// Returns the smallest and largest finite value; `None` if there is no finite value.
pub(crate) fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Returns the smallest finite value and the 95th percentile, or the largest value if these two are equal.
pub(crate) fn bulk(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let mut finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let (low, largest) = (*finite.first()?, *finite.last()?);
    let percentile = finite[(finite.len() * 19).div_ceil(20) - 1];
    Some((low, if percentile > low { percentile } else { largest }))
}

/// Maps a value from a range to 0…1; returns 0 if the range is empty.
pub(crate) fn place(value: f64, (low, high): (f64, f64)) -> f64 {
    // Halved first, because the difference of two finite numbers may overflow.
    let span = high / 2.0 - low / 2.0;
    if span > 0.0 { (value / 2.0 - low / 2.0) / span } else { 0.0 }
}
