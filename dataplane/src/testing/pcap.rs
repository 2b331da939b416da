//! Capture files of whole Ethernet frames: inputs and outputs of golden cases, and what `net_pcap` devices replay.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError};

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Opening, creating or flushing.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The contents, or reading and writing them.
    #[error("{path}: {source}")]
    Contents {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: PcapError,
    },
    /// Not a capture of Ethernet frames.
    #[error("{path}: link type is {link:?}, not Ethernet")]
    NotEthernet {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        link: DataLink,
    },
}

/// All frames of a capture, in order. Times are dropped.
///
/// # Errors
/// When the file cannot be read or is not a capture of Ethernet frames.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Vec<u8>>, Error> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let contents = |source| Error::Contents {
        path: path.to_owned(),
        source,
    };
    let mut reader = PcapReader::new(BufReader::new(file)).map_err(contents)?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        return Err(Error::NotEthernet {
            path: path.to_owned(),
            link,
        });
    }
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.map_err(contents)?.data.into_owned());
    }
    Ok(frames)
}

/// Write frames as a capture, one microsecond apart from the epoch on, so that equal frames make equal files.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: impl AsRef<Path>, frames: &[Vec<u8>]) -> Result<(), Error> {
    let path = path.as_ref();
    let in_file = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let contents = |source| Error::Contents {
        path: path.to_owned(),
        source,
    };
    let mut file = BufWriter::new(File::create(path).map_err(in_file)?);
    let header = PcapHeader {
        snaplen: 65_536,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(&mut file, header).map_err(contents)?;
    let mut time = Duration::ZERO;
    for frame in frames {
        let too_long = |_| contents(PcapError::InvalidField("frame of 4 GiB or more"));
        let orig_len = u32::try_from(frame.len()).map_err(too_long)?;
        writer
            .write_packet(&PcapPacket::new(time, orig_len, frame))
            .map_err(contents)?;
        time += Duration::from_micros(1);
    }
    file.flush().map_err(in_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("frames.pcap");
        for frames in [
            vec![],
            vec![vec![1, 2, 3]],
            vec![vec![], vec![0xff; 1514], vec![7; 65_535]],
        ] {
            write(&path, &frames).expect("a capture");
            assert_eq!(read(&path).expect("a capture"), frames);
        }
    }

    /// The libpcap format: magic number, version 2.4, no offsets, snapshot length, Ethernet; then seconds,
    /// microseconds, captured and original length before each frame.
    #[test]
    fn equal_frames_make_equal_files_of_known_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("frames.pcap");
        write(&path, &[vec![9], vec![8, 7]]).expect("a capture");
        let words = |values: &[u32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_be_bytes())
                .collect()
        };
        let expected = [
            words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_536, 1]),
            words(&[0, 0, 1, 1]),
            vec![9],
            words(&[0, 1, 2, 2]),
            vec![8, 7],
        ];
        assert_eq!(std::fs::read(&path).expect("a file"), expected.concat());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("frames.pcap");
        let name = |error: Error| {
            assert!(error.to_string().contains("frames.pcap"), "{error}");
            error
        };
        let absent = name(read(&path).expect_err("no file"));
        assert!(matches!(absent, Error::File { .. }));

        std::fs::write(&path, b"this is no capture at all").expect("a file");
        let no_capture = name(read(&path).expect_err("no capture"));
        assert!(matches!(no_capture, Error::Contents { .. }));

        write(&path, &[vec![1, 2, 3, 4]]).expect("a capture");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes.pop();
        std::fs::write(&path, &bytes).expect("a file");
        let cut = name(read(&path).expect_err("cut short"));
        assert!(matches!(cut, Error::Contents { .. }));

        bytes[23] = 101; // raw IP
        std::fs::write(&path, &bytes).expect("a file");
        let raw = name(read(&path).expect_err("not Ethernet"));
        assert!(matches!(raw, Error::NotEthernet { .. }));

        let nowhere = write(folder.path().join("absent/frames.pcap"), &[]);
        assert!(matches!(nowhere, Err(Error::File { .. })));
    }
}
