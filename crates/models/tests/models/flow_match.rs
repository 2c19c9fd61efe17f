//! Noise levels, steps and noise against diffusers and torch, number by number.
//!
//! `tools/golden_flux_pipeline.py` makes the fixture.

use models::flow_match::{FlowMatchConfig, Schedule, add_noise};
use models::{Kind, noise};
use safetensors::SafeTensors;
use serde::Deserialize;
use tch::{Device, Tensor};

use crate::golden::{changed, fixture, relative_difference};

#[derive(Deserialize)]
struct Golden {
    schedules: Vec<Case>,
    first_steps: Vec<FirstStep>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Case {
    config: String,
    steps: usize,
    tokens: i64,
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
}

#[derive(Deserialize)]
struct FirstStep {
    steps: usize,
    strength: f64,
    step: usize,
}

#[derive(Deserialize)]
struct Step {
    kind: String,
    step: usize,
    sample: Vec<f32>,
    velocity: Vec<f32>,
    next: Vec<f32>,
    noised: Vec<f32>,
}

fn golden() -> Golden {
    let text = std::fs::read_to_string(fixture("flow-match/golden.json")).expect("a committed fixture");
    serde_json::from_str(&text).expect("a committed fixture")
}

fn config(name: &str) -> models::Result<FlowMatchConfig> {
    FlowMatchConfig::from_dir(&fixture("flow-match").join(name))
}

#[test]
fn noise_levels_are_those_of_diffusers_to_the_last_bit() -> models::Result<()> {
    let cases = golden().schedules;
    assert!(cases.len() > 90);
    for case in &cases {
        let schedule = Schedule::new(&config(&case.config)?, case.steps, case.tokens)?;
        let what = format!("{}, {} steps, {} tokens", case.config, case.steps, case.tokens);
        assert_eq!(schedule.sigmas(), case.sigmas, "{what}");
        assert_eq!(schedule.timesteps(), case.timesteps, "{what}");
        assert_eq!(schedule.steps(), case.steps, "{what}");
    }
    Ok(())
}

#[test]
fn a_strength_leaves_as_many_steps_as_in_diffusers() -> models::Result<()> {
    for FirstStep { steps, strength, step } in golden().first_steps {
        let schedule = Schedule::new(&config("schnell")?, steps, 1024)?;
        match schedule.first_step(strength) {
            Ok(first) => assert_eq!(first, step, "{steps} steps, strength {strength}"),
            Err(_) => assert_eq!(step, steps, "{steps} steps, strength {strength}: refused"),
        }
    }
    let schedule = Schedule::new(&config("schnell")?, 4, 1024)?;
    for strength in [-0.1, 1.1, f64::NAN, 0.0] {
        let message = schedule.first_step(strength).expect_err("accepted").to_string();
        assert!(message.starts_with("strength"), "{message}");
    }
    Ok(())
}

#[test]
fn steps_and_noise_are_those_of_diffusers() -> models::Result<()> {
    let schedule = Schedule::new(&config("dev")?, 4, 1024)?;
    for step in golden().steps {
        let kind = if step.kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
        let tensor = |numbers: &[f32]| Tensor::from_slice(numbers).to_kind(kind);
        let (sample, velocity) = (tensor(&step.sample), tensor(&step.velocity));
        let next = schedule.step(&sample, &velocity, step.step)?;
        assert_eq!(next, tensor(&step.next), "{} {}", step.kind, step.step);
        let noised = add_noise(&sample, &velocity, schedule.sigma(step.step)?)?;
        assert_eq!(noised, tensor(&step.noised), "{} {}", step.kind, step.step);
    }
    let zeros = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    let message = add_noise(&zeros(2), &zeros(3), 0.5).expect_err("accepted").to_string();
    assert!(message.contains("noise: shape [3] for latents of shape [2]"), "{message}");
    let message = schedule.step(&zeros(2), &zeros(2), 4).expect_err("accepted").to_string();
    assert!(message.contains("4 of a schedule of 4 steps"), "{message}");
    Ok(())
}

#[test]
fn noise_levels_are_rounded_to_the_type_of_the_network() -> models::Result<()> {
    let schedule = Schedule::new(&config("schnell")?, 4, 1024)?;
    let levels = |kind| (0..4).map(|step| schedule.noise_level(step, kind)).collect::<Result<Vec<_>, _>>();
    assert_eq!(levels(Kind::Float)?, [1.0, 0.75, 0.5, 0.25]);
    // 750 is 752 in bfloat16, and 0.752 is 0.75390625.
    assert_eq!(levels(Kind::BFloat16)?, [1.0, 0.75390625, 0.5, 0.25]);
    Ok(())
}

#[test]
fn empty_runs_are_refused() -> models::Result<()> {
    for (steps, tokens, word) in [(0, 1024, "steps"), (4, 0, "image_tokens")] {
        let message = Schedule::new(&config("dev")?, steps, tokens).expect_err("accepted").to_string();
        assert!(message.starts_with(word), "{message}");
    }
    Ok(())
}

#[test]
fn unsupported_options_are_refused() {
    for (from, to, words) in [
        ("\"use_karras_sigmas\": false", "\"use_karras_sigmas\": true", "use_karras_sigmas is true"),
        ("\"use_exponential_sigmas\": false", "\"use_exponential_sigmas\": true", "use_exponential_sigmas"),
        ("\"use_beta_sigmas\": false", "\"use_beta_sigmas\": true", "use_beta_sigmas"),
        ("\"shift_terminal\": null", "\"shift_terminal\": 0.02", "shift_terminal is 0.02"),
        ("\"stochastic_sampling\": false", "\"stochastic_sampling\": true", "stochastic_sampling"),
        ("\"invert_sigmas\": false", "\"invert_sigmas\": true", "invert_sigmas"),
        ("\"exponential\"", "\"linear\"", "time_shift_type is `linear`"),
        ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler", "`EulerDiscreteScheduler`"),
        ("\"shift\": 3.0", "\"shift\": 0", "shift is 0; it must be positive"),
        ("\"max_image_seq_len\": 4096", "\"max_image_seq_len\": 256", "smaller than max_image_seq_len"),
    ] {
        let dir = changed("flow-match", "dev/scheduler_config.json", from, to);
        let message = FlowMatchConfig::from_dir(&dir.path().join("dev"))
            .err()
            .unwrap_or_else(|| panic!("{to}: accepted"))
            .to_string();
        assert!(message.contains(words), "{to}: {message}");
    }
}

#[test]
fn a_seed_draws_what_torch_draws() -> models::Result<()> {
    let bytes = std::fs::read(fixture("flow-match/normal.safetensors")).expect("a committed fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a committed fixture");
    let view = file.tensor("normal").expect("a committed fixture");
    let golden = Tensor::from_data_size(view.data(), &[3, 5, 7], Kind::Float);
    let ours = noise::normal(&[3, 5, 7], 1_234_567_890_123)?;
    // The last digits depend on the processor.
    assert!(relative_difference(&ours, &golden) < 1e-5);
    assert_eq!(noise::normal(&[3, 5, 7], 1_234_567_890_123)?, ours);
    assert_ne!(noise::normal(&[3, 5, 7], 1)?, ours);
    Ok(())
}
