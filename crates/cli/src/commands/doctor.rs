//! `doctor`: checks whether a run can start on this machine.

use crate::failure::Failure;
use crate::print;

/// The version of libtorch for which this program was built.
const LIBTORCH: &str = "2.11.0";

pub(crate) fn doctor() -> Result<(), Failure> {
    let mut problems = Vec::new();
    let mut lines = vec![format!("tokenrank  {}", env!("CARGO_PKG_VERSION"))];
    match models::device::libtorch() {
        Some(library) => {
            let version = library.version.unwrap_or_else(|| "of unknown version".into());
            if !version.starts_with(LIBTORCH) {
                problems.push(format!(
                    "libtorch is {version}, this program was built for {LIBTORCH}; run `cargo xtask setup`, or point \
                     LIBTORCH and LD_LIBRARY_PATH at {LIBTORCH}"
                ));
            }
            lines.push(format!("libtorch   {version} in {}", library.folder.display()));
        }
        None => lines.push("libtorch   loaded from an unknown folder".into()),
    }
    lines.push(format!("cpu        {} threads", models::device::threads()));
    lines.push(match models::device::cuda_devices() {
        Ok(count) => format!("cuda       {count} device(s): {}", cuda_names(count)),
        Err(reason) => format!("cuda       none: {reason}"),
    });
    match models::device::computes(models::Device::Cpu) {
        Ok(true) => lines.push("compute    works".into()),
        Ok(false) => problems.push("libtorch computes wrong results on this processor".into()),
        Err(e) => problems.push(format!("libtorch cannot compute: {e}")),
    }
    match models::hub::Hub::from_env() {
        Ok(hub) => {
            let state = if hub.cache().is_dir() { "" } else { " (does not exist yet)" };
            lines.push(format!("hub cache  {}{state}", hub.cache().display()));
        }
        Err(error) => lines.push(format!("hub cache  none: {error}")),
    }
    print(&format!("{}\n", lines.join("\n")));
    if problems.is_empty() { Ok(()) } else { Err(Failure::other(problems.join("\n"))) }
}

fn cuda_names(count: usize) -> String {
    (0..count).map(|index| format!("cuda:{index}")).collect::<Vec<_>>().join(", ")
}
