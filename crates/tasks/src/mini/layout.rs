//! The layout of a scene: areas, rotations and places of its objects, on a reference grid that does not depend on the
//! image's size. A scene therefore has the same geometry at every size.

use super::rng::Rng;
use super::shape::{Class, Figure};

/// Fraction of the image that the object of a single-object scene covers.
pub const SINGLE_AREA: (f64, f64) = (0.12, 0.30);
/// Fraction of the image that all objects of a scene with several objects cover together, hidden parts included. Each
/// object gets roughly an equal part of it.
pub const SEVERAL_AREA: (f64, f64) = (0.16, 0.34);
/// Minimum distance of every object from the image's border.
pub const BORDER: f64 = 0.02;
/// One axis is stretched by up to this factor, the other shrunk by it.
const STRETCH: f64 = 1.12;

/// Side of the reference grid on which overlaps are counted: each row is one `u64`.
const GRID: usize = 64;
/// Number of places tried for an object before the whole layout is drawn afresh, and number of fresh layouts before
/// each object gets its own cell.
const TRIES: usize = 48;
const LAYOUTS: usize = 24;

/// The range of areas of one object among `count`.
fn areas(count: usize) -> (f64, f64) {
    match count {
        1 => SINGLE_AREA,
        n => (SEVERAL_AREA.0 / n as f64, SEVERAL_AREA.1 / n as f64),
    }
}

/// Draws a figure that fits into a box with side `room`; it is smaller than `area` asks if necessary.
fn draw_figure(rng: &mut Rng, class: Class, area: (f64, f64), room: f64) -> Figure {
    let turn = rng.direction();
    let aspect = if rng.chance(0.5) { rng.range(1.0, STRETCH) } else { 1.0 / rng.range(1.0, STRETCH) };
    let [left, up, right, down] = Figure::new(class, 1.0, aspect, turn).reaches();
    let side = room / (left + right).max(up + down);
    let largest = side * side;
    Figure::new(class, rng.range(area.0.min(largest), area.1.min(largest)), aspect, turn)
}

/// Moves the figure to a random place within the box `x0..x1, y0..y1`.
fn place(rng: &mut Rng, figure: &mut Figure, [x0, y0, x1, y1]: [f64; 4]) {
    let [left, up, right, down] = figure.reaches();
    figure.centre = (rng.range(x0 + left, x1 - right), rng.range(y0 + up, y1 - down));
}

type Raster = [u64; GRID];

/// Rasters the figure on the reference grid: a bit is set for each cell whose centre lies inside.
fn raster(figure: &Figure) -> Raster {
    let mut rows = [0; GRID];
    let [x0, y0, x1, y1] = figure.pixels(GRID);
    let centre = |i: usize| (i as f64 + 0.5) / GRID as f64;
    for (y, row) in rows.iter_mut().enumerate().take(y1).skip(y0) {
        for x in x0..x1 {
            *row |= u64::from(figure.contains(centre(x), centre(y))) << x;
        }
    }
    rows
}

fn count(raster: &Raster) -> u32 {
    raster.iter().map(|row| row.count_ones()).sum()
}

/// Whether enough of every object beneath `newest` stays visible.
fn all_in_view(placed: &[Raster], newest: &Raster, max_overlap: f64) -> bool {
    placed.iter().enumerate().all(|(i, object)| {
        let mut hidden = 0;
        for row in 0..GRID {
            let above = placed[i + 1..].iter().fold(newest[row], |above, other| above | other[row]);
            hidden += (object[row] & above).count_ones();
        }
        f64::from(hidden) <= max_overlap * f64::from(count(object))
    })
}

