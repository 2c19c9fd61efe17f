//! Memory of a pass with a probe on its maps: it equals the computed value, and not all heads are in memory at once.
//!
//! One test at a time, so that the peak of the process is that of its passes.
#![allow(unreachable_pub)]

#[path = "../../xtask/tests/skipped/mod.rs"]
mod skipped;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use models::attend::{AttentionProbe, NoProbe, View, Want};
use models::flux::{FluxConfig, FluxInput, FluxTransformer};
use models::probe::{
    HeadWeight, LambdaWeight, MapFootprint, MapKind, MapRequest, PassMaps, Tee, WeightScope,
};
use models::{Device, Kind, Site, memory};
use skipped::{Requirement, lacks};
use tch::Tensor;

/// Held by a test that measures the peak of the process.
static PEAK: Mutex<()> = Mutex::new(());

/// Measured and computed memory agree within this factor.
const FACTOR: f64 = 2.0;

const HEADS: i64 = 16;
const HEAD_DIM: i64 = 8;
const WIDTH: i64 = HEADS * HEAD_DIM;
const CHANNELS: i64 = 16;
const TEXT_WIDTH: i64 = 32;
const POOLED_WIDTH: i64 = 24;

const TEXT: i64 = 44;
const GRID: (i64, i64) = (34, 34);
/// A map has 5.8 MB, those of a block 92 MB.
const TOKENS: i64 = TEXT + GRID.0 * GRID.1;

/// The requests of the paper's segmentation table.
const REQUESTS: [MapRequest; 3] = [
    MapRequest { map: MapKind::Plain, weight: HeadWeight::Equal },
    MapRequest { map: MapKind::Pretty, weight: HeadWeight::Equal },
    MapRequest {
        map: MapKind::Pretty,
        weight: HeadWeight::Lambda(LambdaWeight::Proportional, WeightScope::PerBlock),
    },
];

/// Names and shapes of the weights as diffusers stores them: one block of each stream.
fn tensors() -> Vec<(String, Vec<i64>)> {
    let mut all = Vec::new();
    let mut linear = |name: &str, from: i64, to: i64| {
        all.push((format!("{name}.weight"), vec![to, from]));
        all.push((format!("{name}.bias"), vec![to]));
    };
    linear("x_embedder", CHANNELS, WIDTH);
    linear("context_embedder", TEXT_WIDTH, WIDTH);
    for (name, from) in [("timestep_embedder", 256), ("text_embedder", POOLED_WIDTH)] {
        linear(&format!("time_text_embed.{name}.linear_1"), from, WIDTH);
        linear(&format!("time_text_embed.{name}.linear_2"), WIDTH, WIDTH);
    }
    linear("norm_out.linear", WIDTH, 2 * WIDTH);
    linear("proj_out", WIDTH, CHANNELS);
    let (dual, single) = ("transformer_blocks.0", "single_transformer_blocks.0");
    for suffix in ["", "_context"] {
        linear(&format!("{dual}.norm1{suffix}.linear"), WIDTH, 6 * WIDTH);
        linear(&format!("{dual}.ff{suffix}.net.0.proj"), WIDTH, 4 * WIDTH);
        linear(&format!("{dual}.ff{suffix}.net.2"), 4 * WIDTH, WIDTH);
    }
    for name in ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"] {
        linear(&format!("{dual}.attn.{name}"), WIDTH, WIDTH);
    }
    for name in ["to_q", "to_k", "to_v"] {
        linear(&format!("{single}.attn.{name}"), WIDTH, WIDTH);
    }
    linear(&format!("{single}.norm.linear"), WIDTH, 3 * WIDTH);
    linear(&format!("{single}.proj_mlp"), WIDTH, 4 * WIDTH);
    linear(&format!("{single}.proj_out"), 5 * WIDTH, WIDTH);
    for (block, norms) in
        [(dual, &["norm_q", "norm_k", "norm_added_q", "norm_added_k"][..]), (single, &["norm_q", "norm_k"])]
    {
        all.extend(norms.iter().map(|norm| (format!("{block}.attn.{norm}.weight"), vec![HEAD_DIM])));
    }
    all
}

