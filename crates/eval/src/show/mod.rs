//! One image through one network, shown.

pub mod page;
