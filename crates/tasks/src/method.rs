//! Methods as experiment files write them: a name alone, or a table with settings.
//!
//! `"bounce"`, `{ bounce = { steps = 3 } }` and `{ bounce-lambda2 = { steps = 3 } }` are three ways to write a method.
//! One table for each experiment ([`Named::METHODS`]) lists the names and the settings that each name implies; reading,
//! writing and the JSON schema are derived from this table.
//!
//! A method whose scores come from a file has no name of the program: its table holds its settings themselves,
//! `{ file = "scores.safetensors", name = "my score" }` ([`Named::FROM_FILE`]).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny,
    IntoDeserializer, MapAccess, VariantAccess, Visitor,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// How much each head counts where the maps of several heads are averaged: `weight` of a method.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    serde::Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HeadShare {
    /// All heads count the same.
    #[default]
    #[serde(alias = "mean")]
    Equal,
    /// Each head counts in proportion to the λ₂ of its own map; the weights sum to 1.
    Lambda2,
}

/// Direction in which a chain runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From a token to the tokens it attends to.
    #[default]
    Forward,
    /// From a token to the tokens that attend to it.
    Backward,
}

impl From<Way> for markov_core::Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Forward => Self::Forward,
            Way::Backward => Self::Backward,
        }
    }
}

/// One name of a method.
#[derive(Debug)]
pub(crate) struct MethodKind {
    /// Name in experiment files, and key in records and tables.
    pub(crate) name: &'static str,
    /// Name in tables and figures.
    pub(crate) label: &'static str,
    /// The variant that holds its settings, in kebab case. It is `name` unless this is a short form of another method.
    pub(crate) variant: &'static str,
    /// Settings of the variant that a short form fixes, such as `weight = "lambda2"`.
    pub(crate) implies: &'static [(&'static str, &'static str)],
}

impl MethodKind {
    /// A method under the name of its variant.
    pub(crate) const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, variant: name, implies: &[] }
    }

    /// A short form of the method `variant` with the settings `implies`.
    pub(crate) const fn short(
        name: &'static str,
        label: &'static str,
        variant: &'static str,
        implies: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, label, variant, implies }
    }
}

/// The form of a method whose scores come from a file.
#[derive(Debug)]
pub(crate) struct FileKind {
    /// The variant that holds its settings, in kebab case. Users cannot write this name.
    pub(crate) variant: &'static str,
    /// The keys of its table, `file` and `name` first.
    pub(crate) keys: &'static [&'static str],
}

/// The variant of [`FileKind`] in every experiment.
const FILE: MethodKind = MethodKind::new("file", "file");

impl FileKind {
    /// The method with these settings.
    pub(crate) const fn new(keys: &'static [&'static str]) -> Self {
        Self { variant: FILE.variant, keys }
    }
}

/// A method whose scores come from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMethod<'a> {
    /// The file.
    pub(crate) file: &'a Path,
    /// Name of the method in records, tables and figures.
    pub(crate) name: &'a str,
}

/// The methods of one experiment.
pub(crate) trait Named: Sized + 'static {
    /// All names, in the order in which they are listed for users.
    const METHODS: &'static [MethodKind];
    /// An example of a table, quoted in the error about a value that is neither a name nor a table.
    const EXAMPLE: &'static str;
    /// The methods as tables: an externally tagged enum in kebab case, each variant of which holds one struct of
    /// settings.
    type Table: DeserializeOwned + JsonSchema + TryInto<Self, Error: fmt::Display>;
    /// How a method from a file is written; `None` if the experiment has no such methods.
    const FROM_FILE: Option<FileKind> = None;

    /// The most specific name of the method: the short form if there is one. `file` if it comes from a file.
    fn kind_name(&self) -> &'static str;

    /// The file of the method, if its scores come from one.
    fn file_method(&self) -> Option<FileMethod<'_>> {
        None
    }

    /// Whether a name is one of the program's, in records or in tables, so that no method from a file may have it.
    fn is_taken(name: &str) -> bool {
        Self::METHODS.iter().any(|kind| same(kind.name, name) || same(kind.label, name))
    }

    /// The label that belongs to [`Named::kind_name`].
    fn kind_label(&self) -> &'static str {
        let name = self.kind_name();
        Self::METHODS.iter().find(|kind| kind.name == name).map_or(name, |kind| kind.label)
    }
}

