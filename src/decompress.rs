//! Files may come compressed: told by their first bytes, undone in bounded steps.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Compressed bytes that are inflated in one step: at most about a thousand times as much comes out.
const STEP_BYTES: usize = 4096;

/// The most that zstd may look back, as a power of two: 32 MiB, which all of its levels but the two highest keep to.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Bytes that zstd hands over at a time.
const ZSTD_OUT_BYTES: usize = 128 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Passes plain bytes through and undoes gzip and zstd, by what the stream begins with.
#[derive(Default)]
pub struct Decompress {
    state: State,
}

#[derive(Default)]
enum State {
    /// The first bytes may be a part of a magic number.
    #[default]
    Start,
    Half(Vec<u8>),
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Unzstd),
}

impl Decompress {
    /// Hands the plain bytes of `chunk` to `each`, in pieces.
    pub fn push<E: From<io::Error>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut whole = Vec::new();
        let chunk = match &mut self.state {
            State::Half(held) => {
                whole.append(held);
                whole.extend_from_slice(chunk);
                &whole
            }
            _ => chunk,
        };
        if matches!(self.state, State::Start | State::Half(_)) {
            self.state = State::of(chunk)?;
        }
        match &mut self.state {
            State::Start | State::Half(_) => Ok(()),
            State::Plain => each(chunk),
            State::Gzip(decoder) => inflate(decoder, chunk, &mut each),
            State::Zstd(decoder) => decoder.push(chunk, &mut each),
        }
    }

    /// The end of the stream: hands over what is left; an error if the compressed stream is not complete.
    pub fn finish<E: From<io::Error>>(self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self.state {
            State::Start | State::Plain => Ok(()),
            State::Half(held) => each(&held),
            State::Gzip(mut decoder) => {
                decoder.try_finish()?;
                each(decoder.get_ref())
            }
            State::Zstd(decoder) => Ok(decoder.finish()?),
        }
    }
}

impl State {
    /// What a stream is that begins with these bytes.
    fn of(head: &[u8]) -> io::Result<Self> {
        let may_be = |magic: &[u8]| head.len() < magic.len() && magic.starts_with(head);
        Ok(if head.is_empty() {
            Self::Start
        } else if head.starts_with(&GZIP) {
            Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
        } else if head.starts_with(&ZSTD) {
            Self::Zstd(Unzstd::new()?)
        } else if may_be(&GZIP) || may_be(&ZSTD) {
            Self::Half(head.to_vec())
        } else {
            Self::Plain
        })
    }
}

/// Frames of zstd, one after the other.
struct Unzstd {
    decoder: Decoder<'static>,
    out: Vec<u8>,
    is_at_end_of_frame: bool,
}

impl Unzstd {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self { decoder, out: vec![0; ZSTD_OUT_BYTES], is_at_end_of_frame: false })
    }

    fn push<E: From<io::Error>>(
        &mut self,
        chunk: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut input = InBuffer::around(chunk);
        loop {
            let mut output = OutBuffer::around(self.out.as_mut_slice());
            let hint = self.decoder.run(&mut input, &mut output)?;
            let length = output.pos();
            self.is_at_end_of_frame = hint == 0;
            each(&self.out[..length])?;
            let is_drained = self.is_at_end_of_frame || length < self.out.len();
            if input.pos() == chunk.len() && is_drained {
                return Ok(());
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        if self.is_at_end_of_frame {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a frame"))
    }
}

fn inflate<E: From<io::Error>>(
    decoder: &mut MultiGzDecoder<Vec<u8>>,
    chunk: &[u8],
    each: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for step in chunk.chunks(STEP_BYTES) {
        decoder.write_all(step)?;
        each(decoder.get_ref())?;
        decoder.get_mut().clear();
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn pass(chunks: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut decompress = Decompress::default();
        for chunk in chunks {
            decompress.push(chunk, |bytes| -> io::Result<()> {
                out.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        decompress.finish(|bytes| -> io::Result<()> {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn plain_gzip_and_zstd_come_out_alike(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1usize..64) {
            prop_assume!(!bytes.starts_with(&GZIP) && !bytes.starts_with(&ZSTD));
            let chunks: Vec<_> = bytes.chunks(step).collect();
            prop_assert_eq!(&pass(&chunks).unwrap(), &bytes);
            for compressed in [gzip(&bytes), zstd(&bytes)] {
                let chunks: Vec<_> = compressed.chunks(step).collect();
                prop_assert_eq!(&pass(&chunks).unwrap(), &bytes);
            }
        }
    }

    #[test]
    fn members_follow_each_other_and_a_cut_one_is_an_error() {
        for compress in [gzip, zstd] {
            let mut two = compress(b"one\n");
            two.extend(compress(b"two\n"));
            assert_eq!(pass(&[&two]).unwrap(), b"one\ntwo\n");
            let cut = compress(&[b'x'; 5000]);
            assert!(pass(&[&cut[..cut.len() - 3]]).is_err());
        }
    }

    #[test]
    fn a_small_zstd_file_that_swells_comes_out_in_bounded_pieces() {
        let compressed = zstd(&vec![0; 64 << 20]);
        assert!(compressed.len() < 64 << 10);
        let (mut longest, mut total) = (0, 0);
        let mut decompress = Decompress::default();
        let mut each = |bytes: &[u8]| -> io::Result<()> {
            longest = longest.max(bytes.len());
            total += bytes.len();
            Ok(())
        };
        decompress.push(&compressed, &mut each).unwrap();
        decompress.finish(&mut each).unwrap();
        assert_eq!((longest, total), (ZSTD_OUT_BYTES, 64 << 20));
    }
}
