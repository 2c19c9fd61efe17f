//! What the user can do about an error, with the options and commands of this program. The libraries know neither.

use eval::analysis::{AnalysisError, Hint, Note, Question};
use models::hub::HubError;
use models::matrix_file::{MatrixFileError, Problem};
use runs::Remedy;
use runs::slurm::{Given, SlurmError};

/// An error that this program explains.
pub(crate) trait Explained: std::error::Error {
    /// What to do, where that takes an option or a command of this program.
    fn remedy(&self) -> Option<String>;

    /// The error itself, where it names an option as it is given on the command line.
    fn words(&self) -> String {
        self.to_string()
    }

    /// The error and what to do about it.
    fn explained(&self) -> String {
        match self.remedy() {
            Some(remedy) => format!("{}; {remedy}", self.words()),
            None => self.words(),
        }
    }
}

impl Explained for MatrixFileError {
    fn remedy(&self) -> Option<String> {
        match self.problem {
            Problem::ChooseKey { .. } => Some("choose with --key".into()),
            Problem::KeyWithoutNames { .. } => Some("leave out --key".into()),
            Problem::Read(_)
            | Problem::Extension { .. }
            | Problem::Damaged { .. }
            | Problem::Truncated { .. }
            | Problem::Trailing { .. }
            | Problem::NoTensors
            | Problem::UnknownKey { .. }
            | Problem::NoMatrices { .. }
            | Problem::NumberFormat { .. }
            | Problem::Dimensions { .. }
            | Problem::NotTable { .. }
            | Problem::NotSquare { .. }
            | Problem::Empty { .. }
            | Problem::Memory { .. }
            | Problem::Tensor { .. }
            | Problem::NoFolder { .. }
            | Problem::Write(_) => None,
        }
    }
}

impl Explained for HubError {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::UnknownModel { .. } => {
                Some("`tokenrank ls models` lists them all; a model of your own is given as a folder".into())
            }
            Self::Missing { name, files, offline, .. } => Some(format!(
                "get {} with `tokenrank fetch {name}`{}",
                if files.len() == 1 { "it" } else { "them" },
                if *offline { ", without --offline and HF_HUB_OFFLINE" } else { "" }
            )),
            Self::Unverified { .. } => {
                Some("`tokenrank fetch --unverified` accepts the file without a check".into())
            }
            Self::NotFound { .. }
            | Self::NoCheckpoint { .. }
            | Self::NotPublished { .. }
            | Self::Archive { .. }
            | Self::Web { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Cut { .. }
            | Self::Denied { .. }
            | Self::Answer { .. }
            | Self::NotPinned { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::File { .. }
            | Self::LockFile { .. }
            | Self::NoHome { .. }
            | Self::Endpoint { .. }
            | Self::Token
            | Self::Registry(_) => None,
        }
    }
}

impl Explained for models::Error {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("remove that file and fetch it again with `tokenrank fetch`".into()),
            Self::NoFeatures { .. } => {
                Some("`tokenrank metrics --save-reference FILE` writes them, for a folder of pictures".into())
            }
            Self::NoClipFolder { .. } => Some("give the folder that `tokenrank fetch` names".into()),
            Self::NoCuda { .. } => {
                Some("`tokenrank doctor` tells more, `--device cpu` works everywhere".into())
            }
            Self::MatrixFile(error) => error.remedy(),
            Self::Hub(error) => error.remedy(),
            Self::Read { .. }
            | Self::Directory { .. }
            | Self::Safetensors { .. }
            | Self::PyTorch { .. }
            | Self::MissingTensor { .. }
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::UnreadTensors { .. }
            | Self::Device { .. }
            | Self::NoClassifier { .. }
            | Self::NoTextTower { .. }
            | Self::Text { .. }
            | Self::Word { .. }
            | Self::Layers { .. }
            | Self::ImageSize { .. }
            | Self::MixedSizes { .. }
            | Self::Input { .. }
            | Self::Probe(_)
            | Self::Image(_)
            | Self::Chain(_)
            | Self::NotFinite(_)
            | Self::Torch(_) => None,
        }
    }
}

