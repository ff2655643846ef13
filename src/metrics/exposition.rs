//! Writes our own expositions: the bytes of `/metrics` and `/probe`.
//!
//! Not for deciding what is in them, nor for grouping: who writes calls `family` once per family and
//! then `sample` for all of its samples.

use super::number;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    #[default]
    Text004,
    OpenMetrics100,
}

impl Encoding {
    /// What the `Accept` header likes best. Of equals OpenMetrics; when in doubt, text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut text = 0;
        let mut openmetrics = 0;
        for range in accept.unwrap_or_default().split(',') {
            let (encoding, weight) = Self::ranged(range);
            match encoding {
                Some(Self::Text004) => text = text.max(weight),
                Some(Self::OpenMetrics100) => openmetrics = openmetrics.max(weight),
                None => {}
            }
        }
        if openmetrics > 0 && openmetrics >= text { Self::OpenMetrics100 } else { Self::Text004 }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text004 => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics100 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// One range of an `Accept` header and its weight in thousandths. A version that we do not write
    /// is none of ours.
    fn ranged(range: &str) -> (Option<Self>, u32) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut weight = 1000;
        let mut version = "";
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => weight = thousandths(value.trim()),
                "version" => version = value.trim().trim_matches('"'),
                _ => {}
            }
        }
        let encoding = match (media_type.as_str(), version) {
            ("application/openmetrics-text", "" | "1.0.0") => Some(Self::OpenMetrics100),
            ("text/plain", "" | "0.0.4") | ("text/*" | "*/*", _) => Some(Self::Text004),
            _ => None,
        };
        (encoding, weight)
    }
}

/// A `q` that is no number does not ask for the type.
fn thousandths(q: &str) -> u32 {
    let q: f64 = q.parse().unwrap_or(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped, and a NaN becomes 0"
    )]
    let weight = (q.clamp(0.0, 1.0) * 1000.0) as u32;
    weight
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// A gauge to text 0.0.4.
    Info,
    /// A gauge to text 0.0.4. OpenMetrics wants the label of the state to have the family's name;
    /// whoever names it otherwise writes a gauge.
    StateSet,
    Unknown,
}

impl Kind {
    fn spelled(self, encoding: Encoding) -> &'static str {
        match (self, encoding) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) | (Self::Info | Self::StateSet, Encoding::Text004) => "gauge",
            (Self::Histogram, _) => "histogram",
            (Self::Summary, _) => "summary",
            (Self::Info, Encoding::OpenMetrics100) => "info",
            (Self::StateSet, Encoding::OpenMetrics100) => "stateset",
            (Self::Unknown, Encoding::Text004) => "untyped",
            (Self::Unknown, Encoding::OpenMetrics100) => "unknown",
        }
    }

    /// What each sample of such a family ends in, and its family in OpenMetrics does not.
    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            _ => "",
        }
    }
}

/// Appends to a buffer; takes none of its time deciding anything per sample.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    encoding: Encoding,
    /// The name of the current family's samples, without suffix.
    name: Box<str>,
}

impl Writer {
    pub fn new(encoding: Encoding) -> Self {
        Self::append_to(Vec::new(), encoding)
    }

    /// Goes on in a buffer that is used again, or in which there is something already.
    pub fn append_to(out: Vec<u8>, encoding: Encoding) -> Self {
        Self { out, encoding, name: Box::default() }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// HELP and TYPE. `name` is that of the samples in the text format: a counter's has its
    /// `_total`, an info's its `_info`. OpenMetrics' families are named without, and its samples
    /// always with it.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        debug_assert!(is_name(name), "{name:?} is not a metric name");
        let (family, sample) = match self.encoding {
            Encoding::Text004 => (name, name.into()),
            Encoding::OpenMetrics100 => {
                let family = name.strip_suffix(kind.suffix()).unwrap_or(name);
                (family, format!("{family}{}", kind.suffix()).into_boxed_str())
            }
        };
        self.push(&["# HELP ", family, " "]);
        escape(&mut self.out, help, self.encoding == Encoding::OpenMetrics100);
        self.push(&["\n# TYPE ", family, " ", kind.spelled(self.encoding), "\n"]);
        self.name = sample;
    }

    /// A sample of the current family. `suffix` is `_bucket`, `_sum`, `_count` or nothing; `labels`
    /// are joined, each rendered by [`rendered_labels`], empty ones left out.
    pub fn sample(&mut self, suffix: &str, labels: &[&str], value: f64) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for part in labels.iter().filter(|part| !part.is_empty()) {
            self.out.push(before);
            self.out.extend_from_slice(part.as_bytes());
            before = b',';
        }
        if before == b',' {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        number::push(&mut self.out, value);
        self.out.push(b'\n');
    }

    pub fn finish(mut self) -> Vec<u8> {
        if self.encoding == Encoding::OpenMetrics100 {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.out
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
    }
}

/// `a="b",c="d"`: once per set of labels, so that a sample only copies it. What a label's name must
/// not hold becomes `_`: one odd name must not cost the whole page.
pub fn rendered_labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Box<str> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(b',');
        }
        push_label_name(&mut out, name);
        out.extend_from_slice(b"=\"");
        escape(&mut out, value, true);
        out.push(b'"');
    }
    String::from_utf8(out).expect("made of strings, escaped at ASCII characters").into_boxed_str()
}

