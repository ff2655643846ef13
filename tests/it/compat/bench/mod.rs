//! Cases of `/probe` as data: servers that do as a file says, a module, and what must come out.
//!
//! A case is an entry of a list in `tests/cases/probe/PROBER/*.yml`. Text between braces is filled in once the case's
//! servers have their ports: `{port}`, `{address}` (an address and a port), `{name}` (localhost and a port), `{path}` (of a
//! socket) of the server `main`, `{other.port}` of one that is called `other`; `{folder}` has the files of [`files`].
//!
//! In `tests/cases/probe-products/*.yml` each question is put in each circumstance, and every pair is a case.

pub(crate) mod case;
pub(crate) mod contract;
pub(crate) mod files;
pub(crate) mod keys;
pub(crate) mod page;
pub(crate) mod server;
pub(crate) mod wanted;