impl Explained for tasks::Error {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::NoData { setting, value, .. } => Some(format!(
                "say where the data are with `--set {setting}={value}`, or get them with `tokenrank fetch --for` and this experiment"
            )),
            Self::Model(error) => error.remedy(),
            Self::Dataset { .. }
            | Self::Scores { .. }
            | Self::Prompts { .. }
            | Self::Setting { .. }
            | Self::Write { .. }
            | Self::Scene(_)
            | Self::Score(_)
            | Self::Torch(_) => None,
        }
    }
}

impl Explained for runs::Error {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some(
                "choose another --out, or move these files away; --fresh leaves them alone as well".into(),
            ),
            Self::OtherRun { .. } => Some("choose another --out, or start over with --fresh".into()),
            Self::Locked { .. } => Some("wait until it has ended, or choose another --out".into()),
            Self::SameFolder { .. } => Some("choose another --out, or run the experiments one by one".into()),
            Self::Lost { .. } => {
                Some("put it back if it was moved; the same command then makes what is missing".into())
            }
            Self::Spread { remedy, .. } => Some(of_run(remedy)),
            Self::Unreadable { remedy, .. } | Self::Merge { remedy, .. } => remedy.as_ref().map(of_run),
            Self::Memory { .. } => {
                Some("`--set NAME=VALUE` sets them, and --device chooses another device".into())
            }
            Self::Task(error) => error.remedy(),
            Self::File { .. }
            | Self::NothingRead { .. }
            | Self::NothingFinite { .. }
            | Self::Interrupted { .. } => None,
        }
    }
}

fn of_run(remedy: &Remedy) -> String {
    match remedy {
        Remedy::RunAfresh => "run the experiment again with --fresh".into(),
        Remedy::RunShardAfresh => "run the shard again with --fresh".into(),
        Remedy::FinishShards => {
            "run what is missing with its --shard, which goes on where it stopped, and merge again".into()
        }
        Remedy::RepairShards => {
            "run them again with their --shard, which makes what is missing, and merge again".into()
        }
        Remedy::RenewShards => {
            "run each of these again with its --shard, which runs what has changed again, and merge \
                                again; or put the data back"
                .into()
        }
        Remedy::KeepShards(count) => format!("go on with --nodes {count}, or choose another --out"),
        Remedy::ClearFolder => "choose another --out, or remove that folder".into(),
        Remedy::MakeShards => {
            "`tokenrank run CONFIG --shard 1/4 --out DIR` makes DIR/shard-1-of-4; give DIR".into()
        }
        Remedy::NameTarget => "choose its folder with --out".into(),
        Remedy::ClearTarget => "choose another folder with --out, or remove the files of that run".into(),
        Remedy::Merge(folder) => {
            format!("when all are done, make it with: tokenrank merge {}", folder.display())
        }
    }
}

impl Explained for SlurmError {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Time(_) => Some("give more time, or a smaller --grace".into()),
            Self::File(error) => error.remedy(),
            Self::Text { .. } | Self::Prologue { .. } | Self::Submit { .. } => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Text { what: Given::Option(_), .. } | Self::Prologue { .. } | Self::Time(_) => {
                format!("--{self}")
            }
            Self::Text { what: Given::Thing(_), .. } | Self::File(_) | Self::Submit { .. } => {
                self.to_string()
            }
        }
    }
}

impl Explained for AnalysisError {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::File(error) => error.remedy(),
            Self::Matrix { hint, .. } => hint.as_deref().map(of_matrix),
            Self::Incomplete(incomplete) => incomplete
                .inaccurate
                .then(|| "a larger --spectrum-tolerance accepts these eigenvalues".into()),
            Self::Option { .. } | Self::Chain { .. } => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Option { .. } => format!("--{self}"),
            Self::File(_) | Self::Matrix { .. } | Self::Chain { .. } | Self::Incomplete(_) => {
                self.to_string()
            }
        }
    }
}

