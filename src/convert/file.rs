//! An export on disk: found by name or pattern, known by its content.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use glob::{MatchOptions, glob_with};
use jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::array::is_array;
use crate::cpu::Cpu;
use crate::decompress::Decompress;
use crate::error::{Error, Kind, Result};
use crate::export::ExportVersion;
use crate::file_type::HEAD_BYTES;
use crate::pipeline::file_decoder::{Chunks, FileError};
use crate::temp_dir;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What was named on the command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// `-`
    Stdin,
    /// A file.
    Path(PathBuf),
}

/// The files that these arguments name, each once. A pattern that a shell has left alone is expanded.
pub fn expand(arguments: &[PathBuf]) -> Result<Vec<Named>> {
    let mut named = BTreeSet::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            named.insert(Named::Stdin);
        } else if argument.is_dir() {
            return Err(usage(format!("{} is a folder", argument.display()))
                .hint(format!("name its files: '{}/*'", argument.display())));
        } else if argument.exists() {
            named.insert(Named::Path(argument.clone()));
        } else {
            named.extend(matching(argument)?.into_iter().map(Named::Path));
        }
    }
    Ok(named.into_iter().collect())
}

fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return Err(
            usage(format!("there is no file {text}")).hint("check the name, or use a pattern: 'exports/*.json'")
        );
    }
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let paths = glob_with(&text, options).map_err(|error| {
        usage(format!("{text} is no pattern")).because(error).hint("`*`, `?`, `[a-z]` and `**` stand for others")
    })?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|error| usage(format!("cannot look for {text}")).because(error))?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(
            usage(format!("no file matches {text}")).hint("check the pattern: `*` does not cross folders, `**` does")
        );
    }
    Ok(found)
}

/// A file whose content is known.
#[derive(Clone, Debug)]
pub struct ExportFile {
    /// Where it is, for people.
    pub name: String,
    /// Hash of what it holds when it is not compressed: 128 bits in hexadecimal.
    pub content_id: String,
    /// By its first bytes.
    pub version: ExportVersion,
    /// When it was exported, as far as anyone can tell.
    pub exported_at: Timestamp,
    /// Its length.
    pub bytes: u64,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Path(PathBuf),
    /// Standard input cannot be read twice: a copy without a name, which vanishes with the process.
    Copy(Arc<File>),
}

impl ExportFile {
    /// Reads a file to learn what it is. Standard input is copied to `temp_dir`. Blocks.
    pub fn identify(named: Named, exported_at: Option<Timestamp>, temp_dir: Option<&Path>) -> Result<Self> {
        let (name, place, modified_at) = match named {
            Named::Stdin => ("standard input".to_owned(), Place::Copy(Arc::new(copy_stdin(temp_dir)?)), None),
            Named::Path(path) => {
                let name = path.display().to_string();
                let metadata = path.metadata().map_err(|error| cannot_read(&name, error))?;
                let modified_at = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
                (name, Place::Path(path), modified_at)
            }
        };
        let exported_at = whole_micros(exported_at.or(modified_at).unwrap_or_else(crate::clock::now));
        let mut file =
            Self { name, content_id: String::new(), version: ExportVersion::V2, exported_at, bytes: 0, place };
        file.learn()?;
        Ok(file)
    }

    fn learn(&mut self) -> Result<()> {
        let mut opened = self.place.open().map_err(|error| cannot_read(&self.name, error))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut decompress = Decompress::default();
        let mut hash = Xxh3::new();
        let mut head = Vec::new();
        let mut each = |bytes: &[u8]| -> io::Result<()> {
            hash.update(bytes);
            // What comes before the first bracket may be long and says nothing.
            let bytes = if head.is_empty() { bytes.trim_ascii_start() } else { bytes };
            head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES - head.len().min(HEAD_BYTES))]);
            Ok(())
        };
        loop {
            let length = match opened.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot_read(&self.name, error)),
            };
            self.bytes += length as u64;
            decompress.push(&chunk[..length], &mut each).map_err(|error| self.is_compressed_wrongly(&error))?;
        }
        decompress.finish(&mut each).map_err(|error| self.is_compressed_wrongly(&error))?;
        self.version = if is_array(&head) { ExportVersion::V1 } else { ExportVersion::V2 };
        self.content_id = format!("{:032x}", hash.digest128());
        Ok(())
    }

    /// Its bytes, from the first.
    pub(crate) async fn open(&self) -> Result<DiskChunks> {
        let opened = self.place.open().map_err(|error| cannot_read(&self.name, error))?;
        Ok(DiskChunks { file: Some(opened), name: self.name.clone() })
    }

    /// It cannot be used.
    pub(crate) fn is_broken(&self, why: &str) -> Error {
        Error::new(Kind::Data, format!("{} is not whole: {why}", self.name))
            .hint("nothing was committed; leave it out, or get the file again, and run the same command")
    }

    fn is_compressed_wrongly(&self, error: &io::Error) -> Error {
        self.is_broken(&format!("it cannot be decompressed: {error}"))
    }
}

