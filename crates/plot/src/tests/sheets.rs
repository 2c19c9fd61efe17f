//! Tests of sheets of maps, groups of patches, families of curves, histograms, galleries and segmentations.

use super::*;
use crate::canvas::wrapped;

#[test]
fn numbers_are_written_into_cells_that_are_large_enough() {
    let map = matrix(3, 4);
    let numbered = HeatMap { decimals: Some(2), ..map.clone() };
    assert!(heat(&numbered).unwrap().pixels != heat(&map).unwrap().pixels);
    let (small, none) = (HeatMap { decimals: Some(2), ..matrix(200, 3) }, matrix(200, 3));
    assert!(heat(&small).unwrap().pixels == heat(&none).unwrap().pixels, "too small to be read");
}

fn sheet(tiles: Vec<Tile>) -> TileSheet {
    let sections = vec![Section { heading: "forward ".repeat(90), tiles }];
    let title = "a long title ".repeat(60);
    TileSheet {
        title: title.clone(),
        image: gradient(64, 32),
        grid: (2, 4),
        columns: 2,
        sections,
        note: title,
    }
}

fn tiled(sheet: &TileSheet) -> Result<Png, PlotError> {
    tiles(sheet).map(|png| read(&png))
}

#[test]
fn tiles_show_each_patch_in_its_colour() {
    let tile = |values: Vec<f64>| Tile {
        title: "n = 1 ".repeat(40),
        note: "CLS ".repeat(80),
        values,
        mark: Some((0, 3)),
    };
    let values: Vec<f64> = (0..8).map(f64::from).collect();
    let figure = tiled(&sheet(vec![tile(vec![]), tile(values), tile(vec![f64::NAN; 8])])).unwrap();
    assert_eq!(figure.inked_margin(12), 0);
    // The second tile: 330 pixels wide, 165 high, below title, heading and words.
    let (left, top) = (36 + 330 + 26, 84 + 52 + 66);
    let under = |value: f64| color::blend(color::dim([64, 64, 120]), color::viridis(value / 7.0), 0.72);
    for (patch, at) in [(0, (20, 40)), (5, (120, 120)), (6, (200, 120))] {
        let found = figure.at(left + at.0, top + at.1);
        let wanted = under(f64::from(patch));
        assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 24), "{patch}: {found:?} {wanted:?}");
    }
    // The frame around the marked patch at the right edge: white, then dark.
    assert_eq!(figure.at(left + 331, top + 40), color::WHITE);
    assert!(figure.at(left + 333, top + 40)[0] < 200);
}

#[test]
fn brightness_of_the_image_hardly_changes_the_colour_of_a_value() {
    let shown = |pixel: u8, value: f64| {
        color::grey(color::blend(color::dim([pixel; 3]), color::viridis(value), 0.72))[0]
    };
    for tenth in 0..8 {
        let value = f64::from(tenth) / 10.0;
        assert!(shown(255, value) < shown(0, value + 0.25), "{value}");
    }
}

#[test]
fn tiles_refuse_mismatched_sizes() {
    let wrong = Tile { values: vec![0.0; 7], ..Tile::default() };
    assert!(tiled(&sheet(vec![wrong])).err().unwrap().to_string().contains("found 7"));
    let wrong = Tile { mark: Some((2, 0)), ..Tile::default() };
    assert!(tiled(&sheet(vec![wrong])).err().unwrap().to_string().contains("patch (2, 0)"));
}

fn grouped(assignment: Vec<usize>) -> Result<Png, PlotError> {
    let group =
        |name: &str| Region { name: name.repeat(30), cells: vec!["12 %".into()], label_at: Some((0, 0)) };
    let plot = Regions {
        title: "sets ".repeat(90),
        image: gradient(40, 40),
        grid: (2, 2),
        assignment,
        groups: vec![group("first "), group("second ")],
        columns: vec!["stays\nby chance".into()],
        notes: vec!["a note ".repeat(100)],
    };
    regions(&plot).map(|png| read(&png))
}

#[test]
fn groups_have_their_colours() {
    let figure = grouped(vec![0, 1, 1, 0]).unwrap();
    assert_eq!(figure.inked_margin(12), 0);
    for group in 0..2 {
        let swatch = color::blend([128; 3], color::regions(group), 0.8);
        assert!(figure.count(swatch) > 400, "{group}");
    }
    assert!(grouped(vec![0, 1, 1]).is_err());
    assert!(grouped(vec![0, 1, 1, 2]).err().unwrap().to_string().contains("no group 2"));
}

#[test]
fn families_and_histograms_stay_inside_the_figure() {
    let long = "a long label ".repeat(40);
    let points: Vec<(f64, f64)> = (1..90).map(|i| (f64::from(i), 0.7f64.powi(i))).collect();
    let line = |stroke| Line { name: long.clone(), points: points.clone(), stroke };
    let members = |count: usize| {
        let member = |i: usize| Member { name: format!("s{i}"), points: points.clone() };
        (0..count).map(member).collect()
    };
    for (count, lines) in
        [(0, vec![]), (1, vec![line(Stroke::Dashed)]), (40, vec![line(Stroke::Dotted), line(Stroke::Thick)])]
    {
        let plot = Family {
            title: long.clone(),
            x_label: long.clone(),
            y_label: long.clone(),
            members: members(count),
            name_label: long.clone(),
            lines,
        };
        assert_eq!(read(&family(&plot).unwrap()).inked_margin(12), 0, "{count}");
        let groups = (0..count).map(|i| (i.to_string(), vec![0.5, f64::NAN, 1.0, 7.0])).collect();
        let plot = Histogram {
            title: long.clone(),
            x_label: long.clone(),
            y_label: long.clone(),
            groups,
            name_label: long.clone(),
        };
        assert_eq!(read(&histogram(&plot).unwrap()).inked_margin(12), 0, "{count}");
    }
}