fn of_matrix(hint: &Hint) -> String {
    match hint {
        Hint::Padding { drop, .. } => format!("`--drop {drop}` leaves them out"),
        Hint::Rounded { tolerance, .. } => format!("`--tolerance {tolerance}` accepts them"),
        Hint::Sink { tolerance, .. } => {
            let renormalise = match tolerance {
                Some(wide) => {
                    format!("`--tolerance {wide}` renormalises every row over the tokens that are there")
                }
                None => "renormalise the rows where the file is written".to_owned(),
            };
            format!(
                "{renormalise}; `--drop I,…`, which names tokens to leave out, renormalises the others as well"
            )
        }
    }
}

/// A note on matrices with the options that ask more.
pub(crate) fn of_note(note: &Note) -> String {
    let advice = note.questions.iter().map(|question| match question {
        Question::Absorb { end } => {
            format!("--absorb counts the visits to every token before a walk ends on the {end} one")
        }
        Question::Drop => "--drop leaves out tokens on which attention rests, such as the first".to_owned(),
        Question::Teleport => "--teleport starts walks at the tokens that matter".to_owned(),
    });
    let advice: Vec<String> = advice.collect();
    match advice.is_empty() {
        true => note.text.clone(),
        false => {
            format!("{} These options depend on what the network learned: {}.", note.text, advice.join("; "))
        }
    }
}

impl Explained for eval::Error {
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Run(error) => error.remedy(),
            Self::Task(error) => error.remedy(),
            Self::Analysis(error) => error.remedy(),
            Self::NoExperiment { .. } => Some("`tokenrank ls experiments` lists them all".into()),
            Self::Baseline { .. } => Some("--update makes it of this result".into()),
            Self::OtherFeatures { .. } => {
                Some("name the same --features, or give the folder of pictures".into())
            }
            Self::Config { .. }
            | Self::Override { .. }
            | Self::Option { .. }
            | Self::Compare { .. }
            | Self::Export { .. }
            | Self::Unscored { .. }
            | Self::Several(_)
            | Self::Bootstrap(_)
            | Self::Fidelity(_) => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Several(errors) => eval::several(errors, Self::explained),
            Self::Override { .. } => format!("--set {self}"),
            Self::Option { .. } => format!("--{self}"),
            Self::Analysis(error) => error.words(),
            Self::Config { .. }
            | Self::NoExperiment { .. }
            | Self::OtherFeatures { .. }
            | Self::Baseline { .. }
            | Self::Compare { .. }
            | Self::Run(_)
            | Self::Export { .. }
            | Self::Unscored { .. }
            | Self::Bootstrap(_)
            | Self::Fidelity(_)
            | Self::Task(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_errors_has_its_remedy() {
        let data = tasks::Error::NoData {
            path: "/nowhere".into(),
            reason: "no such folder".into(),
            setting: "dataset.coco-stuff.root",
            value: "DIR",
        };
        let error = eval::Error::Several(vec![
            data.into(),
            eval::Error::Option { option: "limit", reason: "must be at least 1".into() },
        ]);
        let lines: Vec<String> = error.explained().lines().skip(1).map(str::to_owned).collect();
        let expected = [
            "1. dataset /nowhere: no such folder; say where the data are with `--set dataset.coco-stuff.root=DIR`, or get them with \
             `tokenrank fetch --for` and this experiment",
            "2. --limit: must be at least 1",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_remedy_stands_at_the_end() {
        let error = models::Error::from(HubError::Missing {
            id: "tests/tiny".into(),
            name: "tiny".into(),
            files: vec!["config.json".into(), "model.safetensors".into()],
            cache: "hub".into(),
            offline: true,
        });
        let expected = "tests/tiny is not in hub: config.json, model.safetensors missing; get them with `tokenrank fetch tiny`, \
                        without --offline and HF_HUB_OFFLINE";
        assert_eq!(eval::Error::from(error).explained(), expected);
        let hint = Hint::Rounded { least: 0.996, most: 1.004, tolerance: 0.008 };
        assert_eq!(of_matrix(&hint), "`--tolerance 0.008` accepts them");
    }
}
