//! The artifact's header: what must match before anything else of it is read.
//!
//! ```text
//!  0 magic "SLVDGART"
//!  8 format version: u32
//! 12 length of the encoded identity: u32
//! 16 length of the file: u64
//! 24 checksum of the whole file with this field and the next as zero: u64 (XXH3)
//! 32 checksum of this header with this field as zero: u64 (XXH3)
//! 40 identity (postcard): compiler version, target, CPU features, tunables
//! ```
//!
//! Checksums find accidents, not attackers: an artifact is native code and as trusted as the
//! program that loads it.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::contract::tunables::Tunables;
use crate::error::Error;

/// First bytes of the header section.
pub const MAGIC: [u8; 8] = *b"SLVDGART";
/// Version of the format and of the contract with the runtime.
pub const FORMAT_VERSION: u32 = 12;
/// Bytes before the encoded identity.
const FIXED_LEN: usize = 40;
const VERSION: usize = 8;
const IDENTITY_LEN: usize = 12;
const FILE_LEN: usize = 16;
const FILE_SUM: usize = 24;
const HEADER_SUM: usize = 32;

/// Who made the code, for what machine, under which assumptions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Version of Selvedge that compiled it.
    pub producer: String,
    /// Target architecture and system, as `x86_64-linux`.
    pub target: String,
    /// CPU features that the code may use, sorted.
    pub cpu_features: Vec<String>,
    /// Tunables that the code assumes.
    pub tunables: Tunables,
}

/// What an engine accepts.
#[derive(Clone, Copy, Debug)]
pub struct Accepts<'a> {
    /// Target architecture and system.
    pub target: &'a str,
    /// Whether this machine has a CPU feature.
    pub has_feature: fn(&str) -> bool,
    /// The engine's tunables.
    pub tunables: &'a Tunables,
}

/// Encodes the header with the file's length and checksum left open.
pub(crate) fn encode(identity: &Identity) -> Result<Vec<u8>, Error> {
    let identity = postcard::to_stdvec(identity).map_err(Error::Encode)?;
    let mut bytes = vec![0; FIXED_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    put32(&mut bytes, VERSION, FORMAT_VERSION);
    put32(&mut bytes, IDENTITY_LEN, identity.len() as u32);
    bytes.extend(identity);
    Ok(bytes)
}

/// Fills in length and checksums, the header being at `at` of the finished file.
pub(crate) fn seal(file: &mut [u8], at: usize, header_len: usize) {
    let file_len = file.len() as u64;
    put64(file, at + FILE_LEN, file_len);
    let sum = file_sum(file, at);
    put64(file, at + FILE_SUM, sum);
    // It may have been sealed before, as another file's.
    put64(file, at + HEADER_SUM, 0);
    let sum = xxh3_64(&file[at..at + header_len]);
    put64(file, at + HEADER_SUM, sum);
}

/// Checks the header at `at..at + len` of a file, and the file against it.
pub(crate) fn check(
    file: &[u8],
    at: usize,
    len: usize,
    accepts: &Accepts<'_>,
) -> Result<Identity, Error> {
    let bytes = at
        .checked_add(len)
        .and_then(|end| file.get(at..end))
        .filter(|bytes| bytes.len() >= FIXED_LEN)
        .ok_or(Error::DamagedHeader)?;
    if bytes[..8] != MAGIC {
        return Err(Error::DamagedHeader);
    }
    let mut zeroed = bytes.to_vec();
    put64(&mut zeroed, HEADER_SUM, 0);
    if xxh3_64(&zeroed) != get64(bytes, HEADER_SUM) {
        return Err(Error::DamagedHeader);
    }
    let version = get32(bytes, VERSION);
    if version != FORMAT_VERSION {
        return Err(Error::OtherVersion {
            found: version,
            expected: FORMAT_VERSION,
        });
    }
    let file_len = get64(bytes, FILE_LEN);
    if file_len != file.len() as u64 {
        return Err(Error::Truncated {
            found: file.len() as u64,
            expected: file_len,
        });
    }
    if file_sum(file, at) != get64(bytes, FILE_SUM) {
        return Err(Error::Altered);
    }
    let identity_len = get32(bytes, IDENTITY_LEN) as usize;
    let identity = bytes
        .get(FIXED_LEN..FIXED_LEN + identity_len)
        .ok_or(Error::DamagedHeader)?;
    let identity: Identity = postcard::from_bytes(identity).map_err(|_| Error::DamagedHeader)?;
    accept(&identity, accepts)?;
    Ok(identity)
}

fn accept(identity: &Identity, accepts: &Accepts<'_>) -> Result<(), Error> {
    if identity.target != accepts.target {
        return Err(Error::OtherTarget {
            found: identity.target.clone(),
            expected: accepts.target.to_owned(),
        });
    }
    let missing: Vec<_> = identity
        .cpu_features
        .iter()
        .filter(|f| !(accepts.has_feature)(f))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(Error::MissingCpuFeatures {
            features: missing.join(", "),
        });
    }
    if !identity.tunables.serve(accepts.tunables) {
        return Err(Error::OtherTunables {
            found: format!("{:?}", identity.tunables),
            expected: format!("{:?}", accepts.tunables),
        });
    }
    Ok(())
}

/// Checksum of the file with both checksum fields of the header as zero.
fn file_sum(file: &[u8], header_at: usize) -> u64 {
    let sums = header_at + FILE_SUM..header_at + FIXED_LEN;
    let mut hasher = Xxh3::new();
    hasher.update(&file[..sums.start]);
    hasher.update(&[0; FIXED_LEN - FILE_SUM]);
    hasher.update(&file[sums.end..]);
    hasher.digest()
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u32::from_le_bytes(*b))
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u64::from_le_bytes(*b))
}