/// Writes a directory in diffusers' layout.
fn write(dir: &Path) {
    let config = serde_json::json!({
        "_class_name": "FluxTransformer2DModel",
        "num_layers": 1,
        "num_single_layers": 1,
        "num_attention_heads": HEADS,
        "attention_head_dim": HEAD_DIM,
        "axes_dims_rope": [2, 2, 4],
        "in_channels": CHANNELS,
        "joint_attention_dim": TEXT_WIDTH,
        "pooled_projection_dim": POOLED_WIDTH,
        "guidance_embeds": false,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("writable");
    tch::manual_seed(0);
    let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.1;
    let drawn: Vec<(String, Tensor)> =
        tensors().into_iter().map(|(name, shape)| (name, draw(&shape))).collect();
    Tensor::write_safetensors(&drawn, dir.join("diffusion_pytorch_model.safetensors")).expect("writable");
}

/// Counts the heads that are shown at once.
#[derive(Default)]
struct Counting {
    most: i64,
    seen: i64,
}

impl AttentionProbe for Counting {
    fn want(&mut self, _: &Site) -> Want {
        Want::PROBS
    }

    fn see(&mut self, _: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
        let count = heads.end - heads.start;
        assert_eq!(view.probs()?.size(), [1, count, TOKENS, TOKENS]);
        self.most = self.most.max(count);
        self.seen += count;
        Ok(())
    }
}

/// Makes the allocator return large blocks to the system as soon as they are free. Otherwise glibc keeps blocks of up
/// to 32 MB once it has seen some, and the peak includes free memory. Maps of full-size networks are larger than that.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back_what_is_free() {
    const M_MMAP_THRESHOLD: i32 = -3;
    unsafe extern "C" {
        fn mallopt(parameter: i32, value: i32) -> i32;
    }
    // SAFETY: glibc's own function with a parameter that it documents; it may be called at any time.
    let done = unsafe { mallopt(M_MMAP_THRESHOLD, 1 << 20) };
    assert_eq!(done, 1, "mallopt");
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back_what_is_free() {}

/// Returns by how many bytes the peak of the process grows during `work`.
fn growth<T>(work: impl FnOnce() -> models::Result<T>) -> models::Result<(T, u64)> {
    let peak = || memory::peak_host().expect("the system reports it");
    assert!(memory::reset_peak_host(), "the system resets it");
    let before = peak();
    let result = work()?;
    Ok((result, peak().saturating_sub(before)))
}

#[test]
fn a_pass_takes_what_its_heads_at_once_take() -> models::Result<()> {
    let _alone = PEAK.lock().unwrap_or_else(PoisonError::into_inner);
    if lacks(Requirement::PeakMemory) {
        return Ok(());
    }
    give_back_what_is_free();
    let dir = tempfile::tempdir().expect("a scratch folder");
    write(dir.path());
    let config = FluxConfig::from_dir(dir.path())?;
    assert_eq!(memory::weight_bytes(dir.path(), &[], Kind::Float)?, 4 * config.parameters());

    let network = FluxTransformer::load(dir.path(), Kind::Float, Device::Cpu)?;
    let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let (latents, text, pooled) =
        (draw(&[1, GRID.0 * GRID.1, CHANNELS]), draw(&[1, TEXT, TEXT_WIDTH]), draw(&[1, POOLED_WIDTH]));
    let input = FluxInput {
        latents: &latents,
        grid: GRID,
        reference: None,
        text: &text,
        pooled: &pooled,
        concepts: None,
        timestep: 0.5,
        guidance: None,
        step: 0,
    };
    let computed = |heads_at_once| {
        let footprint = MapFootprint {
            batch: 1,
            tokens: TOKENS,
            heads: HEADS,
            heads_at_once,
            kind: Kind::Float,
            requests: &REQUESTS,
        };
        config.activation_bytes(TOKENS, Kind::Float) + footprint.bytes(Device::Cpu)
    };

    // Memory that libraries allocate once is not counted.
    let unwatched = network.forward(&input, &mut NoProbe)?;
    let _ = network.forward(&input, &mut PassMaps::new(REQUESTS, Some(1)))?;
    let (_, plain) = growth(|| network.forward(&input, &mut NoProbe))?;
    let allowed = FACTOR * config.activation_bytes(TOKENS, Kind::Float) as f64;
    assert!((plain as f64) < allowed, "unwatched, a pass took {plain} bytes of {allowed}");

    let one = FACTOR * computed(Some(1)) as f64;
    for (limit, alive) in [(Some(1), 1), (Some(8), 8), (None, HEADS)] {
        let ((velocity, counting), taken) = growth(|| {
            let limited = PassMaps::new(REQUESTS, limit.map(|heads| heads as usize));
            let mut probe = Tee(Counting::default(), limited);
            let velocity = network.forward(&input, &mut probe)?;
            Ok((velocity, probe.0))
        })?;
        assert_eq!((counting.most, counting.seen), (alive, 2 * HEADS), "{limit:?}");
        let difference = (velocity - &unwatched).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{limit:?}: watching changes the velocity by {difference:e}");

        let (taken, expected) = (taken as f64, computed(limit) as f64);
        println!("{alive:>2} heads at once: {:.0} MB taken, {:.0} MB computed", taken / 1e6, expected / 1e6);
        assert!(taken < FACTOR * expected, "{limit:?}: {taken} bytes where {expected} were computed");
        // The bound for one head is meaningful: all heads together exceed it.
        if alive == HEADS {
            assert!(taken > one, "{limit:?}: {taken} bytes, where {one} would do for one head");
        }
    }
    Ok(())
}

#[test]
fn the_peak_of_memory_is_read_where_the_system_tells() {
    let _alone = PEAK.lock().unwrap_or_else(PoisonError::into_inner);
    if lacks(Requirement::PeakMemory) {
        return;
    }
    assert!(memory::reset_peak_host());
    let before = memory::peak_host().expect("the system reports it");
    let held: Vec<u8> = vec![1; 64 << 20];
    assert_eq!(held.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 64 << 20);
    drop(held);
    let after = memory::peak_host().expect("it was read before");
    assert!(after >= before + (32 << 20), "{before} bytes, then {after}");
}
