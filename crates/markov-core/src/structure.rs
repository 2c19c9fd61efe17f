//! The structure of a chain from its zeros: strongly connected components, which of them are closed, and their period.
//!
//! Our own code instead of petgraph: with one bit per transition this takes n²/64 operations, while adjacency lists of
//! a dense matrix would be larger than the matrix.

/// The possible transitions of a chain, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    states: usize,
    /// Number of 64-bit words per row.
    words: usize,
    bits: Vec<u64>,
}

impl Links {
    /// Creates links between `states` states without any transition.
    pub fn none(states: usize) -> Self {
        let words = states.div_ceil(64);
        Links { states, words, bits: vec![0; words * states] }
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.states
    }

    /// Adds the transitions from state `from` to every state whose value in `row` `[n]` is `possible`.
    pub fn add_row<T>(&mut self, from: usize, row: &[T], possible: impl Fn(&T) -> bool) {
        LinkRows { words: self.words, bits: &mut self.bits }.add_row(from, row, possible);
    }

    /// Returns all rows in groups of `rows` neighbours, which can be filled in parallel.
    pub(crate) fn parts(&mut self, rows: usize) -> impl Iterator<Item = LinkRows<'_>> {
        let words = self.words;
        self.bits.chunks_mut(rows * words).map(move |bits| LinkRows { words, bits })
    }

    /// Whether the transition is possible.
    pub fn has(&self, from: usize, to: usize) -> bool {
        self.row(from)[to / 64] >> (to % 64) & 1 == 1
    }

    /// Whether every transition is possible.
    pub fn all(&self) -> bool {
        let last = u64::MAX >> ((64 - self.states % 64) % 64);
        (0..self.states).all(|from| {
            let Some((tail, whole)) = self.row(from).split_last() else { return true };
            whole.iter().all(|word| *word == u64::MAX) && *tail == last
        })
    }

    fn row(&self, from: usize) -> &[u64] {
        &self.bits[from * self.words..][..self.words]
    }

    /// Returns the reversed transitions.
    fn reversed(&self) -> Links {
        let mut reversed = Links::none(self.states);
        let mut tile = [0u64; 64];
        for block in 0..self.words {
            let rows = (self.states - block * 64).min(64);
            for word in 0..self.words {
                tile.fill(0);
                for (r, tile) in tile.iter_mut().take(rows).enumerate() {
                    *tile = self.bits[(block * 64 + r) * self.words + word];
                }
                transpose(&mut tile);
                let columns = (self.states - word * 64).min(64);
                for (c, tile) in tile.iter().take(columns).enumerate() {
                    reversed.bits[(word * 64 + c) * self.words + block] = *tile;
                }
            }
        }
        reversed
    }
}

/// Some neighbouring rows of [`Links`], counted from the first of them.
pub(crate) struct LinkRows<'l> {
    words: usize,
    bits: &'l mut [u64],
}

impl LinkRows<'_> {
    /// Adds the transitions of a row to every state whose value in `values` `[n]` is `possible`.
    pub(crate) fn add_row<T>(&mut self, row: usize, values: &[T], possible: impl Fn(&T) -> bool) {
        // The product moves the lowest bit of byte i to bit 56 + i, without a loop over bits.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        let words = &mut self.bits[row * self.words..][..self.words];
        for (word, values) in words.iter_mut().zip(values.chunks(64)) {
            let mut flags = [0u8; 64];
            flags.iter_mut().zip(values).for_each(|(flag, value)| *flag = u8::from(possible(value)));
            for (place, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
                *word |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * place);
            }
        }
    }

    /// Adds the transitions of a row to the states `from..end`.
    pub(crate) fn add_range(&mut self, row: usize, from: usize, end: usize) {
        let words = &mut self.bits[row * self.words..][..self.words];
        for (first, word) in (0..).step_by(64).zip(words.iter_mut()) {
            let (low, high) = (from.clamp(first, first + 64), end.clamp(first, first + 64));
            if low < high {
                *word |= (u64::MAX >> (64 - (high - low))) << (low - first);
            }
        }
    }
}

/// Transposes a 64 × 64 matrix of bits in place: swaps ever smaller off-diagonal quarters (Warren, Hacker's Delight, 7-3).
fn transpose(tile: &mut [u64; 64]) {
    let (mut width, mut mask) = (32, u64::from(u32::MAX));
    while width > 0 {
        for low in (0..64).filter(|row| row & width == 0) {
            let swap = (tile[low] >> width ^ tile[low | width]) & mask;
            tile[low] ^= swap << width;
            tile[low | width] ^= swap;
        }
        width /= 2;
        mask ^= mask << width;
    }
}

