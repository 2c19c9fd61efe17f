//! `tokenrank rank`: the options against linear algebra done here, and files that keep what could be had.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::common::{arg, run, words};
use crate::rank::{TWO, assert_close, f64s, npy, read, safetensors, square};

/// Whole numbers of a tensor.
fn whole(path: &Path, name: &str) -> (Vec<usize>, Vec<i64>) {
    let bytes = fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).expect("the tensor");
    assert_eq!(view.dtype(), Dtype::I64);
    let values = view.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
    (view.shape().to_vec(), values)
}

fn has(path: &Path, name: &str) -> bool {
    let bytes = fs::read(path).expect("written");
    SafeTensors::deserialize(&bytes).expect("a safetensors file").tensor(name).is_ok()
}

/// A causal head over five tokens.
const CAUSAL: [f64; 25] = [
    1.0, 0.0, 0.0, 0.0, 0.0, //
    0.7, 0.3, 0.0, 0.0, 0.0, //
    0.5, 0.25, 0.25, 0.0, 0.0, //
    0.1, 0.6, 0.1, 0.2, 0.0, //
    0.6, 0.1, 0.1, 0.1, 0.1,
];

/// Steady state of `n × n` numbers by many steps from the uniform state.
fn steady(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut state = vec![1.0 / n as f64; n];
    for _ in 0..20_000 {
        let mut next = vec![0.0; n];
        for (i, share) in state.iter().enumerate() {
            (0..n).for_each(|j| next[j] += share * matrix[i * n + j]);
        }
        state = next;
    }
    state
}

fn teleported(matrix: &[f64], n: usize, alpha: f64, target: &[f64]) -> Vec<f64> {
    matrix.iter().enumerate().map(|(k, p)| alpha * p + (1.0 - alpha) * target[k % n]).collect()
}

/// The matrix among `kept` tokens, its rows renormalised.
fn restricted(matrix: &[f64], n: usize, kept: &[usize]) -> Vec<f64> {
    let row = |i: &usize| {
        let row: Vec<f64> = kept.iter().map(|j| matrix[i * n + j]).collect();
        let sum: f64 = row.iter().sum();
        row.into_iter().map(move |p| p / sum)
    };
    kept.iter().flat_map(row).collect()
}

#[test]
fn teleports_go_where_they_are_sent() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let d = dir.path();
    let heads = [CAUSAL, CAUSAL].concat();
    let file = npy(d, "causal.npy", "<f8", false, &[2, 5, 5], &f64s(&heads));
    let out = d.join("out.safetensors");
    let (first, second) = ([0.0, 0.0, 0.25, 0.25, 0.5], [0.2, 0.8, 0.0, 0.0, 0.0]);
    let one = npy(d, "one.npy", "<f8", false, &[5], &f64s(&first));
    let each = npy(d, "each.npy", "<f8", false, &[2, 5], &f64s(&[first, second].concat()));
    let named = safetensors(
        d,
        "named.safetensors",
        &[("other", Dtype::F64, vec![1], f64s(&[1.0])), ("teleport", Dtype::F64, vec![5], f64s(&first))],
    );
    for (teleport, targets) in [(&one, [first, first]), (&each, [first, second]), (&named, [first, first])] {
        run(&["rank", arg(&file), "--alpha", "0.8", "--teleport", arg(teleport), "--out", arg(&out)], 0);
        let (shape, ranks) = read(&out, "tokenrank");
        assert_eq!(shape, [2, 5]);
        for (ranks, target) in ranks.chunks(5).zip(targets) {
            assert_close(ranks, &steady(&teleported(&CAUSAL, 5, 0.8, &target), 5), 1e-6);
        }
    }
    // Bounces teleport as well: one step from token 4.
    run(
        &["rank", arg(&file), "--alpha", "0.8", "--teleport", arg(&one), "--start", "4", "--out", arg(&out)],
        0,
    );
    assert_close(&read(&out, "bounces").1[..5], &teleported(&CAUSAL, 5, 0.8, &first)[20..], 1e-12);
    // Among the kept tokens it is renormalised.
    let dropped = ["--drop", "2", "--teleport", arg(&one)];
    run(&[&["rank", arg(&file), "--alpha", "0.8", "--out", arg(&out)], &dropped[..]].concat(), 0);
    let kept = restricted(&CAUSAL, 5, &[0, 1, 3, 4]);
    let target = [0.0, 0.0, 1.0 / 3.0, 2.0 / 3.0];
    assert_close(&read(&out, "tokenrank").1[..4], &steady(&teleported(&kept, 4, 0.8, &target), 4), 1e-6);
    fs::remove_file(&out).expect("written");

    let short = npy(d, "short.npy", "<f8", false, &[4], &f64s(&[0.25; 4]));
    let sums = npy(d, "sums.npy", "<f8", false, &[5], &f64s(&[0.5; 5]));
    let nan = npy(d, "nan.npy", "<f8", false, &[5], &f64s(&[f64::NAN, 0.25, 0.25, 0.25, 0.25]));
    let negative = npy(d, "negative.npy", "<f8", false, &[5], &f64s(&[-0.5, 0.5, 0.5, 0.25, 0.25]));
    let two = safetensors(
        d,
        "two.safetensors",
        &[("a", Dtype::F64, vec![5], f64s(&first)), ("b", Dtype::F64, vec![5], f64s(&first))],
    );
    for (teleport, extra, code, word) in [
        (&short, &[][..], 2, "[5] or [2, 5]"),
        (&sums, &[], 3, "sums to 2.5"),
        (&nan, &[], 3, "entry 0 is NaN"),
        (&negative, &[], 3, "entry 0 is -0.5"),
        (&two, &[], 2, "`teleport`"),
        (&d.join("nowhere.npy"), &[], 3, "nowhere.npy"),
        (&one, &["--alpha", "1"], 2, "--teleport"),
        (&each, &["--drop", "0,1"], 3, "dropped tokens"),
    ] {
        let args = ["rank", arg(&file), "--teleport", arg(teleport), "--out", arg(&out)];
        let message = words(&run(&[&args[..], extra].concat(), code));
        assert!(message.contains(word), "{message}");
        assert!(!out.exists());
    }
}

