//! Devices: parses their names and registers CUDA with libtorch.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tch::{Cuda, Device};

use crate::error::{Error, Result};

/// Returns the number of CUDA devices, or the reason why CUDA cannot be used.
///
/// The linker drops `libtorch_cuda` because no symbol of a Rust binary refers to it. So it is opened here, once, before
/// the first CUDA query. Opening it registers the backend, and one binary serves machines with and without a GPU.
pub fn cuda_devices() -> Result<usize, String> {
    static STATE: OnceLock<Result<usize, String>> = OnceLock::new();
    STATE.get_or_init(open_cuda).clone()
}

#[cfg(unix)]
fn open_cuda() -> Result<usize, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library is libtorch's own; its initialisers register the CUDA backend and have no other effect.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            // The backend stays registered for the life of the process.
            std::mem::forget(library);
            match Cuda::device_count() {
                n if n > 0 => Ok(n as usize),
                _ => Err("libtorch has CUDA, but no CUDA device is visible".into()),
            }
        }
        Err(e) => Err(format!("this libtorch cannot open its CUDA library ({e})")),
    }
}

#[cfg(not(unix))]
fn open_cuda() -> Result<usize, String> {
    Err("CUDA is supported on Linux only".into())
}

/// Parses `cpu` or `cuda:N` (`cuda` is `cuda:0`) and checks that the device exists.
///
/// # Errors
/// [`Error::Device`] or [`Error::NoCuda`] with the reason.
pub fn parse(name: &str) -> Result<Device> {
    let refuse = |reason: String| Err(Error::Device { name: name.into(), reason });
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let index = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
        None => None,
    };
    let Some(index) = index else {
        return refuse("expected `cpu` or `cuda:N`".into());
    };
    match cuda_devices() {
        Ok(count) if index < count => Ok(Device::Cuda(index)),
        Ok(count) => refuse(format!("this machine has {count} CUDA device(s), counted from 0")),
        Err(reason) => Err(Error::NoCuda { name: name.into(), reason }),
    }
}

/// Returns the name of a device: `cpu` or `cuda:N`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".into(),
        // [`parse`] returns neither of these.
        Device::Mps => "mps".into(),
        Device::Vulkan => "vulkan".into(),
    }
}

/// Computes something small on a device and returns whether the answer is right.
///
/// # Errors
/// libtorch fails.
pub fn computes(device: Device) -> Result<bool> {
    let ones = tch::Tensor::f_ones([8, 8], (tch::Kind::Float, device))?;
    Ok(ones.f_matmul(&ones)?.f_sum(tch::Kind::Double)?.f_double_value(&[])? == 512.0)
}

/// Returns the number of threads that libtorch computes with.
pub fn threads() -> i32 {
    tch::get_num_threads()
}

/// The libtorch library that this process has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibTorch {
    /// Folder of the library: the parent of `lib`.
    pub folder: PathBuf,
    /// Version from its `version.py` (Python package) or `build-version` (archive).
    pub version: Option<String>,
}

/// Finds the libtorch that was loaded. Returns `None` on systems other than Linux.
pub fn libtorch() -> Option<LibTorch> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = Path::new(&library[library.find('/')?..]);
    let folder = path.parent()?.parent()?.to_path_buf();
    let python = std::fs::read_to_string(folder.join("version.py")).ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split(['\'', '"']).nth(1)?.to_owned())
    });
    let archive = || std::fs::read_to_string(folder.join("build-version")).ok();
    let version = python.or_else(archive).map(|version| version.trim().to_owned());
    Some(LibTorch { folder, version })
}
