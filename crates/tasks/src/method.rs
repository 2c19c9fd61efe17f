//! Methods as experiments write them: a name alone, or a table with settings.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};

/// A method that its name alone may stand for. The names are those of the enum's variants, which serde knows: there is
/// no second list that a new method could be missing from.
pub(crate) trait NameOrTable: Sized {
    /// A table, for the error about what is neither.
    const EXAMPLE: &'static str;

    /// The method of a table, the externally tagged form of an enum. Settings that the table leaves out have their
    /// defaults.
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

    /// `"name"` means `{ name = {} }`.
    fn visit_str<E: Error>(self, name: &str) -> Result<M, E> {
        let no_settings = BTreeMap::<&str, &str>::new();
        let table = BTreeMap::from([(name, no_settings)]);
        M::from_table(MapAccessDeserializer::new(table.into_deserializer()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<M, A::Error> {
        M::from_table(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde::de::value::StrDeserializer;

    use super::*;

    /// Names of an enum's variants as its `Deserialize` lists them, so that a test walks those that are added later.
    pub(crate) fn variants<'de, T: serde::Deserialize<'de>>() -> &'static [&'static str] {
        let no_variant: StrDeserializer<'de, Expected> = "?".into_deserializer();
        match T::deserialize(no_variant) {
            Err(Expected(names)) => names,
            Ok(_) => panic!("`?` is no name"),
        }
    }

    /// The names that an unknown one is not among.
    #[derive(Debug)]
    struct Expected(&'static [&'static str]);

    impl fmt::Display for Expected {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "expected one of {:?}", self.0)
        }
    }

    impl std::error::Error for Expected {}

    impl Error for Expected {
        fn custom<T: fmt::Display>(message: T) -> Self {
            panic!("{message}")
        }

        fn unknown_variant(_: &str, names: &'static [&'static str]) -> Self {
            Self(names)
        }
    }
}