#[test]
fn visits_before_absorption() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "causal.npy", 5, &CAUSAL);
    let out = dir.path().join("out.safetensors");
    run(&["rank", arg(&file), "--absorb", "0", "--start", "4", "--out", arg(&out)], 0);
    // By substitution: 1/0.9, then each earlier token's share of the later ones' visits.
    let four = 1.0 / 0.9;
    let three = 0.1 * four / 0.8;
    let two = (0.1 * four + 0.1 * three) / 0.75;
    let one = (0.1 * four + 0.6 * three + 0.25 * two) / 0.7;
    let (shape, visits) = read(&out, "visits");
    assert_eq!(shape, [5]);
    assert_close(&visits, &[0.0, one, two, three, four], 1e-12);
    assert!((read(&out, "steps").1[4] - (one + two + three + four)).abs() < 1e-12);
    assert_eq!(read(&out, "steps").1[0], 0.0);
    assert_eq!(read(&out, "absorption"), (vec![5, 1], vec![1.0; 5]));

    // Two ends: the fair gambler's ruin from the middle, starts spread evenly where none is said.
    let n = 7;
    let line: Vec<f64> =
        (0..n * n).map(|k: usize| if (k / n).abs_diff(k % n) == 1 { 0.5 } else { 0.0 }).collect();
    let line: Vec<f64> = line
        .chunks(n)
        .flat_map(|row| {
            let sum: f64 = row.iter().sum();
            row.iter().map(move |p| p / sum).collect::<Vec<_>>()
        })
        .collect();
    let file = square(dir.path(), "line.npy", n, &line);
    run(&["rank", arg(&file), "--absorb", "6", "--absorb", "0", "--out", arg(&out)], 0);
    let (shape, ends) = read(&out, "absorption");
    assert_eq!(shape, [7, 2]);
    for (i, row) in ends.chunks(2).enumerate() {
        assert_close(row, &[1.0 - i as f64 / 6.0, i as f64 / 6.0], 1e-12);
    }
    let steps = read(&out, "steps").1;
    assert_close(&steps, &[0.0, 5.0, 8.0, 9.0, 8.0, 5.0, 0.0], 1e-10);
    let visits = read(&out, "visits").1;
    assert!((visits.iter().sum::<f64>() - steps.iter().sum::<f64>() / 7.0).abs() < 1e-10);

    // Token numbers are those of the file, also where tokens are left out.
    run(&["rank", arg(&file), "--drop", "0", "--absorb", "1", "--start", "2", "--out", arg(&out)], 0);
    assert_eq!(whole(&out, "tokens"), (vec![6], vec![1, 2, 3, 4, 5, 6]));
    assert!(read(&out, "visits").1[0] == 0.0 && read(&out, "visits").1[1] > 1.0);
    fs::remove_file(&out).expect("written");
    for (extra, word) in [
        (&["--absorb", "7"][..], "no token 7"),
        (&["--absorb", "1", "--drop", "1"], "token 1 is left out of the chain"),
        (&["--absorb", "1-"], "token number"),
    ] {
        let message = words(&run(&[&["rank", arg(&file), "--out", arg(&out)], extra].concat(), 2));
        assert!(message.contains(word), "{message}");
        assert!(!out.exists());
    }
}

