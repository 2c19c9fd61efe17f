//! The Nelder–Mead downhill simplex (1965), for the few free parameters of PCCA+.

/// Reflection, expansion, contraction and shrinkage: the standard coefficients.
const REFLECT: f64 = 1.0;
const EXPAND: f64 = 2.0;
const CONTRACT: f64 = 0.5;
const SHRINK: f64 = 0.5;

/// Returns a local minimum of `f` near `start`. Infinite values mark forbidden points.
pub(super) fn minimise(f: impl Fn(&[f64]) -> f64, start: &[f64], evaluations: usize) -> Vec<f64> {
    let size = start.len();
    let mut points: Vec<(f64, Vec<f64>)> = Vec::with_capacity(size + 1);
    points.push((f(start), start.to_vec()));
    for i in 0..size {
        let mut point = start.to_vec();
        point[i] += if point[i] == 0.0 { 0.01 } else { 0.05 * point[i] };
        points.push((f(&point), point));
    }
    let mut spent = size + 1;
    while spent < evaluations {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, worst) = (points[0].0, points[size].0);
        let spread = |i: usize| points.iter().map(|p| (p.1[i] - points[0].1[i]).abs()).fold(0.0, f64::max);
        if worst - best <= 1e-13 * best.abs().max(1.0) && (0..size).all(|i| spread(i) <= 1e-9) {
            break;
        }
        let centre: Vec<f64> =
            (0..size).map(|i| points[..size].iter().map(|p| p.1[i]).sum::<f64>() / size as f64).collect();
        let along = |t: f64| -> (f64, Vec<f64>) {
            let point: Vec<f64> = centre.iter().zip(&points[size].1).map(|(c, w)| c + t * (c - w)).collect();
            (f(&point), point)
        };
        let reflected = along(REFLECT);
        spent += 1;
        let next = if reflected.0 < best {
            spent += 1;
            let expanded = along(EXPAND);
            if expanded.0 < reflected.0 { expanded } else { reflected }
        } else if reflected.0 < points[size - 1].0 {
            reflected
        } else {
            spent += 1;
            along(if reflected.0 < worst { CONTRACT } else { -CONTRACT })
        };
        if next.0 < worst {
            points[size] = next;
            continue;
        }
        let anchor = points[0].1.clone();
        for point in &mut points[1..] {
            point.1.iter_mut().zip(&anchor).for_each(|(p, a)| *p = a + SHRINK * (*p - a));
            point.0 = f(&point.1);
        }
        spent += size;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.swap_remove(0).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_a_curved_valley() {
        let valley = |p: &[f64]| 100.0 * (p[1] - p[0] * p[0]).powi(2) + (1.0 - p[0]).powi(2);
        let found = minimise(valley, &[-1.2, 1.0], 4000);
        assert!((found[0] - 1.0).abs() < 1e-6 && (found[1] - 1.0).abs() < 1e-6, "{found:?}");
    }
}