/// Whether two names look alike in a table.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// Returns the files of the methods that come from files.
pub(crate) fn paths<M: Named>(methods: &[M]) -> Vec<&Path> {
    methods.iter().filter_map(M::file_method).map(|method| method.file).collect()
}

/// Returns the message about two methods from files with one name, if there are two.
pub(crate) fn twice<M: Named>(methods: &[M]) -> Option<String> {
    let names: Vec<&str> = methods.iter().filter_map(M::file_method).map(|method| method.name).collect();
    let mut pairs = (0..names.len()).flat_map(|last| (0..last).map(move |first| (first, last)));
    let (first, _) = pairs.find(|&(first, last)| same(names[first], names[last]))?;
    Some(format!("two methods are called `{}`; give each method from a file a name of its own", names[first]))
}

/// Functions for `#[serde(with = "crate::method::list")]` on a list of methods.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<M: Named + Serialize, S: Serializer>(
        methods: &[M],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(methods.iter().map(Written))
    }

    pub(crate) fn deserialize<'de, M: Named, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<M>, D::Error> {
        let list: Vec<Read<M>> = Vec::deserialize(deserializer)?;
        Ok(list.into_iter().map(|Read(method)| method).collect())
    }
}

/// Writes a method as its table, or as its name if the table would be empty. A method from a file is written as its
/// settings.
struct Written<'a, M>(&'a M);

impl<M: Named + Serialize> Serialize for Written<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = serde_json::to_value(self.0).map_err(serde::ser::Error::custom)?;
        let entry = table.as_object().and_then(|table| table.iter().next());
        match entry {
            Some((name, settings)) if settings.as_object().is_some_and(Map::is_empty) => {
                serializer.serialize_str(name)
            }
            Some((_, settings)) if self.0.file_method().is_some() => settings.serialize(serializer),
            _ => table.serialize(serializer),
        }
    }
}

/// Reads a method from its name or its table.
struct Read<M>(M);

impl<'de, M: Named> Deserialize<'de> for Read<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable(PhantomData)).map(Self)
    }
}

struct NameOrTable<M>(PhantomData<M>);

impl<'de, M: Named> Visitor<'de> for NameOrTable<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a method, or a table such as {}", M::EXAMPLE)
    }

    /// `"name"` means `{ name = {} }`.
    fn visit_str<E: Error>(self, name: &str) -> Result<M, E> {
        let no_settings = MapDeserializer::new(std::iter::empty::<(&str, &str)>());
        read(find::<M, E>(name)?, no_settings)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        let kind = match map.next_key_seed(FirstKeySeed::<M>(PhantomData))? {
            None => return Err(A::Error::custom(format!("expected a method, such as {}", M::EXAMPLE))),
            Some(FirstKey::Kind(kind)) => kind,
            Some(FirstKey::OfFile(key)) => return read_from_file(WithFirst { first: Some(key), map }),
        };
        let method = map.next_value_seed(SettingsSeed::<M>(kind, PhantomData))?;
        if let Some(other) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            let reason = format!("a table describes one method; write a second table for `{other}`");
            return Err(A::Error::custom(reason));
        }
        Ok(method)
    }
}

/// Returns the entry with this name.
fn find<M: Named, E: Error>(name: &str) -> Result<&'static MethodKind, E> {
    M::METHODS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<String> = M::METHODS.iter().map(|kind| format!("`{}`", kind.name)).collect();
        let keys =
            M::FROM_FILE.map(|kind| kind.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>());
        let from_file = keys.map(|keys| format!("; a method from a file has the keys {}", keys.join(", ")));
        let (names, from_file) = (names.join(", "), from_file.unwrap_or_default());
        E::custom(format!("unknown method `{name}`, expected one of {names}{from_file}"))
    })
}