#[test]
fn padding_and_sinks_are_named_and_left_out() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    let nan = f64::NAN;
    // Three tokens, two of padding: masked as keys, NaN or zero as queries.
    let five = |fill: f64| {
        let padding = [fill; 5];
        [[0.5, 0.25, 0.25, 0.0, 0.0], [0.1, 0.8, 0.1, 0.0, 0.0], [0.3, 0.3, 0.4, 0.0, 0.0], padding, padding]
            .concat()
    };
    for fill in [nan, 0.0] {
        let file = square(dir.path(), "padded.npy", 5, &five(fill));
        let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 3));
        assert!(message.contains("padding") && message.contains("--drop 3,4`"), "{message}");
        // Half of the padding is not enough.
        let message = words(&run(&["rank", arg(&file), "--drop", "3", "--out", arg(&out)], 3));
        assert!(message.contains("--drop 3,4`"), "{message}");
        assert!(!out.exists());
        run(&["rank", arg(&file), "--alpha", "1", "--drop", "3-4", "--spectrum", "9", "--out", arg(&out)], 0);
        let three = restricted(&five(fill), 5, &[0, 1, 2]);
        assert_close(&read(&out, "tokenrank").1, &steady(&three, 3), 1e-6);
        assert_eq!(read(&out, "lambda").0, [3]);
        assert_eq!(whole(&out, "tokens"), (vec![3], vec![0, 1, 2]));
        fs::remove_file(&out).expect("written");
    }
    // NaN in a row that counts is refused, whatever is dropped.
    let mut broken = five(nan);
    broken[1] = nan;
    let file = square(dir.path(), "broken.npy", 5, &broken);
    let message = words(&run(&["rank", arg(&file), "--drop", "3,4", "--out", arg(&out)], 3));
    assert!(message.contains("(0, 1) is NaN"), "{message}");

    // The column of a sink was cut off: rows sum to 0.5 … 0.98.
    let sink = [0.3, 0.1, 0.1, 0.2, 0.6, 0.1, 0.4, 0.3, 0.28];
    let file = square(dir.path(), "sink.npy", 3, &sink);
    let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 3));
    assert!(
        message.contains("sink") && message.contains("0.500 … 0.980") && message.contains("--drop"),
        "{message}"
    );
    assert!(message.contains("`--tolerance 0.5`"), "{message}");
    run(&["rank", arg(&file), "--alpha", "1", "--tolerance", "0.5", "--out", arg(&out)], 0);
    assert_close(&read(&out, "tokenrank").1, &steady(&restricted(&sink, 3, &[0, 1, 2]), 3), 1e-6);
    let said = words(&run(&["rank", arg(&file), "--alpha", "1", "--drop", "0", "--out", arg(&out)], 0));
    assert!(said.contains("as little as 0.900"), "{said}");
    assert_close(&read(&out, "tokenrank").1, &steady(&restricted(&sink, 3, &[1, 2]), 2), 1e-6);

    // A row that attends to dropped tokens alone has nothing left.
    let file = square(dir.path(), "lost.npy", 2, &[1.0, 0.0, 0.5, 0.5]);
    let message = words(&run(&["rank", arg(&file), "--drop", "1", "--alpha", "1", "--out", arg(&out)], 0));
    assert!(!message.contains("lost"), "{message}");
    let lost = square(dir.path(), "lost.npy", 3, &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.3, 0.5]);
    let message = words(&run(&["rank", arg(&lost), "--drop", "0", "--out", arg(&out)], 3));
    assert!(message.contains("row 1 keeps no mass"), "{message}");
    for (list, word) in
        [("5", "no token 5"), ("0-2", "all 3 tokens"), ("x", "token number"), ("2-0", "backwards")]
    {
        let message = words(&run(&["rank", arg(&lost), "--drop", list, "--out", arg(&out)], 2));
        assert!(message.contains(word), "{message}");
    }
    let message = words(&run(&["rank", arg(&lost), "--drop", "1", "--start", "1", "--out", arg(&out)], 2));
    assert!(message.contains("--start") && message.contains("left out"), "{message}");
}

