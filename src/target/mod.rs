//! Where targets come from: written in the configuration, found in files, or known to somebody on the network.
//!
//! [`Spec`], [`FileSd`], [`HttpSd`], [`DnsSd`] and [`KubernetesSd`] are what people write. [`Discovery`] reads the sources of every probe and yields a [`TargetSet`]
//! for each; a [`Watcher`] does so on a thread of its own and publishes what it finds. What cannot be read keeps its last
//! good list. Not for what is done with a target, and not for the probe's own labels.

mod discovery;
mod file;
mod group;
mod held;
mod pattern;
mod remote;
mod source;
mod spec;
mod watcher;

pub use discovery::{Discovery, Meters, Snapshot, Sources, TargetSet};
pub use file::MAX_FILE_BYTES;
pub use group::{Decoder, FileGroup, InvalidGroup, MAX_ADDRESS_BYTES, MAX_TARGETS, targets_of};
pub use pattern::{InvalidPattern, Pattern};
pub use remote::{
    BasicAuth, DnsSd, HttpSd, KubernetesSd, MIN_REFRESH, Namespaces, Network, RecordKind, Remote,
    Role, Selector, Template, TlsFiles,
};
pub use source::MAX_FILES;
pub use spec::{DEFAULT_REFRESH, FileSd, Spec};
pub use watcher::{POLL, Stuck, Watcher};