/// The first key of a method's table.
enum FirstKey {
    /// The name of a method, whose settings follow in a table of their own.
    Kind(&'static MethodKind),
    /// A setting of a method from a file.
    OfFile(String),
}

/// Reads the first key of a method's table.
struct FirstKeySeed<M>(PhantomData<M>);

impl<'de, M: Named> DeserializeSeed<'de> for FirstKeySeed<M> {
    type Value = FirstKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        match M::FROM_FILE {
            Some(kind) if kind.keys.contains(&&*key) => Ok(FirstKey::OfFile(key)),
            Some(_) | None => find::<M, D::Error>(&key).map(FirstKey::Kind),
        }
    }
}

/// Reads a method from a file, whose table holds its settings.
fn read_from_file<'de, M: Named, A: MapAccess<'de>>(settings: A) -> Result<M, A::Error> {
    let method: M = read(&FILE, MapAccessDeserializer::new(settings))?;
    match method.file_method() {
        Some(FileMethod { name, .. }) if M::is_taken(name) => Err(A::Error::custom(format!(
            "the name `{name}` is that of a method of the program; give the method from the file another name"
        ))),
        Some(_) | None => Ok(method),
    }
}

/// A table of which the first key has been read.
struct WithFirst<A> {
    first: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithFirst<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        match self.first.take() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// The name of a method from a file, for `#[serde(deserialize_with = "crate::method::own_name")]`.
///
/// # Errors
/// Fails if the name is blank.
pub(crate) fn own_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() {
        return Err(D::Error::custom("the name is empty; write the name that the method has in tables"));
    }
    Ok(name)
}

/// Reads the settings of a method.
struct SettingsSeed<M>(&'static MethodKind, PhantomData<M>);

impl<'de, M: Named> DeserializeSeed<'de> for SettingsSeed<M> {
    type Value = M;

    fn deserialize<D: Deserializer<'de>>(self, settings: D) -> Result<M, D::Error> {
        read(self.0, settings)
    }
}

fn read<'de, M: Named, D: Deserializer<'de>>(kind: &'static MethodKind, settings: D) -> Result<M, D::Error> {
    let table = M::Table::deserialize(Variant { kind, settings })?;
    let method: M = table.try_into().map_err(D::Error::custom)?;
    if !kind.implies.is_empty() && method.kind_name() != kind.name {
        return Err(D::Error::custom(format!(
            "with these settings the method is `{}`, not `{}`; write `{}`",
            method.kind_name(),
            kind.name,
            kind.variant
        )));
    }
    Ok(method)
}