#[test]
fn metastable_sets_are_written() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    // Two pairs that hardly mix, and the same with the pairs interleaved.
    let (stay, leave) = (0.49, 0.01);
    let pairs = |same: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
        (0..16).map(|k| if same(k / 4, k % 4) { stay } else { leave }).collect()
    };
    let both = [pairs(&|i, j| i / 2 == j / 2), pairs(&|i, j| i % 2 == j % 2)].concat();
    let file = npy(dir.path(), "pairs.npy", "<f8", false, &[2, 4, 4], &f64s(&both));
    run(&["rank", arg(&file), "--alpha", "1", "--sets", "2", "--out", arg(&out)], 0);
    let (shape, sets) = whole(&out, "sets.assignment");
    assert_eq!(shape, [2, 4]);
    assert!(sets[0] == sets[1] && sets[2] == sets[3] && sets[0] != sets[2], "{sets:?}");
    assert!(sets[4] == sets[6] && sets[5] == sets[7] && sets[4] != sets[5], "{sets:?}");
    let (shape, memberships) = read(&out, "sets.memberships");
    assert_eq!(shape, [2, 4, 2]);
    assert!(memberships.chunks(2).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    assert_close(&read(&out, "sets.staying").1, &[0.98; 4], 1e-9);
    assert_close(&read(&out, "sets.weights").1, &[0.5; 4], 1e-9);
    assert_eq!(read(&out, "sets.crispness").0, [2]);
    // Islands have sets only with teleport, in the chain of which they are taken.
    let file = square(
        dir.path(),
        "islands.npy",
        4,
        &pairs(&|i, j| i / 2 == j / 2).iter().map(|p| if *p == stay { 0.5 } else { 0.0 }).collect::<Vec<_>>(),
    );
    run(&["rank", arg(&file), "--sets", "2", "--out", arg(&out)], 0);
    assert_close(&read(&out, "sets.staying").1, &[0.99 + 0.005; 2], 1e-9);
    fs::remove_file(&out).expect("written");
    let message = words(&run(&["rank", arg(&file), "--sets", "5", "--out", arg(&out)], 2));
    assert!(message.contains("--sets") && message.contains("only 4 tokens"), "{message}");
    assert!(words(&run(&["rank", arg(&file), "--sets", "0", "--out", arg(&out)], 2)).contains("--sets"));
    assert!(!out.exists());
}

