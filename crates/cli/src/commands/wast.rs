//! `selvedge wast`: runs scripts of the official format and counts what they assert. A script that fails
//! does not keep the others from being run.

use std::path::Path;

use selvedge::Settings;

use crate::args::WastArgs;
use crate::commands::input::Input;
use crate::commands::{self, settings};
use crate::exit_code::ExitCode;
use crate::report::{self, Failure};

pub(super) fn run(args: &WastArgs) -> Result<ExitCode, Failure> {
    let settings = settings(&args.compiler)?;
    let mut code = ExitCode::Success;
    let (mut passed, mut failed) = (0, 0);
    for file in &args.files {
        match script(file, &settings) {
            Ok(counts) => {
                passed += counts.0;
                failed += counts.1;
            }
            Err(failure) => code = report::failure(&failure),
        }
    }
    if args.files.len() > 1 {
        commands::print(&format!("{passed} passed, {failed} failed\n"))?;
    }
    Ok(if failed > 0 { ExitCode::Failure } else { code })
}

/// Runs a script and says what came of it; how many directives passed and failed.
fn script(file: &Path, settings: &Settings) -> Result<(usize, usize), Failure> {
    let mut input = Input::open(file)?;
    let name = input.name().clone();
    let bytes = input.bytes()?;
    let source = str::from_utf8(bytes).map_err(|error| Failure::NotText {
        file: name.clone(),
        at: error.valid_up_to(),
    })?;
    let outcome = selvedge_wast::run(source, settings)
        .map_err(|error| Failure::Script(error.in_file(name.plain())))?;
    for failure in &outcome.failures {
        report::failed_directive(&name, failure);
    }
    let counts = (outcome.passed, outcome.failures.len());
    commands::print(&format!(
        "{}: {} passed, {} failed\n",
        name.plain(),
        counts.0,
        counts.1
    ))?;
    Ok(counts)
}
