//! The methods of `[task.guidance]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::blur::Blur;
use super::mask::{Importance, Threshold};
use crate::method::NameOrTable;

/// A method, written as its name alone (`"sag"`) or with settings (`{ sag = { mask = "tokenrank" } }`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", remote = "Self", deny_unknown_fields)]
pub enum Method {
    /// The sampler alone.
    None {},
    /// Self-attention guidance (arXiv 2210.00939).
    Sag(SagMethod),
}

/// Settings of `sag`; those that are left out are the task's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SagMethod {
    /// Key of the method in records, tables and folders instead of one that its mask gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What makes a token important.
    pub mask: Importance,
    /// Which tokens are important enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Share of attention in the teleporting chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How far the prediction moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// How the picture is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur: Option<Blur>,
}

impl Default for SagMethod {
    fn default() -> Self {
        Self {
            name: None,
            mask: Importance::ColumnSum,
            threshold: None,
            alpha: None,
            scale: None,
            blur: None,
        }
    }
}

impl Method {
    /// Key of the method in records, tables and folders.
    pub fn key(&self) -> &str {
        match self {
            Self::None {} => "none",
            Self::Sag(SagMethod { name: Some(name), .. }) => name,
            Self::Sag(SagMethod { mask, .. }) => match mask {
                Importance::ColumnSum => "sag",
                Importance::Tokenrank => "sag-tokenrank",
                Importance::TokenrankLambda2 => "sag-tokenrank-lambda2",
            },
        }
    }

    /// The method's name for people: that of its mask, or the one it was given.
    pub fn label(&self) -> &str {
        match self {
            Self::None {} => "no guidance",
            Self::Sag(SagMethod { name: Some(name), .. }) => name,
            Self::Sag(SagMethod { mask, .. }) => match mask {
                Importance::ColumnSum => "SAG",
                Importance::Tokenrank => "SAG + TokenRank",
                Importance::TokenrankLambda2 => "SAG + TokenRank, λ₂",
            },
        }
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None {} => serializer.serialize_str("none"),
            Self::Sag(_) => Self::serialize(self, serializer),
        }
    }
}

impl NameOrTable for Method {
    const EXAMPLE: &'static str = "{ sag = { mask = \"tokenrank\" } }";

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::variants;

    fn parse(list: &str) -> Result<Vec<Method>, String> {
        #[derive(Deserialize)]
        struct List {
            methods: Vec<Method>,
        }
        toml::from_str::<List>(&format!("methods = [{list}]"))
            .map(|list| list.methods)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn methods_are_names_or_tables() -> Result<(), String> {
        let methods = parse(
            r#""none", "sag", { sag = { mask = "tokenrank" } }, { sag = { mask = "tokenrank-lambda2" } },
               { sag = { mask = "tokenrank", threshold = "area", name = "same-area", alpha = 0.9 } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        assert_eq!(keys, ["none", "sag", "sag-tokenrank", "sag-tokenrank-lambda2", "same-area"]);
        let json = serde_json::to_string(&methods).map_err(|e| e.to_string())?;
        let back: Vec<Method> = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        assert_eq!(back, methods);
        Ok(())
    }

    #[test]
    fn every_method_and_mask_reads_back_as_itself() -> Result<(), String> {
        for kind in variants::<Method>() {
            let by_name = parse(&format!("{kind:?}"))?;
            assert_eq!(by_name, parse(&format!("{{ {kind} = {{}} }}"))?, "{kind}");
            assert_eq!(by_name[0].key(), *kind);
            let json = serde_json::to_string(&by_name[0]).map_err(|e| e.to_string())?;
            assert_eq!(serde_json::from_str::<Method>(&json).map_err(|e| e.to_string())?, by_name[0]);
        }
        let mut keys = std::collections::BTreeSet::new();
        for mask in variants::<Importance>() {
            let sag = parse(&format!("{{ sag = {{ mask = {mask:?} }} }}"))?;
            assert!(keys.insert(sag[0].key().to_owned()), "two masks make the key {}", sag[0].key());
        }
        Ok(())
    }

    #[test]
    fn what_is_no_method_is_refused_by_name() {
        for (list, word) in [
            ("\"pag\"", "pag"),
            ("{ sag = { masks = \"tokenrank\" } }", "masks"),
            ("{ sag = { mask = \"cls\" } }", "cls"),
            ("{ none = { scale = 1 } }", "scale"),
            ("3", "name of a method"),
        ] {
            let message = parse(list).expect_err(list);
            assert!(message.contains(word), "{list}: {message}");
        }
    }
}
