//! Tests that figures are valid PNG files of the documented size and content.

use std::io::Cursor;

use super::canvas::{Align, Canvas, Text, fitted, text_width, two_lines};
use super::*;

mod sheets;

struct Png {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

fn read(content: &[u8]) -> Png {
    let mut reader = png::Decoder::new(Cursor::new(content)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    Png { width: info.width, height: info.height, pixels }
}

impl Png {
    fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let start = ((y * self.width + x) * 3) as usize;
        self.pixels[start..start + 3].try_into().unwrap()
    }

    fn count(&self, color: [u8; 3]) -> usize {
        self.pixels.chunks_exact(3).filter(|pixel| *pixel == color).count()
    }

    /// Counts the pixels that are not white within `margin` of the edge, where nothing may be drawn.
    fn inked_margin(&self, margin: u32) -> usize {
        let edge = |x: u32, y: u32| {
            x < margin || y < margin || x + margin >= self.width || y + margin >= self.height
        };
        let all = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        all.filter(|&(x, y)| edge(x, y) && self.at(x, y) != color::WHITE).count()
    }
}

fn series(name: &str, points: &[(f64, f64)]) -> Series {
    Series { name: name.into(), points: points.to_vec(), band: Vec::new() }
}

fn plot(series: Vec<Series>) -> CurvePlot {
    CurvePlot {
        title: "Masking".into(),
        x_label: "fraction masked".into(),
        y_label: "accuracy".into(),
        y_range: None,
        series,
    }
}

fn drawn(plot: &CurvePlot) -> Png {
    read(&curves(plot).unwrap())
}

#[test]
fn curves_are_drawn_in_their_colours() {
    let figure = drawn(&plot(vec![
        series("a", &[(0.0, 0.9), (0.5, 0.8), (0.9, 0.1)]),
        series("b", &[(0.0, 0.9), (0.5, 0.5), (0.9, 0.05)]),
    ]));
    assert_eq!((figure.width, figure.height), CURVES_SIZE);
    for index in 0..2 {
        assert!(figure.count(color::series(index)) > 1000, "series {index}");
    }
    assert_eq!(figure.count(color::series(2)), 0);
    assert_eq!(figure.inked_margin(12), 0);
}

#[test]
fn bands_are_drawn_behind_the_curves() {
    let points = [(0.0, 0.9), (0.5, 0.5), (0.9, 0.1)];
    let banded = |ends: &[(f64, f64)]| {
        let mut one = series("a", &points);
        one.band = ends.to_vec();
        drawn(&plot(vec![one, series("b", &[(0.0, 0.2), (0.9, 0.2)])]))
    };
    // What a sixth of the first colour makes of white.
    let tint = color::series(0).map(|ink| (255.0 - 0.16 * (255.0 - f64::from(ink))) as u8);
    let tinted = |figure: &Png| {
        let near = |a: u8, b: u8| a.abs_diff(b) <= 2;
        figure.pixels.chunks_exact(3).filter(|pixel| pixel.iter().zip(tint).all(|(&a, b)| near(a, b))).count()
    };
    let (plain, whole) = (banded(&[]), banded(&[(0.8, 1.0), (0.4, 0.6), (0.0, 0.2)]));
    assert!(tinted(&plain) < 100 && tinted(&whole) > 50_000, "{} {}", tinted(&plain), tinted(&whole));
    // Two points on one side of a gap make an area, one point alone does not.
    let part = banded(&[(0.8, 1.0), (0.4, 0.6), (f64::NAN, 0.2)]);
    assert!(tinted(&part) > 20_000 && tinted(&part) < tinted(&whole));
    assert!(tinted(&banded(&[(0.8, 1.0), (f64::NAN, 0.6), (0.0, 0.2)])) < 100);
    // The band widens the axis, so that both of its ends are in the figure.
    assert_eq!(banded(&[(-3.0, 4.0); 3]).inked_margin(12), 0);
    assert!(whole.count(color::series(1)) > 1000);
}

#[test]
fn plots_below_each_other_share_their_vertical_axis() {
    let (low, high) = (
        plot(vec![series("a", &[(0.0, 1.0), (1.0, 1.0)])]),
        plot(vec![series("a", &[(0.0, 2.0), (1.0, 2.0)])]),
    );
    let both = read(&stacked_curves(&[low, high]).unwrap());
    assert_eq!((both.width, both.height), (CURVES_SIZE.0, 2 * CURVES_SIZE.1));
    // The line of 1 lies lower in its plot than the line of 2 in its own.
    let stride = both.width as usize * 3;
    let line = |plot: usize| {
        let rows =
            both.pixels.chunks_exact(stride).skip(plot * CURVES_SIZE.1 as usize).take(CURVES_SIZE.1 as usize);
        let inked = |row: &[u8]| row.chunks_exact(3).filter(|pixel| **pixel == color::series(0)).count();
        rows.map(inked).enumerate().max_by_key(|(_, count)| *count).unwrap().0
    };
    assert!(line(0) > line(1) + 100, "{} {}", line(0), line(1));
    assert!(stacked_curves(&[]).is_err());
}

#[test]
fn twelve_series_have_twelve_colours() {
    let all =
        (0..12).map(|i| series(&format!("score {i}"), &[(0.0, 1.0), (1.0, f64::from(i) / 12.0)])).collect();
    let figure = drawn(&plot(all));
    for index in 0..12 {
        assert!(figure.count(color::series(index)) > 300, "series {index}");
        assert!((0..index).all(|other| color::series(other) != color::series(index)));
    }
}

#[test]
fn long_names_and_many_series_stay_inside_the_figure() {
    let long = "the fraction of the tokens that were masked, in the order of a score with a very long name, "
        .repeat(4);
    let all = (0..40).map(|i| series(&format!("{i} {long}"), &[(0.0, 1.0), (1.0, f64::from(i))])).collect();
    let mut plot = plot(all);
    (plot.title, plot.x_label, plot.y_label) = (long.clone(), long.clone(), long);
    assert_eq!(drawn(&plot).inked_margin(12), 0);
}

#[test]
fn empty_and_extreme_data_are_drawn() {
    let nan = f64::NAN;
    let cases = [
        vec![],
        vec![series("empty", &[])],
        vec![series("nan", &[(nan, 1.0), (0.0, nan), (f64::INFINITY, 0.0)])],
        vec![series("one point", &[(0.5, 0.5)])],
        vec![series("constant", &[(0.0, 0.0), (1.0, 0.0)])],
        vec![
            series("a gap", &[(0.0, 1.0), (0.3, 0.9), (0.5, nan), (0.7, 0.5), (1.0, 0.4)]),
            series("empty", &[]),
        ],
        vec![series("huge", &[(0.0, f64::MAX), (1.0, f64::MIN)])],
        vec![series("same point", &[(0.0, 0.1), (0.0, 0.1), (0.0, 0.2)]), series("dashed", &[(0.0, 0.1); 3])],
    ];
    for case in cases {
        let figure = drawn(&plot(case.clone()));
        assert_eq!((figure.width, figure.height), CURVES_SIZE, "{case:?}");
        assert!(figure.count(color::INK) > 1000, "{case:?}");
    }
}

#[test]
fn a_point_that_is_not_finite_breaks_the_curve() {
    let line = |middle| drawn(&plot(vec![series("a", &[(0.0, 0.0), (0.5, middle), (1.0, 1.0)])]));
    let (whole, broken) = (line(0.5), line(f64::NAN));
    assert!(broken.count(color::series(0)) < whole.count(color::series(0)) / 2);
}

fn gradient(width: usize, height: usize) -> Rgb {
    let pixels = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [(x * 255 / width) as u8, (y * 255 / height) as u8, 120]));
    Rgb { width, height, pixels: pixels.collect() }
}

