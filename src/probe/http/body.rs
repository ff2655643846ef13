//! Reading a body: decoded on the way, counted, bounded, kept only where a rule needs it whole.

use std::io::{self, Write};
use std::ops::ControlFlow;

use ::http::HeaderMap;
use brotli::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder};

use crate::model::{Answer, Fault};
use crate::net::Deadline;
use crate::net::http::Response;

/// The most of a body that is kept for rules which need it whole, where `body_size_limit` does not say less.
pub(in crate::probe) const MAX_KEPT_BYTES: u64 = 16 << 20;
/// The most that a compressed body may grow to, where `body_size_limit` does not say otherwise.
const MAX_DECODED_BYTES: u64 = 64 << 20;
/// How much is decoded at once, so that a bomb does not hold up other runs for long.
const DECODE_STEP_BYTES: usize = 4 * 1024;
/// Brotli's output buffer.
const BROTLI_BUFFER_BYTES: usize = 16 * 1024;

/// How a body is coded. Upstream decodes as told, whatever `Content-Encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) enum Coding {
    Identity,
    Gzip,
    Brotli,
    /// Raw DEFLATE, without zlib's frame.
    Deflate,
}

impl Coding {
    pub(in crate::probe) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "gzip" => Self::Gzip,
            "br" => Self::Brotli,
            "deflate" => Self::Deflate,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Deflate => "deflate",
        }
    }
}

/// Takes the decoded body piece by piece.
pub(in crate::probe) trait Sink: Send {
    /// An answer with a good status begins.
    fn begin(&mut self, headers: &HeaderMap);
    /// The next piece; `Break` when it has seen enough.
    fn take(&mut self, piece: &[u8]) -> ControlFlow<()>;
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) coding: Coding,
    pub(super) limit: Option<u64>,
    pub(super) keep: bool,
}

/// What became of a body.
#[derive(Debug)]
pub(super) struct Taken {
    /// Bytes after decoding.
    pub(super) length: u64,
    /// The body, where it was to be kept.
    pub(super) kept: Vec<u8>,
    pub(super) failed: Option<Answer>,
}

/// Reads a body to its end, to its limit, or until the sink has seen enough.
pub(super) async fn take(
    response: &mut Response,
    reading: Reading,
    sink: Option<&mut dyn Sink>,
    deadline: Deadline,
) -> Taken {
    let mut decoder = Decoder::new(reading, sink);
    let failed = read(response, &mut decoder, reading.coding, deadline).await.err();
    let intake = decoder.into_intake();
    Taken { length: intake.length, kept: intake.kept, failed }
}

async fn read(
    response: &mut Response,
    decoder: &mut Decoder<'_>,
    coding: Coding,
    deadline: Deadline,
) -> Result<(), Answer> {
    while let Some(chunk) = response.chunk(deadline).await? {
        for (nth, step) in chunk.chunks(decoder.step()).enumerate() {
            // A bomb must neither outlive the budget nor keep other runs of this thread waiting.
            if nth > 0 {
                tokio::task::yield_now().await;
                if deadline.left().is_zero() {
                    return Err(response.timed_out());
                }
            }
            if let Err(error) = decoder.feed(step) {
                return decoder.stopped(coding, &error);
            }
        }
    }
    decoder.finish().or_else(|error| decoder.stopped(coding, &error))
}

/// The end of the line for decoded bytes.
struct Intake<'a> {
    length: u64,
    limit: u64,
    keep: bool,
    kept: Vec<u8>,
    sink: Option<&'a mut dyn Sink>,
    stop: Option<Stop>,
}

/// Why decoded bytes are no longer taken.
#[derive(Debug, Clone, Copy)]
enum Stop {
    TooLarge,
    Enough,
}

impl Intake<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let room = self.limit - self.length;
        let fits = usize::try_from(room).map_or(bytes.len(), |room| bytes.len().min(room));
        let taken = &bytes[..fits];
        self.length += taken.len() as u64;
        if self.keep {
            self.kept.extend_from_slice(taken);
        }
        if let Some(sink) = &mut self.sink
            && sink.take(taken).is_break()
        {
            return Err(Stop::Enough);
        }
        if fits < bytes.len() { Err(Stop::TooLarge) } else { Ok(()) }
    }
}

