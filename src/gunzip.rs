//! Exports may come compressed, which no document says: told by the first two bytes, undone in bounded steps.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Compressed bytes that are inflated in one step: at most about a thousand times as much comes out.
const STEP_BYTES: usize = 4096;

/// Passes plain bytes through and inflates gzip, by what the stream begins with.
#[derive(Debug, Default)]
pub struct Gunzip {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// One byte that may be the first half of the magic number.
    Half,
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Gunzip {
    /// Hands the plain bytes of `chunk` to `each`, in pieces.
    pub fn push<E: From<io::Error>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if chunk.is_empty() {
            return Ok(());
        }
        match &mut self.state {
            State::Plain => each(chunk),
            State::Gzip(decoder) => inflate(decoder, chunk, &mut each),
            State::Start if chunk[0] != 0x1f => {
                self.state = State::Plain;
                each(chunk)
            }
            State::Start if chunk.len() == 1 => {
                self.state = State::Half;
                Ok(())
            }
            State::Start if chunk[1] == 0x8b => self.start(chunk, &mut each),
            State::Start => {
                self.state = State::Plain;
                each(chunk)
            }
            State::Half if chunk[0] == 0x8b => {
                self.start(&[0x1f], &mut each)?;
                self.push(chunk, each)
            }
            State::Half => {
                self.state = State::Plain;
                each(&[0x1f])?;
                each(chunk)
            }
        }
    }

    fn start<E: From<io::Error>>(
        &mut self,
        chunk: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut decoder = Box::new(MultiGzDecoder::new(Vec::new()));
        let result = inflate(&mut decoder, chunk, each);
        self.state = State::Gzip(decoder);
        result
    }

    /// The end of the stream: hands over what is left; an error if the compressed stream is not complete.
    pub fn finish<E: From<io::Error>>(self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self.state {
            State::Start | State::Plain => Ok(()),
            State::Half => each(&[0x1f]),
            State::Gzip(mut decoder) => {
                decoder.try_finish()?;
                each(decoder.get_ref())
            }
        }
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
        let mut gunzip = Gunzip::default();
        for chunk in chunks {
            gunzip.push(chunk, |bytes| -> io::Result<()> {
                out.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        gunzip.finish(|bytes| -> io::Result<()> {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn plain_and_gzip_come_out_alike(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1usize..64) {
            prop_assume!(!bytes.starts_with(&[0x1f, 0x8b]));
            let chunks: Vec<_> = bytes.chunks(step).collect();
            prop_assert_eq!(&pass(&chunks).unwrap(), &bytes);
            let compressed = gzip(&bytes);
            let chunks: Vec<_> = compressed.chunks(step).collect();
            prop_assert_eq!(&pass(&chunks).unwrap(), &bytes);
        }
    }

    #[test]
    fn members_follow_each_other_and_a_cut_one_is_an_error() {
        let mut two = gzip(b"one\n");
        two.extend(gzip(b"two\n"));
        assert_eq!(pass(&[&two]).unwrap(), b"one\ntwo\n");
        let cut = gzip(&[b'x'; 5000]);
        assert!(pass(&[&cut[..cut.len() - 3]]).is_err());
    }
}
