//! Files of certificates that checks by HTTPS verify with: read with the configuration, each once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::time_provider::DefaultTimeProvider;

use crate::config::error::Sink;
use crate::config::file::Verify;
use crate::config::problem::Problem;
use crate::config::reader::Field;
use crate::proto::health::{Trust, is_readable};

/// What `verify = true` means: where Debian's `ca-certificates` keeps those of public authorities.
const OF_THE_SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longer files are refused: those of all public authorities are twenty times shorter.
const FILE_MAX: u64 = 4 << 20;

/// What was read so far, by its path.
#[derive(Default)]
pub(super) struct Authorities(BTreeMap<PathBuf, Result<Trust, Problem>>);

impl Authorities {
    /// What `verify` means. Something wrong is reported, and all is taken instead.
    pub(super) fn trust(&mut self, verify: &Field<Verify>, sink: &mut Sink<'_>) -> Trust {
        let everyone = || Trust::everyone(Arc::new(DefaultTimeProvider));
        let Some((verify, place)) = verify.given() else {
            return everyone();
        };
        let (path, is_ours) = match verify {
            Verify::Nothing => return everyone(),
            Verify::System => (Path::new(OF_THE_SYSTEM), false),
            Verify::File(path) => (path.as_path(), true),
        };
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), read(path, is_ours));
        }
        match self.0.get(path) {
            Some(Ok(trust)) => trust.clone(),
            Some(Err(problem)) => {
                sink.push(place, problem.clone());
                everyone()
            }
            None => everyone(),
        }
    }
}

/// `is_ours`: each certificate of it must be right. Among those of the system there may be some of a kind that is not known.
fn read(path: &Path, is_ours: bool) -> Result<Trust, Problem> {
    let problem = |wrong: String| Problem::UnusableFile {
        file: path.display().to_string(),
        wrong,
        expected: "a PEM file with the certificates of authorities",
    };
    let unreadable = |error: io::Error| problem(format!("cannot be read: {error}"));
    // What is no file may have no end, or no beginning.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(problem(format!("is no file of at most {FILE_MAX} bytes")));
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    let mut certificates = Vec::new();
    for (certificate, number) in CertificateDer::pem_slice_iter(&text).zip(1..) {
        match certificate {
            Ok(certificate) if !is_ours || is_readable(&certificate) => {
                certificates.push(certificate);
            }
            Ok(_) => {
                let wrong = format!("has a certificate, number {number}, that cannot be read");
                return Err(problem(wrong));
            }
            Err(error) => return Err(problem(format!("is not PEM: {error}"))),
        }
    }
    Trust::authorities(certificates, Arc::new(DefaultTimeProvider))
        .ok_or_else(|| problem("has no certificate".to_owned()))
}
