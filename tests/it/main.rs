//! Real sockets, real tools, data files: whatever a unit test cannot prove.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "specifications are written where they are used"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait in real time and serve on tasks of their own"
)]
#![expect(clippy::float_cmp, reason = "metrics that are 0 or 1 are exactly that")]
#![expect(clippy::string_slice, reason = "sources are searched by byte")]

mod any_request;
mod architecture;
mod beats;
mod beyond;
mod binary;
mod compat;
mod config;
mod deadman_life;
mod discovery;
mod discovery_remote;
mod docs;
mod dropin_access;
mod dropin_beyond;
mod dropin_flags;
mod dropin_probe;
mod estate;
mod exposition;
mod faults_crash;
mod faults_disk;
mod faults_door;
mod faults_network;
mod faults_table;
mod heartbeats;
mod heartbeats_faults;
mod heartbeats_gone;
mod judge;
mod lint;
mod names;
mod names_apart;
mod notify_crash;
mod notify_delivery;
mod notify_receivers;
mod pages;
mod pauses;
mod probe_dns;
mod probe_exporter;
mod probe_grpc;
mod probe_http;
mod probe_http3;
mod probe_http_bad;
mod probe_http_options;
mod probe_icmp;
mod probe_starttls;
mod probe_tcp;
mod probe_tls;
mod probe_tls_real;
mod probe_udp;
mod probe_unix;
mod probe_websocket;
mod process;
mod real_dns;
mod real_nginx;
mod resolve;
mod results;
mod schedule;
mod shipped;
mod support;
mod time_to_page;
mod ttl_namespace;
