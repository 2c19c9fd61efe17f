//! `metrics`.

use eval::image_metrics::{Request, measure};
use eval::metrics::fidelity::{InceptionScore, KernelDistance, Settings};

use crate::args::MetricsArgs;
use crate::failure::Failure;
use crate::print_table;

pub(crate) fn metrics(args: &MetricsArgs) -> Result<(), Failure> {
    let settings = Settings {
        inception_score: InceptionScore { splits: args.splits, seed: Some(args.seed) },
        kernel: KernelDistance {
            subset_size: args.subset_size,
            seed: args.seed,
            ..KernelDistance::default()
        },
        resamples: args.resamples,
        seed: args.seed.into(),
        ..Settings::default()
    };
    let report = measure(&Request {
        generated: args.generated.clone(),
        reference: args.reference.clone(),
        features: args
            .features
            .parse()
            .map_err(|error: models::Error| Failure::usage(format!("--{error}")))?,
        device: args.device.clone(),
        batch: args.batch,
        limit: args.limit,
        settings,
        save_reference: args.save_reference.clone(),
        out: args.out.clone(),
    })?;
    print_table(&report.table());
    if let Some(path) = &args.save_reference {
        say!("features: {}", path.display());
    }
    if let Some(path) = &args.out {
        report.write(path)?;
        say!("results:  {}", path.display());
    }
    Ok(())
}
