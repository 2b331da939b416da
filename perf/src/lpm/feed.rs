//! The real routing tables: one line a prefix, `prefix origin-AS` or `prefix`, compressed; and where they are from.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::prefix::{Address, Prefix, Route};

/// What a leaf stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// One for each origin AS: a router's table, neighbouring prefixes often share theirs.
    As,
    /// One for each prefix: a map-cache, nothing can be merged.
    Uniq,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::As, Self::Uniq];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::As => "as",
            Self::Uniq => "uniq",
        })
    }
}

/// A table as it was read, in the order of its file: by address, then by length.
pub struct Feed<A> {
    prefixes: Vec<Prefix<A>>,
    /// Origin AS of each prefix; 0 where the file names none.
    origins: Vec<u32>,
    file: PathBuf,
    bytes: usize,
    digest: String,
}

impl<A: Address> Feed<A> {
    /// Read the compressed table in `file`.
    pub fn read(file: &Path) -> Result<Self> {
        let name = || file.display().to_string();
        let compressed = fs::read(file).with_context(|| format!("cannot read {}", name()))?;
        let mut text = String::new();
        GzDecoder::new(compressed.as_slice())
            .read_to_string(&mut text)
            .with_context(|| format!("{} is no compressed text", name()))?;
        let (prefixes, origins) = parse(&text).with_context(name)?;
        let digest = Sha256::digest(&compressed);
        Ok(Self {
            prefixes,
            origins,
            file: file.to_owned(),
            bytes: compressed.len(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Its routes, with leaves from 1 on in order of appearance.
    #[must_use]
    pub fn routes(&self, profile: Profile) -> Vec<Route<A>> {
        let mut leaf_of_origin = HashMap::new();
        let leaves = self.origins.iter().zip(1..).map(|(origin, number)| {
            let next = u32::try_from(leaf_of_origin.len()).expect("an AS number has 32 bits") + 1;
            match profile {
                Profile::As => *leaf_of_origin.entry(*origin).or_insert(next),
                Profile::Uniq => number,
            }
        });
        self.prefixes
            .iter()
            .zip(leaves)
            .map(|(prefix, leaf)| Route {
                prefix: *prefix,
                leaf,
            })
            .collect()
    }
}

impl<A: Address> fmt::Display for Feed<A> {
    /// Provenance: the file, what it is made of, and what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut origins = self.origins.clone();
        origins.sort_unstable();
        origins.dedup();
        let lengths = self.prefixes.iter().map(|prefix| prefix.length);
        write!(
            f,
            "{} prefixes of {} origin ASes, lengths {} to {}; {}, {} bytes, SHA-256 {}",
            self.prefixes.len(),
            origins.iter().filter(|origin| **origin != 0).count(),
            lengths.clone().min().unwrap_or(0),
            lengths.max().unwrap_or(0),
            self.file.display(),
            self.bytes,
            self.digest,
        )
    }
}

fn parse<A: Address>(text: &str) -> Result<(Vec<Prefix<A>>, Vec<u32>)> {
    let mut prefixes = Vec::new();
    let mut origins = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let mut words = line.split_whitespace();
        let prefix = words
            .next()
            .and_then(Prefix::parse)
            .with_context(|| format!("line {number}: no prefix: {line}"))?;
        let origin = match words.next() {
            Some(word) => word
                .parse()
                .with_context(|| format!("line {number}: no AS number: {word}"))?,
            None => 0,
        };
        prefixes.push(prefix);
        origins.push(origin);
    }
    ensure!(
        prefixes.is_sorted() && prefixes.windows(2).all(|pair| pair[0] != pair[1]),
        "the prefixes are not sorted, or one stands there twice"
    );
    Ok((prefixes, origins))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn compressed(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("to memory");
        file.write_all(&encoder.finish().expect("to memory"))
            .expect("to the file");
        file
    }

    #[test]
    fn leaves_are_numbered_by_origin_or_by_prefix() {
        let file =
            compressed("1.0.0.0/24 13335\n1.0.4.0/22 38803\n1.0.4.0/24 38803\n2.0.0.0/8 13335\n");
        let feed = Feed::<u32>::read(file.path()).expect("a table");
        let leaves = |profile| -> Vec<u32> {
            feed.routes(profile)
                .iter()
                .map(|route| route.leaf)
                .collect()
        };
        assert_eq!(leaves(Profile::As), [1, 2, 2, 1]);
        assert_eq!(leaves(Profile::Uniq), [1, 2, 3, 4]);
        let shown = feed.to_string();
        assert!(
            shown.starts_with("4 prefixes of 2 origin ASes, lengths 8 to 24; "),
            "{shown}"
        );
    }

    #[test]
    fn a_damaged_table_is_refused_with_its_line() {
        for (text, said) in [
            ("2001::/16 1\n2001:x::/32 2\n", "line 2: no prefix"),
            ("2001::/16 one\n", "line 1: no AS number"),
            ("2002::/16\n2001::/16\n", "not sorted"),
            ("2001::/16\n2001::/16\n", "twice"),
        ] {
            let error = Feed::<u128>::read(compressed(text).path())
                .err()
                .expect("refused");
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        assert!(Feed::<u128>::read(Path::new("/nonexistent")).is_err());
    }
}