/// What one matrix lacks is NaN there, what all lack is left out; the rest is written and the reason said.
#[test]
fn a_missing_quantity_does_not_lose_the_others() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    let heads = [TWO, [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]].concat();
    let file = npy(dir.path(), "heads.npy", "<f8", false, &[4, 2, 2], &f64s(&heads));
    let all = ["--start", "1", "--bounces", "1", "--spectrum", "2", "--sets", "2", "--absorb", "0"];
    let args = [&["rank", arg(&file), "--alpha", "1", "--out", arg(&out)], &all[..]].concat();
    let message = words(&run(&args, 1));
    let (shape, ranks) = read(&out, "tokenrank");
    assert_eq!(shape, [4, 2]);
    assert_close(&ranks[..2], &[5.0 / 6.0, 1.0 / 6.0], 1e-9);
    assert!(ranks[2..].iter().all(|p| p.is_nan()));
    assert!(read(&out, "iterations").1[1].is_nan());
    // λ and bounces exist for every matrix.
    assert_close(&read(&out, "lambda").1, &[1.0, 0.4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1e-9);
    assert_close(&read(&out, "bounces").1, &[0.5, 0.5, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], 1e-12);
    assert_eq!(whole(&out, "sets.assignment").1[2..], [-1; 6]);
    // The cycle is absorbed, the identity never.
    let steps = read(&out, "steps").1;
    assert_close(&[steps[1], steps[5]], &[2.0, 1.0], 1e-12);
    assert!(steps[3].is_nan() && steps[7].is_nan());
    for part in [
        "tokenrank of 2 matrices, first of",
        "matrix [1]: the steady state is not unique",
        "matrix [2]: the chain has no limiting steady state",
        "visits of 2 matrices",
        "never absorbed",
        "sets of",
        "NaN",
        "written:",
    ] {
        assert!(message.contains(part), "`{part}` is missing: {message}");
    }

    // Left out by name where no matrix has it.
    let file = square(dir.path(), "identity.npy", 2, &[1.0, 0.0, 0.0, 1.0]);
    let args = ["rank", arg(&file), "--alpha", "1", "--spectrum", "2", "--out", arg(&out)];
    let message = words(&run(&args, 1));
    assert!(message.contains("tokenrank of") && message.contains("left out"), "{message}");
    assert!(!has(&out, "tokenrank") && !has(&out, "iterations"));
    assert_close(&read(&out, "lambda").1, &[1.0, 1.0], 1e-9);

    // Backwards from a token that nobody attends to.
    let file = square(dir.path(), "unseen.npy", 2, &[0.0, 1.0, 0.0, 1.0]);
    let args =
        ["rank", arg(&file), "--alpha", "1", "--direction", "backward", "--spectrum", "2", "--start", "0"];
    let message = words(&run(&[&args[..], &["--out", arg(&out)]].concat(), 1));
    assert!(message.contains("tokenrank of") && message.contains("bounces of"), "{message}");
    assert_close(&read(&out, "lambda").1, &[1.0, 0.0], 1e-9);
}

#[test]
fn a_causal_map_is_recognised_once_and_explained() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    let dense = [0.2; 25];
    let heads = [CAUSAL, dense, CAUSAL].concat();
    let file = npy(dir.path(), "heads.npy", "<f8", false, &[3, 5, 5], &f64s(&heads));
    let said = words(&run(&["rank", arg(&file), "--out", arg(&out)], 0));
    assert_eq!(said.matches("triangular").count(), 1, "{said}");
    for part in [
        "2 of 3 matrices are lower triangular",
        "first token",
        "diagonal",
        "--absorb",
        "--drop",
        "--teleport",
    ] {
        assert!(said.contains(part), "`{part}` is missing: {said}");
    }
    let said =
        words(&run(&["rank", arg(&file), "--absorb", "4", "--direction", "backward", "--out", arg(&out)], 0));
    assert!(said.contains("last token") && !said.contains("--absorb") && said.contains("--drop"), "{said}");
    let file = npy(dir.path(), "upper.npy", "<f8", false, &[2, 2], &f64s(&[0.5, 0.5, 0.0, 1.0]));
    let said = words(&run(&["rank", arg(&file), "--out", arg(&out)], 0));
    assert!(said.contains("the matrix is upper triangular") && said.contains("last token"), "{said}");
    let file = npy(dir.path(), "dense.npy", "<f8", false, &[5, 5], &f64s(&dense));
    let said = words(&run(&["rank", arg(&file), "--out", arg(&out)], 0));
    assert!(!said.contains("triangular"), "{said}");
}

/// A head that looks at the previous token: triangular, so that its eigenvalues are its diagonal.
#[test]
fn moduli_of_a_previous_token_head_are_its_diagonal() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    for n in [128, 512] {
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            let logit = |j: usize| if j + 1 == i { 5.0 } else { ((i * 31 + j * 17) % 13) as f64 / 13.0 };
            let row: Vec<f64> = (0..=i).map(|j| logit(j).exp()).collect();
            let sum: f64 = row.iter().sum();
            row.iter().enumerate().for_each(|(j, value)| matrix[i * n + j] = value / sum);
        }
        let mut diagonal: Vec<f64> = (0..n).map(|i| matrix[i * n + i]).collect();
        diagonal.sort_by(|a, b| b.total_cmp(a));
        let file = npy(dir.path(), "head.npy", "<f8", false, &[1, 1, n, n], &f64s(&matrix));
        run(&["rank", arg(&file), "--spectrum", "6", "--out", arg(&out)], 0);
        assert_close(&read(&out, "lambda").1, &diagonal[..6], 1e-9);
        assert!(read(&out, "lambda.residual").1.iter().all(|residual| *residual < 1e-10));
    }
}
