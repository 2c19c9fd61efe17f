//! Repositories with files in folders, as for diffusers pipelines.

use std::path::Path;

use models::hub::{HubError, Model, Registry};

use super::server::{COMMIT, StandIn, git_hash, honest};
use super::{Told, hub_at};

/// The published pipelines.
const IDS: [&str; 2] = ["black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-dev"];

/// A published pipeline, at the commit that the stand-in serves.
fn pipeline(id: &str) -> Model {
    let registry = Registry::embedded().expect("a registry");
    Model { revision: COMMIT.into(), ..registry.find_id(id).expect("a published pipeline").clone() }
}

/// Every file contains its own name, except two equal files.
fn content(file: &str) -> Vec<u8> {
    let name = if file.ends_with("special_tokens_map.json") { "special_tokens_map.json" } else { file };
    name.as_bytes().to_vec()
}

fn stand_in(model: &Model) -> StandIn {
    // The stand-in serves from its own threads, so its names live as long as the process.
    let files = model.files.iter().map(|file| (&*file.clone().leak(), content(file)));
    StandIn::start(files.collect(), honest, honest)
}

#[test]
fn a_pipeline_is_fetched_with_its_folders() -> Result<(), HubError> {
    for id in IDS {
        let model = pipeline(id);
        let cache = tempfile::tempdir().expect("a scratch folder");
        let stand_in = stand_in(&model);
        let hub = hub_at(&stand_in.hub, cache.path());
        let missing = hub.snapshot(&model).expect_err("nothing was fetched yet").to_string();
        for word in [id, "model_index.json", "text_encoder_2/config.json"] {
            assert!(missing.contains(word), "{word} is not in {missing}");
        }

        let mut told = Told::default();
        let folder = hub.fetch(&model, &mut told)?;
        assert_eq!(told.done, model.files);
        assert_eq!(hub.snapshot(&model)?, folder);
        for file in &model.files {
            // Files of the same name in several folders are different files.
            assert_eq!(std::fs::read(folder.join(file)).expect(file), content(file), "{file}");
        }
        let link = std::fs::read_link(folder.join("transformer/config.json")).expect("a link");
        let etag = git_hash(&content("transformer/config.json"));
        assert_eq!(link, Path::new("../../../blobs").join(etag), "as Python's library lays it out");

        // One file of one folder is removed: only that file is missing and fetched.
        std::fs::remove_file(folder.join("vae/config.json")).expect("removable");
        let error = hub.snapshot(&model).expect_err("a file is gone");
        assert!(
            matches!(error, HubError::Missing { ref files, .. } if files == &["vae/config.json"]),
            "{error}"
        );
        let mut told = Told::default();
        assert_eq!(hub.fetch(&model, &mut told)?, folder);
        assert_eq!(told.done, ["vae/config.json"]);
    }
    Ok(())
}