/// The strongly connected components of a chain, read from the exact zeros of its matrix.
///
/// If components are sorted so that no walk returns to a component it has left, the matrix is block triangular with the
/// components on its diagonal. So its eigenvalues are those of the diagonal blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Components {
    /// Members of each component in rising order, the components in rising order of their first members.
    pub members: Vec<Vec<usize>>,
    /// For each component, whether the chain never leaves it.
    pub closed: Vec<bool>,
}

impl Components {
    /// Returns the components of the chain with these transitions, or of the backward chain if `reversed`. The backward
    /// chain has the same sets; a set is closed if the forward chain never enters it.
    pub fn of(links: &Links, reversed: bool) -> Self {
        let back = links.reversed();
        let mut members = strong(links, &back);
        members.iter_mut().for_each(|one| one.sort_unstable());
        members.sort_unstable_by_key(|one| one[0]);
        let leaving = if reversed { &back } else { links };
        let mut mask = vec![0u64; links.words];
        let closed = members
            .iter()
            .map(|one| {
                one.iter().for_each(|i| mask[i / 64] |= 1 << (i % 64));
                let stays = |i: &usize| leaving.row(*i).iter().zip(&mask).all(|(row, mask)| row & !mask == 0);
                let closed = one.iter().all(stays);
                one.iter().for_each(|i| mask[i / 64] = 0);
                closed
            })
            .collect();
        Components { members, closed }
    }

    /// Every state is a component of its own, as in a triangular matrix; says of each whether it is closed.
    pub(crate) fn singletons(closed: Vec<bool>) -> Self {
        Components { members: (0..closed.len()).map(|state| vec![state]).collect(), closed }
    }

    /// Whether every state leads to every other.
    pub fn irreducible(&self) -> bool {
        self.members.len() == 1
    }
}

/// Returns the strongly connected components: one depth-first search along the links, then a second one against them in
/// the order in which the first left the states (Kosaraju; Sharir 1981).
fn strong(links: &Links, back: &Links) -> Vec<Vec<usize>> {
    let n = links.states;
    let all = |unseen: &mut Vec<u64>| {
        *unseen = vec![u64::MAX; links.words];
        if let (Some(last), false) = (unseen.last_mut(), n.is_multiple_of(64)) {
            *last = (1 << (n % 64)) - 1;
        }
    };
    let mut unseen = Vec::new();
    all(&mut unseen);
    let mut left = Vec::with_capacity(n);
    for root in 0..n {
        search(links, &mut unseen, root, &mut left);
    }
    all(&mut unseen);
    let mut components = Vec::new();
    for root in left.into_iter().rev() {
        let mut component = Vec::new();
        search(back, &mut unseen, root, &mut component);
        if !component.is_empty() {
            components.push(component);
        }
    }
    components
}

/// Depth-first search from `root` among the states that are `unseen`; appends the states to `left` as it leaves them.
fn search(links: &Links, unseen: &mut [u64], root: usize, left: &mut Vec<usize>) {
    if unseen[root / 64] >> (root % 64) & 1 == 0 {
        return;
    }
    unseen[root / 64] &= !(1 << (root % 64));
    // Each frame is a state and the word of its row at which the search continues; earlier words have no unseen states.
    let mut path = vec![(root, 0)];
    while let Some((state, word)) = path.last_mut() {
        let row = links.row(*state);
        while *word < row.len() && row[*word] & unseen[*word] == 0 {
            *word += 1;
        }
        if *word == row.len() {
            left.push(*state);
            path.pop();
            continue;
        }
        let next = *word * 64 + (row[*word] & unseen[*word]).trailing_zeros() as usize;
        unseen[next / 64] &= !(1 << (next % 64));
        path.push((next, 0));
    }
}

/// Closed communicating classes of a chain, read from the exact zeros of its matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Members of each closed class, in rising order. A chain has at least one.
    pub closed: Vec<Vec<usize>>,
    /// Period of the first closed class; 1 if it is aperiodic.
    pub period: usize,
}

impl Classes {
    /// The single class of a chain in which every transition is possible.
    pub fn whole(states: usize) -> Self {
        Classes { closed: vec![(0..states).collect()], period: 1 }
    }

