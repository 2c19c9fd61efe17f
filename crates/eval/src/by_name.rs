//! Reads tables by the names of their keys, never by position.
//!
//! Structs that derive `Deserialize` also read a list and take its values in the order of their fields, so that
//! `subset = [5, 3]` would mean `{ count = 5, seed = 3 }`. [`ByName`] wraps a deserializer and refuses a list wherever a
//! struct is wanted, at every depth and without a change to the structs themselves. Its messages also suggest a key for an
//! unknown one, and name two keys that are the old and the new name of one setting.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use tasks::OLD_NAMES;

/// Reads a TOML document in which every struct is a table.
///
/// # Errors
/// Fails with the parser's message (line, column and a caret), also where a list stands in the place of a table.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    T::deserialize(ByName(toml::de::Deserializer::parse(text)?))
}

/// Wraps a deserializer, visitor or seed; reads structs from tables only.
struct ByName<T>(T);

/// A visitor and, if it visits a struct, the fields of that struct.
struct Visit<V> {
    visitor: V,
    wanted: Wanted,
}

/// What a visitor accepts.
#[derive(Clone, Copy)]
enum Wanted {
    /// Anything, lists included.
    Any,
    /// Only a table, with any keys.
    Table,
    /// Only a table with these keys.
    Fields(&'static [&'static str]),
}

impl<V> Visit<V> {
    fn any(visitor: V) -> Self {
        Self { visitor, wanted: Wanted::Any }
    }

    fn fields(visitor: V, fields: &'static [&'static str]) -> Self {
        Self { visitor, wanted: Wanted::Fields(fields) }
    }
}

macro_rules! deserialize {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Visit::any(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ByName<D> {
    type Error = D::Error;

    deserialize! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Visit { visitor, wanted: Wanted::Table })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Visit::fields(visitor, fields))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Visit::any(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Visit::any(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, Visit::any(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, length, Visit::any(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Visit::any(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $kind:ty,)*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visit<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128, visit_u8: u8,
        visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32, visit_f64: f64, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(ByName(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(ByName(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        match self.wanted {
            Wanted::Any => self.visitor.visit_seq(ByName(list)),
            Wanted::Table | Wanted::Fields([]) => Err(A::Error::custom("expected a table, found a list")),
            Wanted::Fields(fields) => {
                let is_old = |field: &str| renamed(fields).any(|(old, _)| old == field);
                let fields = fields.iter().filter(|field| !is_old(field));
                let keys: Vec<String> = fields.map(|field| format!("`{field}`")).collect();
                let keys = keys.join(", ");
                Err(A::Error::custom(format!("expected a table with keys among {keys}, found a list")))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let map = ByName(map);
        match self.wanted {
            Wanted::Any | Wanted::Table => self.visitor.visit_map(map),
            Wanted::Fields(fields) => self.visitor.visit_map(Keys { map, fields, seen: Vec::new() }),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(ByName(data))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ByName<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(ByName(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// The keys of a struct's table.
struct Keys<A> {
    map: A,
    /// The names of the fields, old names among them.
    fields: &'static [&'static str],
    /// The keys read so far.
    seen: Vec<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keys<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Self { map, fields, seen } = self;
        map.next_key_seed(Key { seed, fields, seen })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}

/// Reads one key of a struct's table.
struct Key<'a, S> {
    seed: S,
    fields: &'static [&'static str],
    seen: &'a mut Vec<String>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let Self { seed, fields, seen } = self;
        let key = String::deserialize(deserializer)?;
        let twice = renamed(fields).find(|(old, new)| {
            [(old, new), (new, old)].iter().any(|(a, b)| key == **a && seen.iter().any(|seen| seen == *b))
        });
        if let Some((old, new)) = twice {
            return Err(D::Error::custom(format!(
                "`{old}` is the old name of `{new}`; give only one of them"
            )));
        }
        seen.push(key.clone());
        seed.deserialize(key.as_str().into_deserializer()).map_err(|error: D::Error| {
            match fields.contains(&&*key) {
                true => error,
                false => D::Error::custom(unknown(&key, fields)),
            }
        })
    }
}

/// Returns the old and new names among the fields of a struct.
fn renamed(fields: &'static [&'static str]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let both = |old: &str, new: &str| fields.contains(&old) && fields.contains(&new);
    OLD_NAMES.iter().map(|name| (name.old, name.new)).filter(move |(old, new)| both(old, new))
}

/// Returns the message about an unknown key, with the key that was probably meant.
fn unknown(key: &str, fields: &'static [&'static str]) -> String {
    let is_old = |field: &str| renamed(fields).any(|(old, _)| old == field);
    let current: Vec<&str> = fields.iter().copied().filter(|field| !is_old(field)).collect();
    let distance = |field: &&&str| strsim::osa_distance(key, field);
    let near = current.iter().min_by_key(distance).filter(|field| distance(field) <= 1 + key.len() / 4);
    let near = near.map_or_else(String::new, |field| format!(" (did you mean `{field}`?)"));
    let names: Vec<String> = current.iter().map(|field| format!("`{field}`")).collect();
    match names.as_slice() {
        [] => format!("unknown field `{key}`; this table takes no settings"),
        [only] => format!("unknown field `{key}`{near}, expected {only}"),
        _ => format!("unknown field `{key}`{near}, expected one of {}", names.join(", ")),
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for ByName<A> {
    type Error = A::Error;
    type Variant = ByName<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(value, variant)| (value, ByName(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(ByName(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Visit::any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Visit::fields(visitor, fields))
    }
}

#[cfg(test)]
mod tests;