fn map(title: &str, rows: usize, cols: usize) -> Map {
    Map { title: title.into(), rows, cols, values: (0..rows * cols).map(|i| i as f64).collect() }
}

fn overlay(rows: &[OverlayRow]) -> Result<Png, PlotError> {
    overlays(rows, ColorRange::PerMap).map(|png| read(&png))
}

#[test]
fn overlays_show_the_image_and_its_maps() {
    let row = |label: &str, image: Rgb| OverlayRow {
        image,
        label: label.into(),
        maps: vec![map("a", 2, 2), map("b", 3, 2)],
    };
    let rows = [row("square", gradient(64, 64)), row(&"wide ".repeat(200), gradient(96, 32))];
    let figure = overlay(&rows).unwrap();
    assert_eq!(figure.width, 2 * 30 + 3 * 360 + 2 * 16);
    assert_eq!(figure.inked_margin(12), 0);
    // The middle of the first image, the darkest and the brightest patch of its first map.
    let (top, left) = (24 + 84 + 48, 30 + 360 + 16);
    let [red, green, blue] = figure.at(30 + 180, top + 180);
    assert!(red.abs_diff(127) < 6 && green.abs_diff(127) < 6 && blue == 120);
    let under = color::grey([19, 19, 120]);
    let first = color::blend(under, color::viridis(0.0), 0.6);
    assert!(figure.at(left + 30, top + 30).iter().zip(first).all(|(a, b)| a.abs_diff(b) < 6));
    let [red, green, blue] = figure.at(left + 350, top + 350);
    assert!(red > 200 && green > 200 && blue < 140, "{red} {green} {blue}");
}

