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

/// A network that is known to be there whole.
struct Network {
    folder: PathBuf,
    head: Option<HeadSource>,
    classes: usize,
}

impl Network {
    fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let folder = experiment.model.source.folder()?;
        let network = VisionConfig::from_dir(&folder)?;
        // Headers only: what is torn or no checkpoint shows here.
        models::Weights::open(&folder, models::Kind::Float, models::Device::Cpu)?;
        models::image::Preprocessor::from_dir(&folder).map_err(models::Error::from)?;
        task.layers.resolve(network.depth())?;
        let classes = experiment.model.classes.as_ref();
        classes.map_or(Ok(()), ClassSource::present)?;
        let head = classes.map(ClassSource::head).transpose()?;
        let classes = match &head {
            Some(head) => head.check(&folder, &network)?,
            None => network.classes().ok_or_else(|| models::Error::NoClassifier { path: folder.clone() })?,
        };
        Ok(Self { folder, head, classes: classes as usize })
    }
}

impl MaskingWork {
    pub(super) fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let network = Network::find(experiment, task);
        let classes = network.as_ref().map_or(usize::MAX, |network| network.classes);
        let items = experiment.dataset.items(classes);
        // What is missing is said all at once: it takes its time to get.
        match (network, items) {
            (Ok(Network { folder, head, .. }), Ok(items)) => {
                Ok(Self { folder, head, items, config: task.clone() })
            }
            (network, items) => {
                let mut errors: Vec<Error> = network.err().into_iter().collect();
                if !errors.is_empty() {
                    let head = experiment.model.classes.as_ref().and_then(|classes| classes.present().err());
                    errors.extend(head);
                }
                errors.extend(items.err().map(Error::Task));
                Err(Error::all(errors))
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
            image_size: model.image_size.map(|side| (side, side)),
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
            pictures,
            failed: answered.failed,
            fresh: answered.fresh,
            took: answered.took,
        }))
    }
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
