//! Methods as experiments write them: a name alone, or a table with settings.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};

/// A method that its name alone may stand for.
pub(crate) trait NameOrTable: Sized {
    /// The names.
    const NAMES: &'static [&'static str];
    /// A table, for the error about what is neither.
    const EXAMPLE: &'static str;

    /// The method of a name, with its settings left at their defaults.
    fn named(name: &str) -> Option<Self>;

    /// The method of a table, the externally tagged form of an enum.
    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error>;

    /// Reads either.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

struct Either<M>(PhantomData<M>);

impl<'de, M: NameOrTable> Visitor<'de> for Either<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a method, or a table such as {}", M::EXAMPLE)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<M, E> {
        M::named(name).ok_or_else(|| E::unknown_variant(name, M::NAMES))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<M, A::Error> {
        M::from_table(MapAccessDeserializer::new(map))
    }
}
