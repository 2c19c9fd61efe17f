//! Masking: a classifier and labelled images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use models::{HeadSource, LoadOptions, VisionConfig, VisionModel};
use tasks::dataset::LabelledImage;
use tasks::masking::{Masking, MaskingConfig};

use super::{Report, data_sha256};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::masking_report::{masking_pictures, masking_table};
use crate::metrics::{MaskingCurves, MaskingMetric, Metric};
use crate::model::ClassSource;
use crate::plan::{Beside, Plan};
use crate::results::{Curves, MetricValue};
use crate::run::{Place, Reached, records};

/// A classifier and labelled images.
#[derive(Clone)]
pub(crate) struct MaskingWork {
    /// Where the network is.
    folder: PathBuf,
    /// Classes for a network that has none of its own.
    pub(super) head: Option<HeadSource>,
    pub(super) items: Vec<LabelledImage>,
    pub(super) config: MaskingConfig,
}

/// A network whose files are there and hold what it needs.
struct Network {
    folder: PathBuf,
    config: VisionConfig,
}

impl Network {
    fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let model = &experiment.model;
        let folder = model.source.folder()?;
        let config = VisionConfig::from_dir(&folder)?;
        let options = LoadOptions {
            kind: model.dtype.kind(),
            image_size: task.image_size.map(|side| (side, side)),
            ..LoadOptions::default()
        };
        models::headers_only(|| VisionModel::load(&folder, &options))?;
        task.layers.resolve(config.depth())?;
        Ok(Self { folder, config })
    }
}

/// Number of classes of a network, and where they come from that it does not have itself.
fn classes(classes: Option<&ClassSource>, network: &Network) -> Result<(usize, Option<HeadSource>)> {
    let Network { folder, config } = network;
    let head = classes.map(ClassSource::head).transpose()?;
    let count = match &head {
        Some(head) => head.check(folder, config)?,
        None => config.classes().ok_or_else(|| models::Error::NoClassifier { path: folder.clone() })?,
    };
    Ok((count as usize, head))
}

impl MaskingWork {
    pub(super) fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let source = experiment.model.classes.as_ref();
        let network = Network::find(experiment, task);
        let config = network.as_ref().ok().map(|network| &network.config);
        // What is missing is said all at once, each thing once: it takes its time to get.
        let there = source.map_or(Ok(()), |source| source.present(config));
        let classes = match (&network, there) {
            (Ok(network), Ok(())) => classes(source, network).map(Some),
            (_, there) => there.map(|()| None),
        };
        let count = classes
            .as_ref()
            .ok()
            .and_then(|classes| classes.as_ref())
            .map_or(usize::MAX, |(count, _)| *count);
        match (network, classes, experiment.dataset.items(count)) {
            (Ok(Network { folder, .. }), Ok(Some((_, head))), Ok(items)) => {
                Ok(Self { folder, head, items, config: task.clone() })
            }
            (network, classes, items) => {
                let errors = [network.err(), classes.err(), items.err().map(Error::Task)];
                Err(Error::all(errors.into_iter().flatten().collect()))
            }
        }
    }

    pub(super) fn manifest(&self) -> Vec<String> {
        self.items.iter().map(|item| format!("{}\t{}", item.id, item.label)).collect()
    }

    /// Where the weights are.
    pub(super) fn weights(&self) -> Vec<PathBuf> {
        let head = self.head.as_ref().and_then(HeadSource::file).map(Path::to_path_buf);
        std::iter::once(self.folder.clone()).chain(head).collect()
    }

    pub(super) fn weights_sha256(&self) -> Result<String> {
        Ok(models::model_sha256(&self.folder, self.head.as_ref().and_then(HeadSource::file))?)
    }

    pub(super) fn run(&self, plan: &Plan, place: &Place, stop: &AtomicBool) -> Result<Reached<Report>> {
        let (Experiment { title, model, seed, .. }, config) = (&plan.experiment, &self.config);
        let options = LoadOptions {
            kind: model.dtype.kind(),
            device: plan.device,
            image_size: config.image_size.map(|side| (side, side)),
            head: self.head.clone(),
        };
        let model = VisionModel::load(&self.folder, &options)?;
        let preprocessor = model.preprocessor.clone();
        let mut task = Masking::new(config.clone(), model, self.items.clone(), *seed)?;
        let answered = match records(&mut task, place, stop)? {
            Reached::Whole(answered) => answered,
            Reached::Part(part) => return Ok(Reached::Part(part)),
        };
        let items = answered.of(&self.items);
        let (records, out) = (&answered.records, &*place.out);

        let mut curves = MaskingCurves::new(config.fractions.values());
        records.iter().for_each(|record| curves.add(record));
        let methods: Vec<_> =
            config.methods().iter().map(|method| (method.to_string(), method.label())).collect();
        let table = masking_table(title, &curves, &methods, plan.paper.as_ref());
        let warnings = warning(&curves).into_iter().collect();
        let pictures = masking_pictures(out, title, &items, &preprocessor, &curves, &methods, records)?;
        Ok(Reached::Whole(Report {
            items: curves.items(),
            metrics: metric_values(&curves, plan.paper.as_ref()),
            comparisons: Vec::new(),
            resampled: Vec::new(),
            curves: Some(curves_of(&curves)),
            judge: None,
            memory: None,
            data_sha256: data_sha256(records.iter().map(|record| record.sha256.as_str())),
            methods,
            tables: vec![("table", table)],
            warnings,
            pictures,
            failed: answered.failed,
            fresh: answered.fresh,
            took: answered.took,
        }))
    }
}