impl Write for Intake<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(stop) => {
                self.stop = Some(stop);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder<'a> {
    Identity(Intake<'a>),
    Gzip(Box<MultiGzDecoder<Intake<'a>>>),
    Brotli(Box<DecompressorWriter<Intake<'a>>>),
    Deflate(Box<DeflateDecoder<Intake<'a>>>),
}

impl<'a> Decoder<'a> {
    fn new(reading: Reading, sink: Option<&'a mut dyn Sink>) -> Self {
        let mut limit = reading.limit.unwrap_or(u64::MAX);
        if reading.limit.is_none() && reading.coding != Coding::Identity {
            limit = limit.min(MAX_DECODED_BYTES);
        }
        if reading.keep {
            limit = limit.min(MAX_KEPT_BYTES);
        }
        let intake =
            Intake { length: 0, limit, keep: reading.keep, kept: Vec::new(), sink, stop: None };
        match reading.coding {
            Coding::Identity => Self::Identity(intake),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(intake))),
            Coding::Brotli => {
                Self::Brotli(Box::new(DecompressorWriter::new(intake, BROTLI_BUFFER_BYTES)))
            }
            Coding::Deflate => Self::Deflate(Box::new(DeflateDecoder::new(intake))),
        }
    }

    const fn step(&self) -> usize {
        match self {
            Self::Identity(_) => usize::MAX,
            _ => DECODE_STEP_BYTES,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(intake) => intake.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Brotli(decoder) => decoder.write_all(bytes),
            Self::Deflate(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            // Its end is not checked by the library, which takes more of a stream that has not ended, and no more of one
            // that has.
            Self::Deflate(decoder) => match decoder.write(&[0])? {
                0 => decoder.try_finish(),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// What an error of the decoder means: the intake stopped it, or the bytes are wrong.
    fn stopped(&mut self, coding: Coding, error: &io::Error) -> Result<(), Answer> {
        let intake = self.intake();
        match intake.stop {
            Some(Stop::Enough) => Ok(()),
            Some(Stop::TooLarge) => Err(Fault::BodyTooLarge { limit: intake.limit }.into()),
            None => {
                let detail = if intake.length == 0 {
                    format!("it does not begin like that: {error}")
                } else {
                    format!("broken after {} decoded bytes: {error}", intake.length)
                };
                let coding = coding.name().into();
                Err(Fault::BodyEncoding { coding, detail: detail.into() }.into())
            }
        }
    }

    fn intake(&self) -> &Intake<'a> {
        match self {
            Self::Identity(intake) => intake,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Brotli(decoder) => decoder.get_ref(),
            Self::Deflate(decoder) => decoder.get_ref(),
        }
    }

    /// The intake's numbers, without what the decoders still hold of it.
    fn into_intake(mut self) -> Intake<'a> {
        let intake = match &mut self {
            Self::Identity(intake) => intake,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        };
        let taken = Intake {
            length: intake.length,
            limit: intake.limit,
            keep: false,
            kept: std::mem::take(&mut intake.kept),
            sink: None,
            stop: Some(Stop::Enough),
        };
        // A decoder that is dropped flushes what it holds; nobody takes that any more.
        intake.keep = false;
        intake.sink = None;
        intake.limit = intake.length;
        taken
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    fn decode(coding: Coding, limit: Option<u64>, bytes: &[u8]) -> (u64, Vec<u8>, Option<String>) {
        let mut decoder = Decoder::new(Reading { coding, limit, keep: true }, None);
        let fed = decoder.feed(bytes).and_then(|()| decoder.finish());
        let failed = fed.or_else(|error| decoder.stopped(coding, &error)).err();
        let intake = decoder.into_intake();
        (intake.length, intake.kept, failed.map(|a| a.reason().unwrap().to_owned()))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings_are_decoded() {
        let text = b"hello hello hello hello";
        assert_eq!(decode(Coding::Identity, None, text).1, text);
        assert_eq!(decode(Coding::Gzip, None, &gzip(text)).1, text);
        let twice = [gzip(text), gzip(text)].concat();
        assert_eq!(decode(Coding::Gzip, None, &twice).0, 2 * text.len() as u64);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        assert_eq!(decode(Coding::Deflate, None, &encoder.finish().unwrap()).1, text);
        let mut packed = Vec::new();
        brotli::CompressorWriter::new(&mut packed, 4096, 5, 20).write_all(text).unwrap();
        assert_eq!(decode(Coding::Brotli, None, &packed).1, text);
    }

    #[test]
    fn wrong_and_cut_codings_are_told() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Deflate] {
            let failed = decode(coding, None, b"\xff\xfe plain text").2;
            assert_eq!(failed.as_deref(), Some("body_encoding"), "{coding:?}");
        }
        let packed = gzip(b"hello hello hello hello");
        let failed = decode(Coding::Gzip, None, &packed[..packed.len() - 9]).2;
        assert_eq!(failed.as_deref(), Some("body_encoding"));
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"hello hello hello hello").unwrap();
        let packed = encoder.finish().unwrap();
        for end in 1..packed.len() {
            let failed = decode(Coding::Deflate, None, &packed[..end]).2;
            assert_eq!(failed.as_deref(), Some("body_encoding"), "{end}");
        }
    }

    #[test]
    fn limits_count_decoded_bytes() {
        let bomb = gzip(&vec![0; 20 << 20]);
        assert!(bomb.len() < 100_000);
        let (length, kept, failed) = decode(Coding::Gzip, Some(1000), &bomb);
        assert_eq!((length, kept.len(), failed.as_deref()), (1000, 1000, Some("body_too_large")));
        let (length, _, failed) = decode(Coding::Gzip, None, &bomb);
        assert_eq!((length, failed.as_deref()), (MAX_KEPT_BYTES, Some("body_too_large")));
        assert_eq!(decode(Coding::Identity, Some(5), b"12345").2, None);
        assert_eq!(
            decode(Coding::Identity, Some(5), b"123456").2.as_deref(),
            Some("body_too_large")
        );
    }
}
