//! All that a person reads, and the files that a finding leaves. A terminal gets a line that moves, a
//! pipe only findings and the closing line.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::compare::Difference;

/// Where findings go.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts");

/// What was done so far.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) modules: u64,
    pub(crate) calls: u64,
    pub(crate) returned: u64,
    pub(crate) accepted: u64,
    pub(crate) inconclusive: u64,
    pub(crate) found: u64,
}

/// The words of the closing line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Differential,
    Compile,
    Artifact,
    Tenants,
}

/// Counts and prints; shared by all threads.
#[derive(Debug)]
pub(crate) struct Report {
    kind: Kind,
    state: Mutex<(Tally, Instant)>,
    live: bool,
}

impl Report {
    /// Begins.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            state: Mutex::new((Tally::default(), Instant::now())),
            live: io::stderr().is_terminal(),
        }
    }

    /// Adds what one seed gave.
    pub(crate) fn add(&self, done: Tally) {
        const PAUSE: Duration = Duration::from_millis(200);
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let (tally, shown) = &mut *state;
        tally.modules += done.modules;
        tally.calls += done.calls;
        tally.returned += done.returned;
        tally.accepted += done.accepted;
        tally.inconclusive += done.inconclusive;
        tally.found += done.found;
        if self.live && shown.elapsed() >= PAUSE {
            *shown = Instant::now();
            // A progress line that can't be written is not missed.
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.line(tally));
        }
    }

    /// Tells of a difference between engines.
    pub(crate) fn difference(&self, seed: u64, wasm: &[u8], difference: &Difference) {
        let Difference { at, sides } = difference;
        let mut text = format!("they differ in {at}\n");
        for (name, outcome) in sides {
            text.push_str(&format!("  {name}: {outcome}\n"));
        }
        self.finding(seed, wasm, "wasm", &text);
    }

    /// Tells of anything else, and keeps the bytes.
    pub(crate) fn finding(&self, seed: u64, bytes: &[u8], ending: &str, text: &str) {
        let kept = match self.keep(seed, bytes, ending) {
            Ok(path) => format!("kept as {}", path.display()),
            Err(error) => format!("not kept: {error}"),
        };
        let clear = if self.live { "\r\x1b[K" } else { "" };
        let _ = writeln!(
            io::stdout(),
            "{clear}seed {seed}: {}\n  {kept}",
            text.trim_end()
        );
    }

    fn keep(&self, seed: u64, bytes: &[u8], ending: &str) -> io::Result<PathBuf> {
        let kind = format!("{:?}", self.kind).to_lowercase();
        let path = Path::new(FOLDER).join(format!("{kind}-{seed}.{ending}"));
        fs::create_dir_all(FOLDER)?;
        fs::write(&path, bytes)?;
        if ending == "wasm"
            && let Ok(text) = wasmprinter::print_bytes(bytes)
        {
            fs::write(path.with_extension("wat"), text)?;
        }
        Ok(path)
    }

    /// Where a worker keeps what it is at, to be found if the process dies over it.
    pub(crate) fn at_work(&self, worker: usize) -> io::Result<PathBuf> {
        fs::create_dir_all(FOLDER)?;
        let kind = format!("{:?}", self.kind).to_lowercase();
        Ok(Path::new(FOLDER).join(format!("{kind}-at-work-{worker}.wasm")))
    }

    /// Findings so far.
    pub(crate) fn found(&self) -> u64 {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).0.found
    }

    /// The closing line.
    pub(crate) fn close(&self) -> io::Result<()> {
        let (tally, _) = *self.state.lock().unwrap_or_else(|e| e.into_inner());
        let clear = if self.live { "\r\x1b[K" } else { "" };
        writeln!(io::stdout(), "{clear}{}", self.line(&tally))
    }

    fn line(&self, tally: &Tally) -> String {
        let Tally {
            modules,
            calls,
            returned,
            accepted,
            inconclusive,
            found,
        } = tally;
        match self.kind {
            Kind::Differential => format!(
                "{modules} modules, {calls} calls ({returned} returned), {inconclusive} inconclusive, \
                 {found} differences"
            ),
            Kind::Compile => format!("{modules} modules, {accepted} compiled, {found} findings"),
            Kind::Artifact => format!("{modules} artifacts, {accepted} accepted, {found} findings"),
            Kind::Tenants => {
                format!(
                    "{modules} regions, {calls} instances, {accepted} left clean, {found} findings"
                )
            }
        }
    }
}
