//! The table of every metric family: results of checks ([`RESULTS`]), numbers about ourselves ([`OWN`]), and those of the
//! latter under the names that blackbox_exporter gives them ([`COMPAT`]).
//!
//! A name stands here once. Code refers to the constant, the writer takes type and help from it, the reference and the
//! tests walk the lists.

/// What a family's samples mean to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// A constant 1 whose labels are the message.
    Info,
    /// One sample a state; exactly one of them is 1.
    StateSet,
}

/// One metric family.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Labels beside those that every result carries. Empty also where labels come from the configuration.
    pub labels: &'static [&'static str],
}

/// A number or name learnt on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    pub family: &'static Family,
    pub labels: FactLabels,
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum FactLabels {
    #[default]
    None,
    One(&'static str, Box<str>),
    Many(Box<[(Box<str>, Box<str>)]>),
}

impl Fact {
    pub const fn new(family: &'static Family, value: f64) -> Self {
        Self { family, labels: FactLabels::None, value }
    }

    pub fn labelled(
        family: &'static Family,
        name: &'static str,
        label: impl Into<Box<str>>,
        value: f64,
    ) -> Self {
        Self { family, labels: FactLabels::One(name, label.into()), value }
    }

    pub fn info(
        family: &'static Family,
        labels: impl IntoIterator<Item = (Box<str>, Box<str>)>,
    ) -> Self {
        Self { family, labels: FactLabels::Many(labels.into_iter().collect()), value: 1.0 }
    }

    pub fn is(&self, family: &'static Family) -> bool {
        std::ptr::eq(self.family, family) || self.family.name == family.name
    }

    /// Names and values of its labels, in the order in which they were learnt.
    pub fn label_pairs(&self) -> Vec<(&str, &str)> {
        match &self.labels {
            FactLabels::None => Vec::new(),
            FactLabels::One(name, value) => vec![(name, value)],
            FactLabels::Many(pairs) => pairs.iter().map(|(n, v)| (&**n, &**v)).collect(),
        }
    }
}

macro_rules! families {
    ($(#[doc = $list_doc:literal])+ $list:ident: $($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $ident: Family =
                Family { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )+
        $(#[doc = $list_doc])+
        pub static $list: &[&Family] = &[$(&$ident),+];
    };
}

families! {
    /// Families of results. They carry `job`, `instance`, `module`, `watchpost`, `probe_region` and the target's labels.
    RESULTS:
    PROBE_SUCCESS = Gauge "probe_success" [] "Whether the last run passed.";
    PROBE_DURATION = Gauge "probe_duration_seconds" [] "How long the last run took.";
    PROBE_TIMEOUT = Gauge "probe_timeout_seconds" [] "The budget of a run.";
    PROBE_ATTEMPTS = Gauge "probe_attempts" [] "How often the last run asked; only where the module has retries.";
    PROBE_ATTEMPT_FAILURES = Gauge "probe_attempt_failures" ["reason"] "Attempts of the last run that failed, by reason; only where the module has retries.";
    PROBE_INTERVAL = Gauge "probe_interval_seconds" [] "How often the check runs.";
    PROBE_STATUS = StateSet "probe_status" ["status"] "What is believed about the check, after thresholds.";
    PROBE_STATUS_SINCE = Gauge "probe_status_since_timestamp_seconds" [] "Unix time at which the status was entered.";
    PROBE_FAILURE_INFO = Info "probe_failure_info" ["reason", "phase"] "Why and where the last run did not pass; absent when it passed.";
    PROBE_RUNS = Counter "probe_runs_total" ["result"] "Scheduled runs by result.";
    PROBE_RETRIES = Counter "probe_retries_total" [] "Early runs that confirm or refute a change of status.";
    PROBE_FAILURES = Counter "probe_failures_total" ["reason"] "Runs that failed, by reason.";
    PROBE_RUN_DURATION = Summary "probe_run_duration_seconds" [] "Durations of all scheduled runs.";
    PROBE_LAST_RUN = Gauge "probe_last_run_timestamp_seconds" [] "Unix time at which the last run began.";
    PROBE_LAST_SUCCESS = Gauge "probe_last_success_timestamp_seconds" [] "Unix time at which the last run that passed began; of a dead man's switch, of the last beat while it did not fail.";

    PROBE_DNS_LOOKUP_TIME = Gauge "probe_dns_lookup_time_seconds" [] "How long resolving the target's name took.";
    PROBE_IP_PROTOCOL = Gauge "probe_ip_protocol" [] "Address family of the connection: 4 or 6; 0 if the name did not resolve.";
    PROBE_IP_ADDR_HASH = Gauge "probe_ip_addr_hash" [] "FNV-1a hash of the address that was asked, to notice when it changes.";

    PROBE_HTTP_DURATION = Gauge "probe_http_duration_seconds" ["phase"] "Duration of the HTTP request by phase, summed over redirects.";
    PROBE_HTTP_STATUS_CODE = Gauge "probe_http_status_code" [] "Status code of the final response.";
    PROBE_HTTP_CONTENT_LENGTH = Gauge "probe_http_content_length" [] "Declared length of the final response; -1 if undeclared.";
    PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH = Gauge "probe_http_uncompressed_body_length" [] "Bytes of the body after decoding.";
    PROBE_HTTP_REDIRECTS = Gauge "probe_http_redirects" [] "Redirects received.";
    PROBE_HTTP_SSL = Gauge "probe_http_ssl" [] "Whether the final response came over TLS.";
    PROBE_HTTP_VERSION = Gauge "probe_http_version" [] "HTTP version of the final response.";
    PROBE_HTTP_LAST_MODIFIED = Gauge "probe_http_last_modified_timestamp_seconds" [] "Last-Modified of the final response, as unix time.";
    PROBE_FAILED_DUE_TO_REGEX = Gauge "probe_failed_due_to_regex" [] "Whether the run failed because of a regular expression.";
    PROBE_FAILED_DUE_TO_CEL = Gauge "probe_failed_due_to_cel" [] "Whether the run failed because of a CEL expression.";
    PROBE_FAILED_DUE_TO_BYTES = Gauge "probe_failed_due_to_bytes" [] "Whether the run failed because of unexpected bytes.";

    PROBE_SSL_EARLIEST_CERT_EXPIRY = Gauge "probe_ssl_earliest_cert_expiry" [] "Earliest end of a certificate in the chain as sent, as unix time.";
    PROBE_SSL_LAST_CHAIN_EXPIRY = Gauge "probe_ssl_last_chain_expiry_timestamp_seconds" [] "End of the verified chain that lasts longest, as unix time.";
    PROBE_SSL_LAST_CHAIN_INFO = Info "probe_ssl_last_chain_info" ["fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber"] "The server's own certificate.";
    PROBE_SSL_CERT_NOT_AFTER = Gauge "probe_ssl_cert_not_after_timestamp_seconds" ["position"] "End of each certificate sent, as unix time; position 0 is the server's own.";
    PROBE_SSL_CERT_NOT_BEFORE = Gauge "probe_ssl_cert_not_before_timestamp_seconds" ["position"] "Beginning of each certificate sent, as unix time.";
    PROBE_SSL_CERT_INFO = Info "probe_ssl_cert_info" ["position", "subject", "issuer", "serialnumber", "subjectalternative", "key_type"] "Each certificate sent.";
    PROBE_SSL_VERIFIED = Gauge "probe_ssl_verified" [] "Whether the chain, its dates and its name were accepted.";
    PROBE_TLS_VERSION_INFO = Info "probe_tls_version_info" ["version"] "TLS version in use.";
    PROBE_TLS_CIPHER_INFO = Info "probe_tls_cipher_info" ["cipher"] "TLS cipher suite in use.";
    PROBE_TLS_ALPN_INFO = Info "probe_tls_alpn_info" ["protocol"] "Protocol agreed on by ALPN.";
    PROBE_TLS_DURATION = Gauge "probe_tls_duration_seconds" ["phase"] "Duration of a TLS run by phase.";

    PROBE_TCP_DURATION = Gauge "probe_tcp_duration_seconds" ["phase"] "Duration of a TCP run by phase.";
    PROBE_UDP_DURATION = Gauge "probe_udp_duration_seconds" ["phase"] "Duration of a UDP run by phase.";
    PROBE_EXPECT_INFO = Info "probe_expect_info" [] "Labels taken from the answer that was expected.";

    PROBE_DNS_DURATION = Gauge "probe_dns_duration_seconds" ["phase"] "Duration of the DNS exchange by phase.";
    PROBE_DNS_ANSWER_RRS = Gauge "probe_dns_answer_rrs" [] "Records in the answer section.";
    PROBE_DNS_AUTHORITY_RRS = Gauge "probe_dns_authority_rrs" [] "Records in the authority section.";
    PROBE_DNS_ADDITIONAL_RRS = Gauge "probe_dns_additional_rrs" [] "Records in the additional section.";
    PROBE_DNS_QUERY_SUCCEEDED = Gauge "probe_dns_query_succeeded" [] "Whether a response was received and understood.";
    PROBE_DNS_SERIAL = Gauge "probe_dns_serial" [] "Serial of the SOA record in the answer.";
    PROBE_DNS_RCODE_INFO = Info "probe_dns_rcode_info" ["rcode"] "Response code of the server.";
    PROBE_DNS_TRUNCATED = Gauge "probe_dns_truncated" [] "Whether the answer over UDP was truncated.";
    PROBE_DNS_FLAG = Gauge "probe_dns_flag" ["flag"] "Flags of the response: aa, ad, ra and tc.";
    PROBE_DNS_EDNS_BUFFER = Gauge "probe_dns_edns_buffer_bytes" [] "The largest datagram that the server says it takes, by EDNS.";
    PROBE_DNS_NSID_INFO = Info "probe_dns_nsid_info" ["nsid"] "Which server answered, by its own word (NSID).";

    PROBE_EXPORTER_VALID = Gauge "probe_exporter_valid" [] "Whether the exposition is one that Prometheus would take.";
    PROBE_EXPORTER_SAMPLES = Gauge "probe_exporter_samples" [] "Samples in the exposition.";
    PROBE_EXPORTER_FAMILIES = Gauge "probe_exporter_families" [] "Metric families in the exposition.";
    PROBE_EXPORTER_BYTES = Gauge "probe_exporter_bytes" [] "Size of the exposition after decoding.";
    PROBE_EXPORTER_START_TIME = Gauge "probe_exporter_process_start_time_seconds" [] "The exporter's own process_start_time_seconds.";
    PROBE_EXPORTER_RESTARTS = Counter "probe_exporter_restarts_total" [] "Times that the exporter's start time moved.";
    PROBE_EXPORTER_INFO = Info "probe_exporter_info" ["exporter", "version"] "Which exporter answered, by its build information.";

    PROBE_ICMP_DURATION = Gauge "probe_icmp_duration_seconds" ["phase"] "Duration of the ICMP exchange by phase.";
    PROBE_ICMP_REPLY_HOP_LIMIT = Gauge "probe_icmp_reply_hop_limit" [] "Hop limit of the reply.";
    PROBE_ICMP_SENT = Gauge "probe_icmp_packets_sent" [] "Echo requests sent in the last run.";
    PROBE_ICMP_RECEIVED = Gauge "probe_icmp_packets_received" [] "Echo replies received in the last run.";
    PROBE_ICMP_LOSS_RATIO = Gauge "probe_icmp_loss_ratio" [] "Share of echo requests of the last run without a reply.";
    PROBE_ICMP_JITTER = Gauge "probe_icmp_jitter_seconds" [] "Mean difference between round trips that follow each other.";

    PROBE_GRPC_DURATION = Gauge "probe_grpc_duration_seconds" ["phase"] "Duration of the gRPC health check by phase.";
    PROBE_GRPC_SSL = Gauge "probe_grpc_ssl" [] "Whether the peer answered over TLS.";
    PROBE_GRPC_STATUS_CODE = Gauge "probe_grpc_status_code" [] "Status code of the call.";
    PROBE_GRPC_HEALTHCHECK_RESPONSE = Gauge "probe_grpc_healthcheck_response" ["serving_status"] "Serving status that the health service reported.";

    PROBE_WEBSOCKET_DURATION = Gauge "probe_websocket_duration_seconds" ["phase"] "Duration of the WebSocket run by phase.";
    PROBE_WEBSOCKET_STATUS_CODE = Gauge "probe_websocket_status_code" [] "Status code of the handshake.";
    PROBE_WEBSOCKET_CONNECTION_UPGRADED = Gauge "probe_websocket_connection_upgraded" [] "Whether the server switched to WebSocket.";
    PROBE_WEBSOCKET_FAILED_DUE_TO_REGEX = Gauge "probe_websocket_failed_due_to_regex" [] "Whether the dialogue failed.";
}

families! {
    /// Families about this process. They carry no labels of a check.
    OWN:
    BUILD_INFO = Info "watchpost_build_info" ["version", "rustversion"] "The running build.";
    IDENTITY_INFO = Info "watchpost_identity_info" ["watchpost", "probe_region"] "Which watchpost this is.";
    CLOCK = Gauge "watchpost_clock_seconds" ["watchpost"] "This watchpost's clock, to be sent back as evidence.";
    START_TIME = Gauge "watchpost_start_time_seconds" [] "Unix time at which this process started.";
    CHECKS = Gauge "watchpost_checks" ["status"] "Checks by status.";
    SCHEDULE_LATENESS = Histogram "watchpost_schedule_lateness_seconds" [] "How long after its due time a run began.";
    SCHEDULE_SKIPPED = Counter "watchpost_schedule_skipped_total" ["cause"] "Due times that passed without a run, by cause.";
    SCHEDULE_LATE = Counter "watchpost_schedule_late_total" [] "Runs that began more than a second after their due time.";
    IN_FLIGHT = Gauge "watchpost_runs_in_flight" [] "Runs that are going on.";
    IN_FLIGHT_LIMIT = Gauge "watchpost_runs_in_flight_limit" ["scope"] "How many runs may go on at once: overall, and for one host.";
    WAITING = Gauge "watchpost_runs_waiting" [] "Runs that are due and wait for their host or for the overall limit.";
    SHARD_INFO = Info "watchpost_shard_info" ["shard", "shards"] "Which share of the checks this process runs.";
    BLIND = Gauge "watchpost_blind" [] "Whether no reference answers, so that this watchpost is cut off.";
    REFERENCE_UP = Gauge "watchpost_reference_up" ["reference"] "Whether a reference answered at its last try.";
    CONFIG_RELOAD_SUCCESS = Gauge "watchpost_config_last_reload_successful" [] "Whether the last reload of the configuration was taken over.";
    CONFIG_RELOAD_TIME = Gauge "watchpost_config_last_reload_success_timestamp_seconds" [] "Unix time of the last reload that was taken over.";
    CONFIG_RELOADS = Counter "watchpost_config_reloads_total" ["result"] "Reloads by result.";
    DISCOVERY_TARGETS = Gauge "watchpost_discovery_targets" ["probe", "mechanism", "source"] "Targets that a source yields now.";
    DISCOVERY_LAST_SUCCESS = Gauge "watchpost_discovery_last_success_timestamp_seconds" ["probe", "mechanism", "source"] "Unix time at which a source was last read well.";
    DISCOVERY_FAILED = Gauge "watchpost_discovery_failed" ["probe", "mechanism", "source"] "Whether a source could not be read, so that its last good list is in use.";
    DISCOVERY_MTIME = Gauge "watchpost_discovery_file_mtime_seconds" ["probe", "mechanism", "source"] "Modification time of a discovery file.";
    DISCOVERY_DUPLICATES = Gauge "watchpost_discovery_duplicate_targets" ["probe"] "Targets that are left out because the probe has an equal one already.";
    CHANGES = Counter "watchpost_status_changes_total" ["to"] "Changes of status by the status that was entered.";
    SCRAPES = Counter "watchpost_scrapes_total" ["path"] "Answers to requests for metrics.";
    SCRAPE_DURATION = Histogram "watchpost_scrape_duration_seconds" ["path"] "How long rendering an answer took.";
    OWNER_LAST_PASS = Gauge "watchpost_owner_last_pass_timestamp_seconds" [] "Unix time of the last completed pass of the owner of all results.";
    OUTCOMES_DROPPED = Counter "watchpost_outcomes_dropped_total" ["cause"] "Outcomes that were thrown away, by cause.";
    PROBER_PANICS = Counter "watchpost_prober_panics_total" ["prober"] "Runs that ended in a panic: a defect of watchpost.";
    PROBE_REQUESTS = Gauge "watchpost_probe_requests_in_flight" [] "Runs for requests to /probe that are going on.";
    PROBE_REQUESTS_LIMIT = Gauge "watchpost_probe_requests_in_flight_limit" [] "How many runs for requests to /probe may go on at once.";
    PROBE_REQUESTS_REFUSED = Counter "watchpost_probe_requests_refused_total" ["cause"] "Requests to /probe that were not run, by cause.";
    PROBE_REQUEST_DURATION = Histogram "watchpost_probe_request_duration_seconds" ["module"] "Durations of runs for requests to /probe.";
    OUTBOX_DEPTH = Gauge "watchpost_outbox_depth" ["receiver"] "Notifications that are not delivered yet.";
    OUTBOX_OLDEST = Gauge "watchpost_outbox_oldest_timestamp_seconds" ["receiver"] "Unix time at which the oldest notification that is not delivered was made; absent when there is none.";
    DELIVERIES = Counter "watchpost_deliveries_total" ["receiver", "result"] "Attempts to deliver a notification, by result.";
    RECEIVER_LAST_SUCCESS = Gauge "watchpost_receiver_last_success_timestamp_seconds" ["receiver"] "Unix time of the last delivery that the receiver confirmed.";
    RECEIVER_LAST_TEST_SUCCESS = Gauge "watchpost_receiver_last_test_success_timestamp_seconds" ["receiver"] "Unix time of the last test that the receiver confirmed.";
    EPISODES_OPEN = Gauge "watchpost_episodes_open" ["receiver"] "Episodes that are open.";
    BOOK_WRITABLE = Gauge "watchpost_book_writable" [] "Whether the book is on disk with everything that is known.";
    BOOK_ERRORS = Counter "watchpost_book_errors_total" [] "Failures to write the book.";
    CLOCK_STEPS = Counter "watchpost_clock_steps_total" [] "Jumps of the wall clock against the boot clock.";
    DEADMAN_LAST_BEAT = Gauge "watchpost_deadman_last_beat_timestamp_seconds" ["deadman"] "Unix time of the last beat that moved the deadline; absent before the first.";
    DEADMAN_DEADLINE = Gauge "watchpost_deadman_deadline_timestamp_seconds" ["deadman"] "Unix time at which a dead man's switch fails if nothing comes; absent while it fails.";
    DEADMAN_BEATS = Counter "watchpost_deadman_beats_total" ["deadman", "result"] "Beats by what became of them.";
    DEADMAN_REFUSED = Counter "watchpost_deadman_refused_total" ["reason"] "Beats that belong to no switch: no such switch or a wrong key, and what is no ping URL.";
    DEADMAN_PAUSED_UNTIL = Gauge "watchpost_deadman_paused_until_timestamp_seconds" ["deadman"] "Unix time at which a pause ends; absent without one.";
    PROBE_PAUSED_UNTIL = Gauge "watchpost_probe_paused_until_timestamp_seconds" ["probe"] "Unix time at which the pause of a probe ends; absent without one.";
    WATCHDOG_EVIDENCE = Gauge "watchpost_watchdog_evidence_timestamp_seconds" ["deadman", "source"] "Unix time at which we issued the newest clock that came back; absent before the first.";
    WATCHDOG_LOOP = Histogram "watchpost_watchdog_loop_seconds" ["deadman"] "How long a clock took from us through Prometheus and Alertmanager back to us.";
    ALERTMANAGER_UP = Gauge "watchpost_alertmanager_up" ["deadman", "alertmanager"] "Whether an Alertmanager answered the last poll and was ready.";
    ALERTMANAGER_FINDING = Gauge "watchpost_alertmanager_finding" ["deadman", "alertmanager", "finding"] "How many findings of a kind the last poll of an Alertmanager had.";
    HEARTBEAT_OPEN = Gauge "watchpost_heartbeat_open" ["heartbeat"] "Whether all evidence for a heartbeat holds.";
    HEARTBEAT_GATE_OPEN = Gauge "watchpost_heartbeat_gate_open" ["heartbeat", "gate"] "Whether one piece of evidence for a heartbeat holds.";
    HEARTBEAT_GATE_CLOSED = Info "watchpost_heartbeat_gate_closed_info" ["heartbeat", "gate", "reason"] "1 for the reason why a gate is closed; absent while it is open.";
    HEARTBEAT_INTERVAL = Gauge "watchpost_heartbeat_interval_seconds" ["heartbeat"] "How often a beat is sent while all evidence holds.";
    HEARTBEAT_LAST_SENT = Gauge "watchpost_heartbeat_last_sent_timestamp_seconds" ["heartbeat"] "Unix time at which the service last accepted a beat; absent before the first.";
    HEARTBEAT_SENDS = Counter "watchpost_heartbeat_sends_total" ["heartbeat", "result"] "Tries to send a beat, by result.";
    HEARTBEAT_RECORDED = Gauge "watchpost_heartbeat_recorded_timestamp_seconds" ["heartbeat"] "Unix time of the last beat that the service says it has recorded; absent where it was not asked.";
    HEARTBEAT_RECORDED_OK = Gauge "watchpost_heartbeat_recorded_ok" ["heartbeat"] "Whether the service has recorded what it accepted and is watching; absent where it was not asked.";
}

families! {
    /// Families about this process that alerts made for blackbox_exporter look at.
    COMPAT:
    BLACKBOX_BUILD_INFO = Gauge "blackbox_exporter_build_info" ["version", "revision", "branch", "goversion", "goos", "goarch", "tags"] "The running build, which is a watchpost.";
    BLACKBOX_RELOAD_SUCCESS = Gauge "blackbox_exporter_config_last_reload_successful" [] "Whether the last reload of the configuration was taken over.";
    BLACKBOX_RELOAD_TIME = Gauge "blackbox_exporter_config_last_reload_success_timestamp_seconds" [] "Unix time of the last reload that was taken over.";
    BLACKBOX_MODULE_UNKNOWN = Counter "blackbox_module_unknown_total" [] "Requests to /probe for a module that there is not.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_family_is_named_once_and_by_the_rules() {
        let all: Vec<_> = RESULTS.iter().chain(OWN).chain(COMPAT).collect();
        let names: BTreeSet<_> = all.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), all.len());
        for family in all {
            assert_eq!(
                family.kind == Kind::Counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            // Upstream's build information is a gauge also to OpenMetrics.
            if !family.name.starts_with("blackbox_") {
                assert_eq!(
                    family.kind == Kind::Info,
                    family.name.ends_with("_info"),
                    "{}",
                    family.name
                );
            }
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
        assert!(OWN.iter().all(|f| f.name.starts_with("watchpost_")));
        assert!(RESULTS.iter().all(|f| f.name.starts_with("probe_")));
        assert!(COMPAT.iter().all(|f| f.name.starts_with("blackbox_")));
    }
}
