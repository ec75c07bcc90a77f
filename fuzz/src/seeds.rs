//! Writes the corpora to begin with: `cargo run --bin seeds`, in this folder. What is there already stays.

mod samples;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use chatlake::lake::Key;
use flate2::read::MultiGzDecoder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let exports = samples::exports().await;
    let mut count = 0;
    let mut write = |target: &str, first: &[u8], bytes: &[u8]| {
        let folder = Path::new("corpus").join(target);
        fs::create_dir_all(&folder)?;
        count += 1;
        fs::write(folder.join(format!("seed-{count:04}")), [first, bytes].concat())
    };
    for export in &exports {
        // In chunks of 226 bytes.
        for target in ["stream", "file"] {
            write(target, &[15], export)?;
        }
        write("stream", &[15], &gzip(export)?)?;
        for (number, line) in export.split(|byte| *byte == b'\n').enumerate() {
            // Kinds follow each other in blocks.
            if number % 3 == 0 && !export.starts_with(&[0x1f]) {
                write("line", &[], line)?;
            }
        }
    }
    let objects = samples::objects().await;
    let (mut log, mut journal) = (Vec::new(), Vec::new());
    for (key, bytes) in &objects {
        let which = match key {
            Key::Entry(_) => 0,
            Key::Snapshot(_) => 2,
            Key::Journal { .. } => 3,
            Key::Lists(_) => 4,
            _ => 5,
        };
        match key {
            Key::Snapshot(_) => {
                let mut lines = String::new();
                MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut lines)?;
                // Without the hash, which is added; of the hundredth entry, which is asked for.
                let (rows, _) = lines.trim_end().rsplit_once('\n').unwrap_or_default();
                let through = format!("\"through\":{}", key_number(key));
                write("object", &[which], format!("{}\n", rows.replace(&through, "\"through\":100")).as_bytes())?;
                write("object", &[which], bytes)?;
            }
            _ => write("object", &[which], bytes)?,
        }
        match key {
            Key::Entry(_) => log.extend([bytes, b"\n".as_slice()].concat()),
            Key::Journal { .. } => journal.extend([bytes, b"\n".as_slice()].concat()),
            _ => {}
        }
        write("object", &[6], key.to_string().as_bytes())?;
    }
    write("object", &[1], &log)?;
    write("object", &[3], &journal)?;
    println!("{count} files in corpus/");
    Ok(())
}

fn key_number(key: &Key) -> u64 {
    match key {
        Key::Snapshot(number) => *number,
        _ => 0,
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out)?;
    Ok(out)
}
