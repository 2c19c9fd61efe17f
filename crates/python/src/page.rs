//! The page of `tokenrank show`, for maps that Python has.

use chain_page::{Layer, Layout, Page, Part, Start};
use numpy::{PyReadonlyArray2, PyReadonlyArray3};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Reads consecutive tokens of one kind: `("named", names)`, `("text", pieces, padding)` or `("grid", rows, columns)`.
fn part(tokens: &Bound<'_, PyTuple>) -> PyResult<Part> {
    let kind: String = tokens.get_item(0)?.extract()?;
    match kind.as_str() {
        "named" => Ok(Part::Named(tokens.get_item(1)?.extract()?)),
        "text" => {
            Ok(Part::Text { pieces: tokens.get_item(1)?.extract()?, padding: tokens.get_item(2)?.extract()? })
        }
        "grid" => {
            Ok(Part::Grid { rows: tokens.get_item(1)?.extract()?, columns: tokens.get_item(2)?.extract()? })
        }
        other => Err(PyValueError::new_err(format!("there are no tokens of the kind \"{other}\""))),
    }
}

/// Where walks start when the page opens: a token, or a name with several tokens.
#[derive(FromPyObject)]
pub(crate) enum From {
    Token(usize),
    Even(String, Vec<usize>),
}

/// Name, mean map `[n, n]`, maps of the heads `[heads, n, n]` and λ₂ of each head.
type Maps<'py> = (String, PyReadonlyArray2<'py, f32>, Option<PyReadonlyArray3<'py, f32>>, Vec<f64>);

/// Returns the page as an HTML document, or as the frame of a notebook of the given height in CSS pixels.
#[pyfunction]
#[pyo3(signature = (*, title, facts, image, parts, alpha, start, bounces, layers, notebook))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn page(
    py: Python<'_>,
    title: String,
    facts: Vec<(String, String)>,
    image: Option<Vec<u8>>,
    parts: Vec<Bound<'_, PyTuple>>,
    alpha: f64,
    start: From,
    bounces: usize,
    layers: Vec<Maps<'_>>,
    notebook: Option<u32>,
) -> PyResult<String> {
    let layer = |(name, mean, heads, lambda2): Maps<'_>| {
        let heads = heads.map(|maps| maps.as_array().outer_iter().map(|map| map.to_owned()).collect());
        Layer { name, mean: mean.as_array().to_owned(), heads: heads.unwrap_or_default(), lambda2 }
    };
    let page = Page {
        title,
        facts,
        image,
        reference: None,
        layout: Layout { parts: parts.iter().map(part).collect::<PyResult<_>>()? },
        alpha,
        start: match start {
            From::Token(token) => Start::Token(token),
            From::Even(name, tokens) => Start::Even { name, tokens },
        },
        bounces,
        layers: layers.into_iter().map(layer).collect(),
        layers_word: "layers".into(),
        figures: Vec::new(),
    };
    py.detach(|| match notebook {
        Some(height) => page.to_notebook(height),
        None => page.to_html(),
    })
    .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Returns the text of tokens of a tokenizer's vocabulary, with their white space.
#[pyfunction]
pub(crate) fn spelling(tokens: Vec<String>) -> Vec<String> {
    chain_page::spelling(&tokens)
}
