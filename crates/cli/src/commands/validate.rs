//! `selvedge validate`: whether modules are valid and all their features are supported. Nothing is
//! compiled; a file that is refused does not keep the others from being looked at.

use std::path::Path;

use selvedge::{Engine, Settings};

use crate::args::ValidateArgs;
use crate::commands::input::{self, Input};
use crate::commands::proposals;
use crate::exit_code::ExitCode;
use crate::report::{self, Failure};

pub(super) fn run(args: &ValidateArgs) -> Result<ExitCode, Failure> {
    let engine = Engine::new(&Settings::default().with_proposals(proposals(&args.proposals)?))?;
    let mut code = ExitCode::Success;
    for file in &args.files {
        if let Err(failure) = check(&engine, file) {
            code = report::failure(&failure);
        }
    }
    Ok(code)
}

fn check(engine: &Engine, file: &Path) -> Result<(), Failure> {
    let mut input = Input::open(file)?;
    let name = input.name().clone();
    if input.is_artifact() {
        return Err(Failure::ValidateArtifact(name));
    }
    let looked_at = engine.inspect(input.bytes()?);
    looked_at
        .map(drop)
        .map_err(|error| input::refused(&name, error))
}