#[test]
fn images_are_encoded_as_png() {
    let figure = read(&gradient(5, 3).png().unwrap());
    assert_eq!((figure.width, figure.height, figure.pixels), (5, 3, gradient(5, 3).pixels));
    assert!(Rgb { width: 5, height: 3, pixels: vec![0; 44] }.png().is_err());
}

#[test]
fn notes_are_broken_at_spaces() {
    let width = text_width("several words", 20.0);
    assert_eq!(wrapped("several words of  a note", 20.0, width), ["several words", "of a note"]);
    assert_eq!(wrapped("", 20.0, width), Vec::<String>::new());
    assert!(wrapped(&"x".repeat(99), 20.0, width)[0].ends_with('…'));
}

#[test]
fn a_gallery_shows_every_image_at_its_place() {
    let one = |shade: u8| Rgb { width: 4, height: 4, pixels: vec![shade; 48] };
    let shown = Gallery {
        columns: vec!["seed 0".into(), "seed 1".into()],
        rows: vec![("no guidance".into(), vec![one(10), one(60)]), ("SAG".into(), vec![one(120), one(200)])],
    };
    let figure = read(&gallery(&shown).unwrap());
    let (side, gap) = (384, 12);
    for (row, shades) in [[10, 60], [120, 200]].into_iter().enumerate() {
        let y = 60 + 46 + row as u32 * (side + gap + 46) + side / 2;
        for (column, shade) in (0..).zip(shades) {
            assert_eq!(figure.at(30 + column * (side + gap) + side / 2, y), [shade; 3]);
        }
    }
    let torn = Gallery { rows: vec![("SAG".into(), vec![one(1)])], ..shown.clone() };
    let message = gallery(&torn).unwrap_err().to_string();
    assert!(message.contains("row `SAG` has 1 images for 2 columns"), "{message}");
    let none = Gallery { columns: Vec::new(), rows: Vec::new() };
    assert!(gallery(&none).unwrap_err().to_string().contains("no image"));
}

fn segmented(kinds: Vec<Kind>, dots: Vec<(f64, f64)>) -> SegmentsSheet {
    let map =
        Segmented { title: "truth ".repeat(30), size: (2, 3), labels: vec![0, 1, 2, 0, 1, 2], kinds, dots };
    let row = SegmentsRow { image: gradient(60, 40), label: "a name ".repeat(90), maps: vec![map; 2] };
    let classes = vec!["background ".repeat(60), "star".into()];
    SegmentsSheet { rows: vec![row.clone(), row], classes, dots: "anchor".into() }
}

fn segmentation(sheet: &SegmentsSheet) -> Result<Png, PlotError> {
    segments(sheet).map(|png| read(&png))
}

#[test]
fn segments_have_the_colours_of_their_classes() {
    let kinds = vec![Kind::Class(13), Kind::LeftOver, Kind::Ignored];
    let sheet = segmented(kinds, vec![(0.5, 0.75), (0.0, 0.0)]);
    let figure = segmentation(&sheet).unwrap();
    assert_eq!(figure.inked_margin(12), 0);
    // The second column: 360 pixels wide, 240 high, a third of it for each segment, below titles and the row's name.
    let (left, top) = (30 + 360 + 16, 24 + 84 + 44);
    let near = |found: [u8; 3], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 4);
    let under = |x: u8, y: u8| color::grey([x, y, 120]);
    let found = figure.at(left + 60, top + 60);
    assert!(near(found, color::blend(under(42, 63), color::area(13), 0.6)), "{found:?}");
    assert_eq!(figure.at(left + 300, top + 200), color::INK, "not labelled");
    assert_eq!(figure.at(left + 119, top + 60), color::INK, "a line between segments");
    // A segment without a class is grey and hatched.
    let hatched: Vec<[u8; 3]> = (130..200).map(|x| figure.at(left + x, top + 60)).collect();
    assert!(hatched.iter().all(|[r, g, b]| r == g && g == b));
    assert!(hatched.iter().any(|pixel| pixel[0] > 200) && hatched.iter().any(|pixel| pixel[0] < 160));
    assert_eq!(figure.at(left + 180, top + 180), color::WHITE, "the dot");
}

#[test]
fn classes_have_distinct_colours() {
    let colors: Vec<[u8; 3]> = (0..31).map(color::area).collect();
    assert!((0..31).all(|i| (0..i).all(|j| colors[i] != colors[j])), "{colors:?}");
}

#[test]
fn segments_refuse_mismatched_sizes() {
    let kinds = || vec![Kind::Class(0), Kind::Class(1), Kind::LeftOver];
    let broken = |change: fn(&mut SegmentsSheet)| {
        let mut sheet = segmented(kinds(), Vec::new());
        change(&mut sheet);
        segmentation(&sheet).err().unwrap().to_string()
    };
    assert!(broken(|sheet| sheet.rows.clear()).contains("no row"));
    assert!(broken(|sheet| sheet.rows[1].maps[0].labels = vec![0; 5]).contains("labels, found 5"));
    assert!(broken(|sheet| sheet.rows[0].maps[1].kinds.truncate(2)).contains("no segment 2 of 2"));
    assert!(broken(|sheet| sheet.rows[1].maps.truncate(1)).contains("other maps"));
}
