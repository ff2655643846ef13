//! What several tests need: servers that misbehave on purpose, and ways to start real ones.

pub(crate) mod certs;
pub(crate) mod dns;
pub(crate) mod fakes;
pub(crate) mod grpc;
pub(crate) mod peer;
pub(crate) mod quic;
pub(crate) mod run;
pub(crate) mod watchpost;
pub(crate) mod web;
