//! Any bytes as an exposition: wherever the chunks end, the same is read.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use watchpost::probe::exposition::{Format, Invalid, Limits, Reader, Sample, Summary};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_open_metrics: bool,
    cut: u16,
    bytes: &'a [u8],
}

type Read = (Vec<String>, Result<Summary, Invalid>);

fn read(format: Format, chunks: &[&[u8]]) -> Read {
    let mut samples = Vec::new();
    let mut sink = |sample: Sample<'_>| {
        let labels: Vec<_> = sample.labels.iter().collect();
        let (name, value) = (sample.name, sample.value.to_bits());
        samples.push(format!("{name} {labels:?} {value} {:?} {}", sample.timestamp_ms, sample.line));
    };
    let mut reader = Reader::new(format, Limits::default());
    let fed = chunks.iter().try_for_each(|chunk| reader.feed(chunk, &mut sink));
    let ended = fed.and_then(|()| reader.finish(&mut sink));
    (samples, ended)
}

fuzz_target!(|input: Input<'_>| {
    let format = if input.is_open_metrics { Format::OpenMetrics } else { Format::Text };
    let (head, tail) = input.bytes.split_at(usize::from(input.cut).min(input.bytes.len()));
    let whole = read(format, &[input.bytes]);
    assert_eq!(read(format, &[head, tail]), whole);
    if let Err(invalid) = &whole.1 {
        assert!(invalid.line >= 1 && invalid.column >= 1, "{invalid:?}");
    }
});
