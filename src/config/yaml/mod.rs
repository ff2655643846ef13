//! YAML as people write it, to typed values, with every problem at its line and column.
//!
//! [`parse`] makes a tree in which each node knows where it stands; [`Node::expand`] fills in the
//! environment; [`decode`] reads the tree with serde and goes on after a mistake; [`dump`] prints
//! it back without secrets. The rules are those of Go's yaml.v3, so that a `blackbox.yml` means the
//! same here. Not for what keys exist or what values are sensible: the `Spec` types say that.

mod decode;
mod dump;
mod error;
mod expand;
mod merge;
mod number;
mod parse;
mod problem;
mod scalar;
mod source;
mod suggest;
mod tree;
mod value;

#[cfg(test)]
mod tests;

pub use decode::{Named, decode, decode_list, decode_map};
pub use dump::{Sight, dump};
pub use parse::{MAX_ALIAS_NODES, MAX_DEPTH, MAX_NODES, parse};
pub use problem::{MAX_SHOWN, Problem, Problems, Severity};
pub use scalar::{Scalar, Style};
pub use source::{MAX_SOURCE_BYTES, Position, Source};
pub(super) use suggest::help as did_you_mean;
pub use tree::{Entry, Kind, Node};

pub use crate::model::{HINT, MASK as SECRET};