fn push_label_name(out: &mut Vec<u8>, name: &str) {
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        out.push(b'_');
    }
    let safe = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
    out.extend(name.chars().map(safe).map(|char| char as u8));
}

fn is_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    name.bytes().next().is_some_and(is_first)
        && name.bytes().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

fn escape(out: &mut Vec<u8>, text: &str, with_quotes: bool) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if with_quotes => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(encoding: Encoding) -> String {
        let labels = rendered_labels([("job", "a\"b\\c\nd"), ("instance", "é:1")]);
        let mut writer = Writer::new(encoding);
        writer.family("probe_runs_total", Kind::Counter, "Runs.\nA \"quoted\" \\.");
        writer.sample("", &[&labels, "result=\"pass\""], 1_796_069_439.0);
        writer.family("probe_success", Kind::Gauge, "Whether it passed.");
        writer.sample("", &[], 1.0);
        writer.sample("", &["", "a=\"b\""], f64::NAN);
        writer.family("watchpost_build_info", Kind::Info, "Version.");
        writer.sample("", &["version=\"1\""], 1.0);
        writer.family("probe_seconds", Kind::Histogram, "Time.");
        writer.sample("_bucket", &["le=\"0.5\""], 2.0);
        writer.sample("_bucket", &["le=\"+Inf\""], 3.0);
        writer.sample("_sum", &[], 1.25);
        writer.sample("_count", &[], 3.0);
        String::from_utf8(writer.finish()).unwrap()
    }

    #[test]
    fn text_keeps_the_names_and_knows_four_types() {
        let expected = r#"# HELP probe_runs_total Runs.\nA "quoted" \\.
# TYPE probe_runs_total counter
probe_runs_total{job="a\"b\\c\nd",instance="é:1",result="pass"} 1.796069439e+09
# HELP probe_success Whether it passed.
# TYPE probe_success gauge
probe_success 1
probe_success{a="b"} NaN
# HELP watchpost_build_info Version.
# TYPE watchpost_build_info gauge
watchpost_build_info{version="1"} 1
# HELP probe_seconds Time.
# TYPE probe_seconds histogram
probe_seconds_bucket{le="0.5"} 2
probe_seconds_bucket{le="+Inf"} 3
probe_seconds_sum 1.25
probe_seconds_count 3
"#;
        assert_eq!(page(Encoding::Text004), expected);
    }

    #[test]
    fn openmetrics_names_a_family_without_the_suffix_of_its_samples() {
        let page = page(Encoding::OpenMetrics100);
        assert!(page.starts_with("# HELP probe_runs Runs.\\nA \\\"quoted\\\" \\\\.\n"), "{page}");
        assert!(page.contains("\n# TYPE watchpost_build info\nwatchpost_build_info{"), "{page}");
        assert!(page.ends_with("\n# EOF\n"), "{page}");
    }

    #[test]
    fn openmetrics_adds_the_suffix_that_a_counter_lacks() {
        let mut writer = Writer::new(Encoding::OpenMetrics100);
        writer.family("beats", Kind::Counter, "Beats.");
        writer.sample("", &[], 1.0);
        let page = String::from_utf8(writer.finish()).unwrap();
        assert_eq!(page, "# HELP beats Beats.\n# TYPE beats counter\nbeats_total 1\n# EOF\n");
    }

    #[test]
    fn an_odd_label_name_stays_a_label_name() {
        assert_eq!(&*rendered_labels([("1a.b-é", "x"), ("", "y")]), "_1a_b__=\"x\",_=\"y\"");
    }

    #[test]
    fn the_accept_header_chooses() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let rows = [
            (None, Encoding::Text004),
            (Some(""), Encoding::Text004),
            (Some(prometheus), Encoding::OpenMetrics100),
            (Some("*/*"), Encoding::Text004),
            (Some("text/html,*/*;q=0.8"), Encoding::Text004),
            (Some("text/plain;q=0.5, application/openmetrics-text;q=0.4"), Encoding::Text004),
            (
                Some("text/plain;q=0.5, application/openmetrics-text;q=0.6"),
                Encoding::OpenMetrics100,
            ),
            (Some("application/openmetrics-text; version=0.0.1"), Encoding::Text004),
            (Some("application/openmetrics-text; version=\"1.0.0\""), Encoding::OpenMetrics100),
            (Some("Application/OpenMetrics-Text; Q=1"), Encoding::OpenMetrics100),
            (Some("application/openmetrics-text; q=0"), Encoding::Text004),
            (Some("application/openmetrics-text; q=x"), Encoding::Text004),
            (Some("image/png"), Encoding::Text004),
        ];
        for (accept, expected) in rows {
            assert_eq!(Encoding::negotiate(accept), expected, "{accept:?}");
        }
    }
}