/// Places one figure per class into the unit square, the last on top. Of no figure is more than `max_overlap` of the
/// area hidden by the figures above it (counted on the reference grid).
pub(crate) fn arrange(rng: &mut Rng, classes: &[Class], max_overlap: f64) -> Vec<Figure> {
    let area = areas(classes.len());
    let frame = [BORDER, BORDER, 1.0 - BORDER, 1.0 - BORDER];
    let room = 1.0 - 2.0 * BORDER;
    'layout: for _ in 0..LAYOUTS {
        let mut figures = Vec::with_capacity(classes.len());
        let mut placed: Vec<Raster> = Vec::with_capacity(classes.len());
        for &class in classes {
            let mut figure = draw_figure(rng, class, area, room);
            let found = (0..TRIES).find_map(|_| {
                place(rng, &mut figure, frame);
                let newest = raster(&figure);
                all_in_view(&placed, &newest, max_overlap).then_some(newest)
            });
            let Some(newest) = found else { continue 'layout };
            placed.push(newest);
            figures.push(figure);
        }
        return figures;
    }
    in_cells(rng, classes, area)
}

/// Fallback if no random layout fits: a board of cells with one object in each, in random order.
fn in_cells(rng: &mut Rng, classes: &[Class], area: (f64, f64)) -> Vec<Figure> {
    let columns = (1..).find(|side| side * side >= classes.len()).unwrap_or(1);
    let cell = (1.0 - 2.0 * BORDER) / columns as f64;
    let mut cells: Vec<usize> = (0..columns * columns).collect();
    rng.shuffle(&mut cells);
    let mut figures = Vec::with_capacity(classes.len());
    for (&class, &at) in classes.iter().zip(&cells) {
        let (x, y) = (BORDER + cell * (at % columns) as f64, BORDER + cell * (at / columns) as f64);
        let mut figure = draw_figure(rng, class, area, cell);
        place(rng, &mut figure, [x, y, x + cell, y + cell]);
        figures.push(figure);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_objects_apart() {
        for seed in 0..50 {
            let mut rng = Rng::keyed(&[seed]);
            let figures = in_cells(&mut rng, &Class::ALL[..6], areas(6));
            let rasters: Vec<Raster> = figures.iter().map(raster).collect();
            for (i, raster) in rasters.iter().enumerate() {
                assert!(count(raster) > 0);
                assert!(all_in_view(&rasters[..i], raster, 0.0), "seed {seed}, object {i}");
            }
        }
    }

    #[test]
    fn figures_stay_in_the_frame() {
        for seed in 0..200 {
            for figure in arrange(&mut Rng::keyed(&[seed]), &Class::ALL[..(seed % 6 + 1) as usize], 0.1) {
                let ([left, up, right, down], (x, y)) = (figure.reaches(), figure.centre);
                for inside in [x - left, y - up, 1.0 - x - right, 1.0 - y - down] {
                    assert!(inside >= BORDER - 1e-9, "seed {seed}: {inside}");
                }
            }
        }
    }

    #[test]
    fn no_object_is_hidden_more_than_allowed() {
        let mut hidden_at_all = 0;
        for seed in 0..150 {
            let allowed = 0.05 * (seed % 5) as f64;
            let figures = arrange(&mut Rng::keyed(&[seed]), &Class::ALL[..4], allowed);
            let centre = |i: usize| (i as f64 + 0.5) / GRID as f64;
            for (i, figure) in figures.iter().enumerate() {
                let cells: Vec<(f64, f64)> = (0..GRID * GRID)
                    .map(|at| (centre(at % GRID), centre(at / GRID)))
                    .filter(|&(x, y)| figure.contains(x, y))
                    .collect();
                let hidden = cells
                    .iter()
                    .filter(|&&(x, y)| figures[i + 1..].iter().any(|above| above.contains(x, y)))
                    .count();
                assert!(hidden as f64 <= allowed * cells.len() as f64, "seed {seed}, object {i}: {hidden}");
                hidden_at_all += usize::from(hidden > 0);
            }
        }
        assert!(hidden_at_all > 20, "objects hardly ever meet: {hidden_at_all}");
    }
}
