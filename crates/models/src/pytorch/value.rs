//! The values that a pickle of tensors is made of.

use std::ops::Range;

use tch::Kind;

/// A value on the stack of the pickle machine. Texts are ranges of the pickle, and everything that holds other values
/// lies in the list of nodes, so that copying a value costs nothing and a chain of values is not dropped by recursion.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Where the text lies in the pickle.
    Text(Range<usize>),
    Global(Global),
    /// Index of a [`Node`].
    Node(usize),
    /// A value that no tensor depends on: a float, bytes, a device, a set.
    Other,
}

/// A value that holds others.
#[derive(Debug)]
pub(super) enum Node {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Storage),
    Tensor(Tensor),
}

/// The numbers behind one or several tensors.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// Its name in the file: a range of the pickle.
    pub(super) key: Range<usize>,
    /// Type of the numbers; `None` for untyped bytes.
    pub(super) kind: Option<Kind>,
    /// How many numbers (or bytes, if untyped) the file has of it.
    pub(super) numbers: usize,
    /// Of a view into a storage, as PyTorch wrote until 2017: its first number and how many it has.
    pub(super) view: Option<(usize, usize)>,
}

/// A tensor: a window on a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Index of the node of the storage.
    pub(super) storage: usize,
    pub(super) kind: Kind,
    /// The first number, counted from the begin of the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

/// The functions and classes that a pickle may name. None of them is called: each stands for what the machine does in
/// its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    /// A mapping.
    Mapping,
    /// `torch.Size`: a tuple.
    Size,
    /// A class or function whose values no tensor depends on.
    Ignored,
    /// The class of a storage.
    StorageOf(Kind),
    UntypedStorage,
    Dtype(Kind),
    /// `_rebuild_tensor`, and `_rebuild_tensor_v2`, which has more arguments.
    Tensor,
    /// `_rebuild_tensor_v3`, whose storage is untyped.
    TensorOfBytes,
    /// A parameter, whose first argument is the tensor.
    Parameter,
}

/// Types of numbers as PyTorch names them: the class of their storage, if they have one, and the dtype.
const KINDS: [(Option<&str>, &str, Kind); 17] = [
    (Some("FloatStorage"), "float32", Kind::Float),
    (Some("HalfStorage"), "float16", Kind::Half),
    (Some("BFloat16Storage"), "bfloat16", Kind::BFloat16),
    (Some("DoubleStorage"), "float64", Kind::Double),
    (Some("LongStorage"), "int64", Kind::Int64),
    (Some("IntStorage"), "int32", Kind::Int),
    (Some("ShortStorage"), "int16", Kind::Int16),
    (Some("CharStorage"), "int8", Kind::Int8),
    (Some("ByteStorage"), "uint8", Kind::Uint8),
    (Some("BoolStorage"), "bool", Kind::Bool),
    (Some("ComplexHalfStorage"), "complex32", Kind::ComplexHalf),
    (Some("ComplexFloatStorage"), "complex64", Kind::ComplexFloat),
    (Some("ComplexDoubleStorage"), "complex128", Kind::ComplexDouble),
    (None, "float8_e5m2", Kind::Float8e5m2),
    (None, "float8_e4m3fn", Kind::Float8e4m3fn),
    (None, "float8_e5m2fnuz", Kind::Float8e5m2fnuz),
    (None, "float8_e4m3fnuz", Kind::Float8e4m3fnuz),
];

impl Global {
    /// Returns the global that a pickle names, or `None` if tensors do not need it.
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict" | "Counter") => Self::Mapping,
            ("torch", "Size") => Self::Size,
            ("torch", "device" | "contiguous_format" | "strided")
            | ("_codecs", "encode")
            | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray" | "complex")
            | ("torch.serialization", "_get_layout") => Self::Ignored,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TensorOfBytes,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter") => Self::Parameter,
            ("torch.storage" | "torch", "UntypedStorage") => Self::UntypedStorage,
            ("torch" | "torch.cuda" | "torch.storage", name) => {
                let of = |named: &str| {
                    KINDS.iter().find(|(storage, dtype, _)| *storage == Some(named) || *dtype == named)
                };
                let &(storage, _, kind) = of(name)?;
                if storage == Some(name) { Self::StorageOf(kind) } else { Self::Dtype(kind) }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tensors_need_is_known() {
        assert_eq!(Global::named("torch", "HalfStorage"), Some(Global::StorageOf(Kind::Half)));
        assert_eq!(Global::named("torch.cuda", "FloatStorage"), Some(Global::StorageOf(Kind::Float)));
        assert_eq!(Global::named("torch", "bfloat16"), Some(Global::Dtype(Kind::BFloat16)));
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("torch._utils", "_rebuild_qtensor"),
            ("torch._utils", "_rebuild_device_tensor_from_numpy"),
            ("numpy.core.multiarray", "scalar"),
            ("torchFloatStorage", ""),
            ("", "FloatStorage"),
        ] {
            assert_eq!(Global::named(module, name), None, "{module} {name}");
        }
    }
}
