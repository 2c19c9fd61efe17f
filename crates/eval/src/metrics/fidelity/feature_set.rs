//! Features by item: what batches and shards add to and what merges.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::FidelityError;

/// What the network says of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The feature `[d]`, as the network computed it.
    pub features: Vec<f32>,
    /// Class logits `[classes]`; none for a network without classes.
    pub logits: Option<Vec<f32>>,
}

/// Features of items, each under its number: the seed or the place in the list, never the place in a batch.
///
/// A merge is a union, so neither batches nor shards nor the order in which they arrive have any influence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSet {
    items: BTreeMap<u64, Item>,
}

/// Features of items in the order of their numbers, in double precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Numbers of the items `[n]`, ascending.
    pub numbers: Vec<u64>,
    /// `[n, d]`.
    pub features: Array2<f64>,
    /// `[n, classes]`; none for a network without classes.
    pub logits: Option<Array2<f64>>,
}

impl FeatureSet {
    /// No items yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the item is there.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.items.contains_key(&number)
    }

    /// The items and their numbers, in order.
    pub fn items(&self) -> impl Iterator<Item = (u64, &Item)> {
        self.items.iter().map(|(&number, item)| (number, item))
    }

    /// Takes an item into account; the same item with the same features is no more than itself.
    ///
    /// # Errors
    /// Features of another width or with other classes than those there, an item that is there with other features, a
    /// number that is not finite.
    pub fn add(&mut self, number: u64, item: Item) -> Result<(), FidelityError> {
        let logits = item.logits.iter().flatten();
        if item.features.iter().chain(logits).any(|value| !value.is_finite()) {
            return Err(FidelityError::NotFinite { item: number });
        }
        if let Some(first) = self.items.values().next() {
            let (wanted, found) = (first.features.len(), item.features.len());
            if wanted != found {
                return Err(FidelityError::Width { wanted, found });
            }
            let classes = |item: &Item| item.logits.as_ref().map_or(0, Vec::len);
            let (wanted, found) = (classes(first), classes(&item));
            if wanted != found {
                return Err(FidelityError::Classes { item: number, wanted, found });
            }
        }
        match self.items.entry(number) {
            Entry::Vacant(place) => {
                place.insert(item);
                Ok(())
            }
            Entry::Occupied(there) if *there.get() == item => Ok(()),
            Entry::Occupied(_) => Err(FidelityError::Conflict { item: number }),
        }
    }

    /// Takes all items of `other` into account.
    ///
    /// # Errors
    /// As [`FeatureSet::add`].
    pub fn merge(&mut self, other: Self) -> Result<(), FidelityError> {
        other.items.into_iter().try_for_each(|(number, item)| self.add(number, item))
    }

    /// The items in the order of their numbers.
    #[must_use]
    pub fn finish(&self) -> Features {
        let width = self.items.values().next().map_or(0, |item| item.features.len());
        let classes = self.items.values().next().and_then(|item| item.logits.as_ref()).map(Vec::len);
        let table = |width: usize, of: fn(&Item) -> &[f32]| {
            let mut table = Array2::zeros((self.len(), width));
            for (mut row, item) in table.rows_mut().into_iter().zip(self.items.values()) {
                row.iter_mut().zip(of(item)).for_each(|(to, &from)| *to = f64::from(from));
            }
            table
        };
        Features {
            numbers: self.items.keys().copied().collect(),
            features: table(width, |item| &item.features),
            logits: classes.map(|classes| table(classes, |item| item.logits.as_deref().unwrap_or_default())),
        }
    }
}

impl Features {
    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