impl Place {
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Path(path) => File::open(path),
            Self::Copy(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            }
        }
    }
}

/// A file on its way.
pub(crate) struct DiskChunks {
    /// Away while it is read from.
    file: Option<File>,
    name: String,
}

impl Chunks for DiskChunks {
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        let lost = || Error::new(Kind::Internal, format!("reading {} was given up half-way", self.name));
        let file = self.file.take().ok_or_else(lost)?;
        let read = Cpu::Threads.run(move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = (&file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
            Ok::<_, FileError>(read.map(|_| (chunk, file)))
        });
        let (chunk, file) = read.await?.map_err(|error| cannot_read(&self.name, error))?;
        self.file = Some(file);
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }
}

fn copy_stdin(temp_dir: Option<&Path>) -> Result<File> {
    let full = |error: io::Error| temp_dir::failed("cannot copy standard input to the temporary directory", error);
    let mut copy = temp_dir.map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(full)?;
    io::copy(&mut io::stdin().lock(), &mut copy).map_err(full)?;
    copy.flush().map_err(full)?;
    Ok(copy)
}

/// The precision of the lake.
fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn cannot_read(name: &str, error: io::Error) -> Error {
    usage(format!("cannot read {name}")).because(error).hint("check that the file is there and may be read")
}

fn usage(message: String) -> Error {
    Error::new(Kind::Usage, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identify(path: &Path) -> Result<ExportFile> {
        ExportFile::identify(Named::Path(path.to_owned()), None, None)
    }

    #[test]
    fn arguments_are_names_patterns_or_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.json", "b.json", ".hidden.json", "odd[1].json"] {
            std::fs::write(at(name), "").unwrap();
        }
        let names = |arguments: &[PathBuf]| -> Vec<String> {
            let named = expand(arguments).unwrap();
            named
                .iter()
                .map(|named| match named {
                    Named::Stdin => "-".to_owned(),
                    Named::Path(path) => path.file_name().unwrap().to_string_lossy().into_owned(),
                })
                .collect()
        };
        assert_eq!(
            names(&[at("*.json"), at("a.json"), "-".into(), "-".into()]),
            ["-", "a.json", "b.json", "odd[1].json"]
        );
        assert_eq!(names(&[at("odd[1].json")]), ["odd[1].json"]);
        for (argument, part) in
            [(at("*.gz"), "no file matches"), (at("c.json"), "there is no file"), (folder.path().into(), "is a folder")]
        {
            let error = expand(&[argument]).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn content_is_what_comes_out_and_tells_the_version() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            identify(&path).unwrap()
        };
        let text = b"\xef\xbb\xbf\n[\n {}]\n";
        let plain = write("plain", text);
        let zstd = write("zstd", &zstd::encode_all(&text[..], 3).unwrap());
        assert_eq!(plain.content_id, zstd.content_id);
        assert_eq!((plain.version, zstd.version), (ExportVersion::V1, ExportVersion::V1));
        assert_eq!(plain.bytes, text.len() as u64);
        let spaced = [&[b' '; 4096][..], b"[]"].concat();
        assert_eq!(write("spaced", &spaced).version, ExportVersion::V1);
        let lines = write("lines", b"{}\n");
        assert_eq!(lines.version, ExportVersion::V2);
        assert_ne!(lines.content_id, plain.content_id);
        let cut = zstd::encode_all(&[b'x'; 5000][..], 3).unwrap();
        std::fs::write(folder.path().join("cut"), &cut[..cut.len() - 2]).unwrap();
        let error = identify(&folder.path().join("cut")).unwrap_err();
        assert!(error.kind() == Kind::Data && error.to_string().contains("is not whole"), "{error}");
    }
}