    /// Returns the closed classes of the chain with these transitions, or of its reversal.
    pub fn of(links: &Links, reversed: bool) -> Self {
        let Components { members, closed } = Components::of(links, reversed);
        let closed: Vec<_> =
            members.into_iter().zip(closed).filter_map(|(one, closed)| closed.then_some(one)).collect();
        // A cycle has the same length in both directions.
        let period = closed.first().map_or(1, |class| period(class, links));
        Classes { closed, period }
    }
}

/// Returns the greatest common divisor of the cycle lengths of a strongly connected class.
fn period(class: &[usize], links: &Links) -> usize {
    let Some(first) = class.first() else { return 1 };
    let mut level = vec![usize::MAX; links.states];
    level[*first] = 0;
    let mut queue = std::collections::VecDeque::from([*first]);
    let mut gcd = 0usize;
    while let Some(i) = queue.pop_front() {
        for &j in class.iter().filter(|j| links.has(i, **j)) {
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
    use crate::random::Random;
    use ndarray::Array2;

    fn links(edges: &Array2<bool>) -> Links {
        let mut links = Links::none(edges.nrows());
        for (i, row) in edges.rows().into_iter().enumerate() {
            links.add_row(i, &row.to_vec(), |edge| *edge);
        }
        links
    }

    /// Reachability between states, by Warshall's closure.
    fn reach(edges: &Array2<bool>) -> Array2<bool> {
        let n = edges.nrows();
        let mut reach = edges.clone();
        for k in 0..n {
            for i in 0..n {
                for j in 0..n {
                    reach[(i, j)] |= reach[(i, k)] && reach[(k, j)];
                }
            }
        }
        reach
    }

    #[test]
    fn links_keep_every_bit_and_turn_round() {
        let mut random = Random::new(9);
        for n in [1, 2, 63, 64, 65, 127, 128, 130] {
            let edges = Array2::from_shape_simple_fn((n, n), || random.symmetric() > 0.3);
            let (there, back) = (links(&edges), links(&edges).reversed());
            for ((i, j), edge) in edges.indexed_iter() {
                assert_eq!((there.has(i, j), back.has(j, i)), (*edge, *edge), "{n}: {i} {j}");
            }
            assert_eq!(back.reversed(), there);
            assert!(links(&Array2::from_elem((n, n), true)).all());
            let mut hole = Array2::from_elem((n, n), true);
            hole[(n - 1, n - 1)] = false;
            assert!(!links(&hole).all());
        }
    }

    #[test]
    fn ranges_equal_rows() {
        for n in [1, 5, 64, 65, 130] {
            let numbers: Vec<usize> = (0..n).collect();
            for (from, end) in [(0, n), (0, 0), (n / 2, n), (n / 3, n / 2 + 1), (n - 1, n)] {
                let (mut ranges, mut rows) = (Links::none(n), Links::none(n));
                ranges.parts(n).for_each(|mut part| part.add_range(n / 2, from, end));
                rows.add_row(n / 2, &numbers, |to| (from..end).contains(to));
                assert_eq!(ranges, rows, "{n}: {from}..{end}");
            }
        }
    }

    #[test]
    fn components_agree_with_reachability() {
        let mut random = Random::new(3);
        for n in (1..9).chain([70, 129]) {
            for round in 0..if n < 9 { 60 } else { 4 } {
                // From a few links a state, where components are large and small, to many.
                let threshold = if n < 9 { 0.5 } else { 1.0 - f64::from(round + 1) / n as f64 };
                let edges = Array2::from_shape_simple_fn((n, n), || random.symmetric() > threshold);
                let reach = reach(&edges);
                for reversed in [false, true] {
                    let found = Components::of(&links(&edges), reversed);
                    let mut of = vec![usize::MAX; n];
                    for (c, members) in found.members.iter().enumerate() {
                        assert!(members.windows(2).all(|pair| pair[0] < pair[1]));
                        members.iter().for_each(|i| of[*i] = c);
                    }
                    for i in 0..n {
                        let mut leaves = false;
                        for j in 0..n {
                            let together = i == j || (reach[(i, j)] && reach[(j, i)]);
                            assert_eq!(of[i] == of[j], together, "{edges:?} {found:?}");
                            leaves |= !together && if reversed { reach[(j, i)] } else { reach[(i, j)] };
                        }
                        assert_eq!(found.closed[of[i]], !leaves, "{edges:?} {found:?}");
                    }
                }
            }
        }
    }
}