#[test]
fn colour_range_ends_at_the_95th_percentile() {
    let mut scores: Vec<f64> = (0..100).map(f64::from).collect();
    scores[99] = 1e6;
    assert_eq!(color::bulk(scores), Some((0.0, 94.0)));
    assert_eq!(color::bulk([vec![2.0; 99], vec![7.0, f64::NAN]].concat()), Some((2.0, 7.0)));
    assert_eq!(color::bulk([f64::NAN]), None);
}

#[test]
fn a_map_without_values_shows_the_image_in_grey() {
    let empty = Map { values: vec![f64::NAN; 4], ..map("nan", 2, 2) };
    let rows = [OverlayRow { image: gradient(40, 40), label: String::new(), maps: vec![empty] }];
    let figure = overlay(&rows).unwrap();
    let [red, green, blue] = figure.at(30 + 360 + 16 + 100, 24 + 84 + 48 + 100);
    assert!(red == green && green == blue);
}

#[test]
fn overlays_refuse_mismatched_sizes() {
    let good = OverlayRow { image: gradient(8, 8), label: "x".into(), maps: vec![map("a", 2, 2)] };
    let cut = OverlayRow { image: Rgb { pixels: vec![0; 5], ..gradient(8, 8) }, ..good.clone() };
    let short = OverlayRow { maps: vec![Map { values: vec![1.0], ..map("a", 2, 2) }], ..good.clone() };
    let other = OverlayRow { maps: vec![map("b", 2, 2)], ..good.clone() };
    let cases = [
        (vec![], "no row"),
        (vec![cut], "8 × 8 pixels"),
        (vec![short], "map `a`"),
        (vec![good.clone(), other], "row 1 has other maps"),
    ];
    for (rows, expected) in cases {
        let error = overlay(&rows).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(overlay(&[OverlayRow { maps: vec![], ..good }]).is_ok());
}

fn matrix(rows: usize, cols: usize) -> HeatMap {
    let values = (0..rows * cols).map(|i| (i % cols) as f64 / cols as f64).collect();
    HeatMap { rows, cols, values, ..HeatMap::default() }
}

fn heat(map: &HeatMap) -> Result<Png, PlotError> {
    heatmap(map).map(|png| read(&png))
}

#[test]
fn heat_maps_of_any_size_are_drawn() {
    for (rows, cols) in [(1, 1), (1, 900), (12, 2), (3, 200), (197, 197), (1200, 2000)] {
        let figure = heat(&matrix(rows, cols)).unwrap();
        assert!(figure.width < 1400 && figure.height < 1200, "{rows} × {cols}");
        assert_eq!(figure.inked_margin(8), 0, "{rows} × {cols}");
        assert!(figure.count(color::WHITE) < figure.pixels.len() / 3);
    }
    let names =
        |count: usize| (0..count).map(|i| format!("a long name of line {i}, {}", "x".repeat(99))).collect();
    let named = HeatMap {
        title: "title ".repeat(60),
        x_label: "x ".repeat(600),
        y_label: "y ".repeat(600),
        value_label: "z ".repeat(600),
        row_names: names(40),
        col_names: names(30),
        ..matrix(40, 30)
    };
    assert_eq!(heat(&named).unwrap().inked_margin(8), 0);
}

#[test]
fn cells_without_a_value_are_grey() {
    let mut map = matrix(2, 2);
    map.values[3] = f64::NAN;
    let figure = heat(&map).unwrap();
    assert!(figure.count(color::NO_VALUE) > 10_000);
    map.values = vec![f64::NAN; 4];
    assert!(heat(&map).unwrap().count(color::NO_VALUE) > 40_000);
}

#[test]
fn heat_maps_refuse_mismatched_sizes() {
    assert!(heat(&HeatMap { values: vec![0.0; 3], ..matrix(2, 2) }).is_err());
    assert!(heat(&HeatMap { row_names: vec!["one".into()], ..matrix(2, 2) }).is_err());
    assert!(heat(&HeatMap::default()).is_err());
}

#[test]
fn texts_are_shortened_at_a_whole_letter() {
    assert_eq!(fitted("TokenRank λ₂ → π", 20.0, 1000.0), "TokenRank λ₂ → π");
    assert_eq!(fitted("two\nlines", 20.0, 1000.0), "two lines");
    let short = fitted("TokenRank with and without the class token", 20.0, 150.0);
    assert!(
        short.starts_with("TokenRank") && short.ends_with('…') && text_width(&short, 20.0) <= 150.0,
        "{short}"
    );
    assert_eq!(fitted("abc", 20.0, 1.0), "…");
}

#[test]
fn titles_are_broken_at_a_space_or_after_a_hyphen() {
    let width = text_width("tokenrank-lambda2", 20.0);
    assert_eq!(two_lines("tokenrank-lambda2", 20.0, width), ["tokenrank-lambda2"]);
    assert_eq!(two_lines("tokenrank-lambda2", 20.0, width - 1.0), ["tokenrank-", "lambda2"]);
    assert_eq!(two_lines("tokenrank-lambda2 without", 20.0, width + 1.0), ["tokenrank-lambda2", "without"]);
    assert_eq!(two_lines("tokenrank", 20.0, 50.0).len(), 1);
    let [first, second] = <[String; 2]>::try_from(two_lines(&"lambda ".repeat(30), 20.0, 160.0)).unwrap();
    assert!(first.starts_with("lambda") && second.ends_with('…'), "{first} / {second}");
}

#[test]
fn the_font_has_the_signs_the_field_uses() {
    let shape = |sign: &str| {
        let mut canvas = Canvas::new(40, 40).unwrap();
        let how = Text { size: 28.0, ink: color::INK, align: Align::Middle, upwards: false };
        canvas.text((20.0, 20.0), sign, how).unwrap();
        read(&canvas.finish().unwrap()).pixels
    };
    // A sign that is missing in the font is drawn as a box.
    let missing = shape("\u{4e00}");
    for sign in "→αλπΣ₂²−×≤≥±…‖∞äß".chars() {
        assert_ne!(shape(&sign.to_string()), missing, "{sign}");
    }
}