/// A variant of an externally tagged enum with its settings.
struct Variant<D> {
    kind: &'static MethodKind,
    settings: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Variant<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Variant<D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), D::Error> {
        Ok((seed.deserialize(self.kind.variant.into_deserializer())?, self))
    }
}

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Variant<D> {
    type Error = D::Error;

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, D::Error> {
        seed.deserialize(Settings(self))
    }

    fn unit_variant(self) -> Result<(), D::Error> {
        Err(only_structs())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, D::Error> {
        Err(only_structs())
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, D::Error> {
        Err(only_structs())
    }
}

/// Only a mistake in our own enums leads here. A test reads every method, so users never see this error.
fn only_structs<E: Error>() -> E {
    E::custom("a method must hold a struct of settings")
}

/// The settings of a method: those in the file, and those that its name implies.
struct Settings<D>(Variant<D>);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Settings<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Variant { kind, settings } = self.0;
        settings.deserialize_any(WithImplied { visitor, implies: kind.implies })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Variant { kind, settings } = self.0;
        settings.deserialize_struct(name, fields, WithImplied { visitor, implies: kind.implies })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Passes a table of settings on to `visitor`, with the implied settings added.
struct WithImplied<V> {
    visitor: V,
    implies: &'static [(&'static str, &'static str)],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for WithImplied<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(ImpliedMap { map, left: self.implies.to_vec(), value: None })
    }
}

/// The keys of a table, followed by the implied keys that the table does not contain.
struct ImpliedMap<A> {
    map: A,
    left: Vec<(&'static str, &'static str)>,
    /// Value of the implied key that was returned last.
    value: Option<&'static str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ImpliedMap<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let mut seed = Some(seed);
        if let Some(key) = self.map.next_key_seed(KeySeed { seed: &mut seed, left: &mut self.left })? {
            return Ok(Some(key));
        }
        let (Some(seed), Some((key, value))) = (seed, self.left.pop()) else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.value.take() {
            // A JSON value reads as an option too, unlike a plain string.
            Some(value) => seed.deserialize(Value::from(value)).map_err(A::Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// Reads the next key of the table with a seed. The seed is left in place if there is no further key.
struct KeySeed<'a, S> {
    seed: &'a mut Option<S>,
    left: &'a mut Vec<(&'static str, &'static str)>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        self.left.retain(|(implied, _)| *implied != key);
        match self.seed.take() {
            Some(seed) => seed.deserialize(key.into_deserializer()),
            None => Err(D::Error::custom("a key was read twice")),
        }
    }
}

/// The JSON schema of a list of methods: each entry is a name, or a table with the settings of that name.
pub(crate) struct ListSchema<M>(PhantomData<M>);

impl<M: Named> JsonSchema for ListSchema<M> {
    fn schema_name() -> Cow<'static, str> {
        format!("Methods{}", M::Table::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        std::any::type_name::<Self>().into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let variants = M::Table::json_schema(generator);
        let variants = variants.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |variant: &str| {
            variants.iter().find_map(|schema| Some((schema, schema.get("properties")?.get(variant)?)))
        };
        let mut tables = Map::new();
        for kind in M::METHODS {
            let Some((schema, settings)) = of(kind.variant) else { continue };
            let mut settings = settings.clone();
            let meaning = match kind.implies {
                [] => schema.get("description").cloned().unwrap_or_default(),
                implies => {
                    let implied = implies.iter().map(|(key, value)| format!("`{key} = \"{value}\"`"));
                    let implied: Vec<String> = implied.collect();
                    format!("Short for `{}` with {}.", kind.variant, implied.join(" and ")).into()
                }
            };
            if let Some(settings) = settings.as_object_mut() {
                settings.insert("description".into(), meaning);
            }
            tables.insert(kind.name.into(), settings);
        }
        let names: Vec<&str> = M::METHODS.iter().map(|kind| kind.name).collect();
        let mut forms = vec![
            serde_json::json!({ "enum": names }),
            serde_json::json!({
                "type": "object",
                "properties": tables,
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            }),
        ];
        if let Some((schema, settings)) = M::FROM_FILE.as_ref().and_then(|kind| of(kind.variant)) {
            let mut settings = settings.clone();
            if let (Some(settings), Some(meaning)) = (settings.as_object_mut(), schema.get("description")) {
                settings.insert("description".into(), meaning.clone());
            }
            forms.push(settings);
        }
        json_schema!({ "type": "array", "minItems": 1, "items": { "anyOf": forms } })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Reads a list of methods as in an experiment file.
    pub(crate) fn parse<M: Named>(list: &str) -> Result<Vec<M>, String> {
        struct List<M>(Vec<M>);

        impl<'de, M: Named> Deserialize<'de> for List<M> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut table =
                    std::collections::BTreeMap::<String, Vec<Read<M>>>::deserialize(deserializer)?;
                let list = table.remove("methods").unwrap_or_default();
                Ok(Self(list.into_iter().map(|Read(method)| method).collect()))
            }
        }

        toml::from_str(&format!("methods = [{list}]")).map(|List(list)| list).map_err(|e| e.to_string())
    }

    /// Returns the text that is written for a method.
    pub(crate) fn written<M: Named + Serialize>(method: &M) -> String {
        serde_json::to_string(&Written(method)).expect("JSON")
    }

    /// Checks every entry of a table of methods: its name can be read, leads back to the entry, and is written in a
    /// form that reads back as the same method.
    pub(crate) fn walk<M: Named + Serialize + PartialEq + fmt::Debug>() {
        let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for kind in M::METHODS {
            assert!(names.insert(kind.name), "the name {} occurs twice", kind.name);
            assert!(labels.insert(kind.label), "the label {} occurs twice", kind.label);
            let by_name = parse::<M>(&format!("{:?}", kind.name)).expect(kind.name);
            assert_eq!(by_name, parse(&format!("{{ {} = {{}} }}", kind.name)).expect(kind.name));
            assert_eq!((by_name[0].kind_name(), by_name[0].kind_label()), (kind.name, kind.label));
            let json = written(&by_name[0]);
            let Read(back) = serde_json::from_str::<Read<M>>(&json).expect(&json);
            assert_eq!(back, by_name[0], "{json}");
            if !kind.implies.is_empty() {
                let settings: Vec<String> =
                    kind.implies.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
                let long = format!("{{ {} = {{ {} }} }}", kind.variant, settings.join(", "));
                assert_eq!(by_name, parse(&long).expect(&long));
            }
        }
    }

    /// Checks the form of a method from a file: it is read whatever the order of its keys, is written as it is read, and
    /// is refused without a name, with a blank one, with one of the program's or with an unknown key.
    pub(crate) fn walk_file<M: Named + Serialize + PartialEq + fmt::Debug>() {
        let kind = M::FROM_FILE.expect("methods from files");
        assert!(!M::METHODS.iter().any(|method| method.name == kind.variant), "{}", kind.variant);
        let text = "{ file = \"a/b.safetensors\", name = \"my score\" }";
        let method = parse::<M>(text).expect(text).remove(0);
        assert_eq!(
            parse::<M>("{ name = \"my score\", file = \"a/b.safetensors\" }"),
            Ok(vec![parse::<M>(text).expect(text).remove(0)])
        );
        let found = method.file_method().expect("a file");
        assert_eq!((found.file, found.name), (Path::new("a/b.safetensors"), "my score"));
        let json = written(&method);
        assert!(
            json.contains(r#""file":"a/b.safetensors""#) && json.contains(r#""name":"my score""#),
            "{json}"
        );
        let Read(back) = serde_json::from_str::<Read<M>>(&json).expect(&json);
        assert_eq!(back, method, "{json}");
        let keys: Vec<String> =
            serde_json::from_str::<Map<String, Value>>(&json).expect("a table").keys().cloned().collect();
        assert!(keys.iter().all(|key| kind.keys.contains(&&**key)), "{keys:?}");
        let taken: Vec<(String, &str)> = M::METHODS
            .iter()
            .flat_map(|kind| [kind.name, kind.label])
            .map(|name| {
                (format!("{{ file = \"f\", name = {name:?} }}"), "is that of a method of the program")
            })
            .collect();
        refused::<M>(&taken.iter().map(|(text, word)| (text.as_str(), *word)).collect::<Vec<_>>());
        refused::<M>(&[
            ("{ file = \"f\" }", "missing field `name`"),
            ("{ name = \"n\" }", "missing field `file`"),
            ("{ file = \"f\", name = \" \" }", "the name is empty"),
            ("{ file = 3, name = \"n\" }", "3"),
            ("{ file = \"f\", name = \"n\", colour = 1 }", "colour"),
            (
                "{ colour = 1, file = \"f\", name = \"n\" }",
                "a method from a file has the keys `file`, `name`",
            ),
            ("\"file\"", "unknown method `file`"),
        ]);
    }

    /// Checks that each text is refused with a message that contains the word next to it.
    pub(crate) fn refused<M: Named + fmt::Debug>(cases: &[(&str, &str)]) {
        let common =
            [("3", "name of a method"), ("{}", "expected a method"), ("\"no-such\"", "expected one of")];
        for (list, word) in cases.iter().chain(&common) {
            let message = parse::<M>(list).expect_err(list);
            assert!(message.contains(word) && message.contains('^'), "{list}: {message}");
        }
    }
}
