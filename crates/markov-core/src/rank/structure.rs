//! What the zeros of a chain say: its closed classes and their period.

use crate::chain::{Chain, RowStochastic};

/// Closed communicating classes of a chain, read from the exact zeros of its matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Members of each closed class, in rising order. A chain has at least one.
    pub closed: Vec<Vec<usize>>,
    /// Period of the first closed class: 1 where it is aperiodic.
    pub period: usize,
}

impl<M: RowStochastic> Chain<M> {
    /// Closed communicating classes: where the chain ends up and never leaves. O(n²).
    ///
    /// The steady state is unique when there is one, and the chain settles in it when the period is 1.
    pub fn classes(&self) -> Classes {
        let n = self.states();
        if self.all_edges() {
            return Classes { closed: vec![(0..n).collect()], period: 1 };
        }
        let component = components(n, |i, j| self.edge(i, j));
        let count = component.iter().max().map_or(0, |last| last + 1);
        let mut open = vec![false; count];
        for i in 0..n {
            for j in (0..n).filter(|j| component[i] != component[*j] && self.edge(i, *j)) {
                // The reversed chain leaves the class that the forward one enters.
                open[if self.is_backward() { component[j] } else { component[i] }] = true;
            }
        }
        let mut closed: Vec<Vec<usize>> = vec![Vec::new(); count];
        (0..n).for_each(|i| closed[component[i]].push(i));
        let mut keep = open.iter().map(|open| !open);
        closed.retain(|_| keep.next().unwrap_or(false));
        closed.sort();
        // A cycle is as long backwards as forwards.
        let period = closed.first().map_or(1, |class| period(class, |i, j| self.edge(i, j)));
        Classes { closed, period }
    }
}

/// Strongly connected component of each vertex (Tarjan 1972), without recursion.
fn components(n: usize, edge: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let (mut order, mut low) = (vec![UNSEEN; n], vec![0; n]);
    let (mut component, mut components, mut seen) = (vec![UNSEEN; n], 0, 0);
    let mut stack = Vec::new();
    for root in 0..n {
        if order[root] != UNSEEN {
            continue;
        }
        // Each frame is a vertex and the next neighbour to look at.
        let mut frames = vec![(root, 0)];
        while let Some((v, next)) = frames.pop() {
            if next == 0 {
                (order[v], low[v]) = (seen, seen);
                seen += 1;
                stack.push(v);
            } else if component[next - 1] == UNSEEN {
                // Back from the neighbour `next - 1`, or it was seen earlier on this path.
                low[v] = low[v].min(low[next - 1].min(order[next - 1]));
            }
            match (next..n).find(|w| edge(v, *w) && component[*w] == UNSEEN) {
                Some(w) => {
                    frames.push((v, w + 1));
                    if order[w] == UNSEEN {
                        frames.push((w, 0));
                    }
                }
                None if low[v] == order[v] => {
                    while let Some(w) = stack.pop() {
                        component[w] = components;
                        if w == v {
                            break;
                        }
                    }
                    components += 1;
                }
                None => {}
            }
        }
    }
    component
}

/// Greatest common divisor of the cycle lengths of a strongly connected class.
fn period(class: &[usize], edge: impl Fn(usize, usize) -> bool) -> usize {
    let Some(first) = class.first() else { return 1 };
    let size = class.last().map_or(0, |last| last + 1);
    let mut level = vec![usize::MAX; size];
    level[*first] = 0;
    let mut queue = std::collections::VecDeque::from([*first]);
    let mut gcd = 0usize;
    while let Some(i) = queue.pop_front() {
        for &j in class.iter().filter(|j| edge(i, **j)) {
            if level[j] == usize::MAX {
                level[j] = level[i] + 1;
                queue.push_back(j);
            } else {
                let (mut a, mut b) = (gcd, (level[i] + 1).abs_diff(level[j]));
                while b > 0 {
                    (a, b) = (b, a % b);
                }
                gcd = a;
            }
            if gcd == 1 {
                return 1;
            }
        }
    }
    gcd.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stochastic;
    use ndarray::{Array2, array};

    #[test]
    fn classes_of_known_chains() {
        let identity = Stochastic::new(Array2::<f64>::eye(3)).unwrap();
        assert_eq!(identity.forward().classes().closed, [vec![0], vec![1], vec![2]]);
        let cycle = Stochastic::new(array![[0., 1., 0.], [0., 0., 1.], [1., 0., 0.]]).unwrap();
        assert_eq!(cycle.forward().classes(), Classes { closed: vec![vec![0, 1, 2]], period: 3 });
        assert_eq!(cycle.backward().unwrap().classes().period, 3);
        let drain = Stochastic::new(array![[0.5, 0.5, 0.], [0., 0.5, 0.5], [0., 0.5, 0.5]]).unwrap();
        assert_eq!(drain.forward().classes(), Classes { closed: vec![vec![1, 2]], period: 1 });
        assert_eq!(drain.backward().unwrap().classes().closed, [vec![0]]);
        assert_eq!(drain.teleport(0.9).unwrap().forward().classes().closed, [vec![0, 1, 2]]);
    }

    #[test]
    fn components_agree_with_reachability() {
        let mut random = crate::random::Random::new(3);
        for n in 1..9 {
            for _ in 0..60 {
                let edges = Array2::from_shape_simple_fn((n, n), || random.symmetric() > 0.5);
                let mut reach = edges.clone();
                for k in 0..n {
                    for i in 0..n {
                        for j in 0..n {
                            reach[(i, j)] |= reach[(i, k)] && reach[(k, j)];
                        }
                    }
                }
                let found = components(n, |i, j| edges[(i, j)]);
                for i in 0..n {
                    for j in 0..n {
                        let together = i == j || (reach[(i, j)] && reach[(j, i)]);
                        assert_eq!(found[i] == found[j], together, "{edges:?} {found:?}");
                    }
                }
            }
        }
    }
}
