//! Errors of libtorch in one sentence: its messages end with a C++ stack, and lack of memory has a dozen forms.

use std::fmt;

use tch::TchError;

/// Text in libtorch's messages for lack of memory, in lower case. oneDNN reports it as a primitive or a memory object
/// that could not be created, cuBLAS and cuDNN as a failed allocation.
const OUT_OF_MEMORY: [&str; 9] = [
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "alloc_failed",
    "allocation failed",
    "could not create a primitive",
    "could not create a memory",
    "not enough memory",
];

/// Memory that libtorch did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The requested amount as libtorch wrote it, such as `1073741824 bytes` or `20.00 MiB`, if it did.
    pub asked: Option<String>,
    /// Whether the memory is that of a GPU.
    pub on_device: bool,
}

/// Written as `1073741824 bytes were asked for on the host`.
impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.on_device { "on the GPU" } else { "on the host" };
        match &self.asked {
            Some(asked) => write!(f, "{asked} were asked for {place}"),
            None => write!(f, "an unknown amount was asked for {place}"),
        }
    }
}

impl OutOfMemory {
    /// Returns the lack of memory that an error of libtorch reports, or `None` for any other error.
    pub fn of(error: &TchError) -> Option<Self> {
        let message = error.to_string();
        let message = without_stack(&message).to_lowercase();
        if !OUT_OF_MEMORY.iter().any(|text| message.contains(text)) {
            return None;
        }
        let asked = message.split_once("tried to allocate ").map(|(_, rest)| {
            let amount: Vec<&str> = rest.split_whitespace().take(2).collect();
            amount.join(" ").trim_end_matches(['.', ',']).replace("mib", "MiB").replace("gib", "GiB")
        });
        let on_device = ["cuda", "cublas", "cudnn", "gpu"].iter().any(|text| message.contains(text));
        Some(Self { asked, on_device })
    }
}

/// Returns the message of an error of libtorch without the C++ stack, as one sentence.
pub fn describe(error: &TchError) -> String {
    match OutOfMemory::of(error) {
        Some(memory) => format!(
            "the memory does not suffice: {memory}; smaller images, fewer of them at once, numbers of half the size or \
             another device need less"
        ),
        None => format!("libtorch: {}", without_stack(&error.to_string())),
    }
}

/// Returns a message up to the stack: libtorch lists frames below the first line or after "Exception raised from".
fn without_stack(message: &str) -> &str {
    let message = message.strip_prefix("Internal torch error: ").unwrap_or(message);
    let ends = ["\n", "Exception raised from", "frame #"].iter().filter_map(|mark| message.find(mark));
    message[..ends.min().unwrap_or(message.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_left_out() {
        let error = TchError::Torch(
            "The size of tensor a (2) must match the size of tensor b (3)\nException raised from infer at x.cpp:35 (most \
             recent call first):\nframe #0: c10::Error"
                .into(),
        );
        assert_eq!(
            describe(&error),
            "libtorch: The size of tensor a (2) must match the size of tensor b (3)"
        );
    }

    #[test]
    fn every_form_of_lacking_memory_is_recognised() {
        let cases: [(&str, Option<&str>, bool); 6] = [
            (
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                 allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)\nframe #0: c10::ThrowEnforceNotMet",
                Some("1073741824 bytes"),
                false,
            ),
            (
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 3.00 \
                 MiB is free.",
                Some("20.00 MiB"),
                true,
            ),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", None, true),
            ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", None, true),
            ("could not create a primitive", None, false),
            ("std::bad_alloc", None, false),
        ];
        for (message, asked, on_device) in cases {
            let found = OutOfMemory::of(&TchError::Torch(message.into())).expect(message);
            assert_eq!((found.asked.as_deref(), found.on_device), (asked, on_device), "{message}");
            assert!(!describe(&TchError::Torch(message.into())).contains("frame"), "{message}");
        }
        assert_eq!(OutOfMemory::of(&TchError::Torch("index out of range".into())), None);
    }
}
