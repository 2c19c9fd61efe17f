//! Features by item, collected from batches and shards.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::FidelityError;

/// The output of the network for one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The feature `[d]`, as the network computed it.
    pub features: Vec<f32>,
    /// Class logits `[classes]`; `None` for a network without classes.
    pub logits: Option<Vec<f32>>,
}

/// Features of items by number: the seed or the index in the list, never the index in a batch.
///
/// Merging is a union, so the result does not depend on batches, on shards, or on their order.
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
    /// `[n, classes]`; `None` for a network without classes.
    pub logits: Option<Array2<f64>>,
}

impl FeatureSet {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns whether the set has the item.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.items.contains_key(&number)
    }

    /// Returns the items with their numbers, in ascending order.
    pub fn items(&self) -> impl Iterator<Item = (u64, &Item)> {
        self.items.iter().map(|(&number, item)| (number, item))
    }

    /// Adds an item. Adding an item again with the same features has no effect.
    ///
    /// # Errors
    /// Fails if the width or the number of classes differs from the other items, if the item already has different features, or
    /// if a number is not finite.
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

    /// Adds all items of `other`.
    ///
    /// # Errors
    /// Fails as [`FeatureSet::add`] does.
    pub fn merge(&mut self, other: Self) -> Result<(), FidelityError> {
        other.items.into_iter().try_for_each(|(number, item)| self.add(number, item))
    }

    /// Returns the features in the order of the items' numbers.
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
    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    /// Returns whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
