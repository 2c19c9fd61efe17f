//! The colour scale of maps and of λ₂.

/// Viridis at equal distances, as in `plot`.
const STOPS: [[u8; 3]; 8] = [
    [68, 1, 84],
    [70, 50, 127],
    [54, 92, 141],
    [39, 127, 143],
    [31, 162, 136],
    [74, 194, 110],
    [160, 219, 57],
    [254, 232, 37],
];

/// Returns the viridis colour at `t`, clamped to 0…1: red, green and blue. It equals that of the figures.
pub fn viridis(t: f64) -> [u8; 3] {
    let at = t.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    // The distance to the upper stop is the weight of the lower one.
    let lower = at.ceil() - at;
    std::array::from_fn(|i| {
        ((1.0 - lower) * f64::from(STOPS[high][i]) + lower * f64::from(STOPS[low][i])).round() as u8
    })
}

/// Returns 256 colours of the scale, six hexadecimal digits each.
pub(crate) fn table() -> String {
    (0..256u16)
        .map(|i| {
            let [red, green, blue] = viridis(f64::from(i) / 255.0);
            format!("{red:02x}{green:02x}{blue:02x}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_goes_through_its_stops() {
        for (i, stop) in STOPS.iter().enumerate() {
            assert_eq!(viridis(i as f64 / 7.0), *stop);
        }
        assert_eq!((viridis(-1.0), viridis(2.0)), (STOPS[0], STOPS[7]));
        assert_eq!(viridis(1.5 / 7.0), [62, 71, 134]);
        let table = table();
        assert_eq!((table.len(), &table[..6], &table[255 * 6..]), (256 * 6, "440154", "fee825"));
    }
}