/// Where nothing is right, removing tokens cannot make it wrong.
fn warning(curves: &MaskingCurves) -> Option<String> {
    (curves.items() > 0 && curves.right_unmasked() == 0).then(|| {
        "no image is classified right before masking, so there is no AUC; do the labels of the dataset count classes as the \
         network does, and do the images look as its preprocessing expects?"
            .to_owned()
    })
}

fn metric_values(curves: &MaskingCurves, paper: Option<&Beside>) -> Vec<MetricValue> {
    let mut values = vec![MetricValue {
        name: MaskingMetric::UnmaskedAccuracy.to_string(),
        method: None,
        value: (curves.items() > 0).then(|| curves.unmasked_accuracy()),
        higher_is_better: Some(true),
        published: None,
    }];
    for (method, curve) in curves.finish() {
        let published =
            paper.and_then(|Beside { table, column }| table.published(&method, column.as_deref()?));
        let mut push = |metric: MaskingMetric, value, published| {
            let (name, method) = (metric.to_string(), Some(method.clone()));
            values.push(MetricValue { name, method, value, higher_is_better: Some(false), published });
        };
        push(MaskingMetric::Auc, curve.auc, published);
        push(MaskingMetric::AucStillRight, curve.auc_still_right, None);
    }
    values
}

fn curves_of(curves: &MaskingCurves) -> Curves {
    let (mut accuracy, mut still_right) = (BTreeMap::new(), BTreeMap::new());
    for (method, curve) in curves.finish() {
        accuracy.insert(method.clone(), curve.accuracy);
        still_right.insert(method, curve.still_right);
    }
    Curves { fractions: curves.fractions().to_vec(), accuracy, still_right }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::masking::MaskingRecord;

    #[test]
    fn nothing_right_before_masking_is_said() {
        let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
        assert_eq!(warning(&curves), None);
        let mut record = MaskingRecord {
            id: "a".into(),
            sha256: String::new(),
            label: 3,
            unmasked: 2,
            predicted: BTreeMap::new(),
            scores: None,
        };
        curves.add(&record);
        assert!(warning(&curves).is_some_and(|warning| warning.contains("no image is classified right")));
        record.unmasked = 3;
        curves.add(&record);
        assert_eq!(warning(&curves), None);
    }
}
