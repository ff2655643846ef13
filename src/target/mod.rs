//! Where targets come from: written in the configuration, and found in files.
//!
//! [`Spec`] and [`FileSd`] are what people write. [`Discovery`] reads the files of every probe and yields a [`TargetSet`]
//! for each; a [`Watcher`] does so on a thread of its own and publishes what it finds. What cannot be read keeps its last
//! good list. Not for what is done with a target, and not for the probe's own labels.

mod discovery;
mod file;
mod group;
mod pattern;
mod source;
mod spec;
mod watcher;

pub use discovery::{Discovery, Meters, Snapshot, Sources, TargetSet};
pub use file::MAX_FILE_BYTES;
pub use group::{Decoder, FileGroup, InvalidGroup, MAX_ADDRESS_BYTES, MAX_TARGETS, targets_of};
pub use pattern::{InvalidPattern, Pattern};
pub use source::MAX_FILES;
pub use spec::{DEFAULT_REFRESH, FileSd, Spec};
pub use watcher::{POLL, Stuck, Watcher};
