//! A guest program as a test runs it: arguments, environment, streams and directories in; output, exit
//! code or fault out.

use std::path::{Path, PathBuf};

use selvedge::wasi::{self, Exit, ReadPipe, WasiCtx, WasiCtxBuilder, WritePipe};
use selvedge::{
    Engine, FaultDetails, Limits, Linker, OptLevel, Program, Region, RuntimeError, Settings,
};
use selvedge_tests::sandbox;

/// The folder of the guests.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests")
}

/// The text that most of them read.
pub(crate) fn text() -> String {
    std::fs::read_to_string(folder().join("data/selvedge.txt")).expect("the text is there")
}

/// A guest, compiled, and a region to run it in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) region: Region,
    pub(crate) program: Program,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; 0 if `_start` returned.
    pub(crate) code: Result<i32, Box<FaultDetails>>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The output of a run that succeeded and complained of nothing.
    pub(crate) fn output(self) -> String {
        assert!(matches!(self.code, Ok(0)), "{self:?}");
        assert_eq!(self.stderr, "");
        self.stdout
    }
}

impl Guest {
    /// Compiles a guest from a file in the folder, or elsewhere.
    pub(crate) fn new(file: impl AsRef<Path>, opt_level: OptLevel) -> Self {
        let engine = Engine::new(&Settings::default().with_opt_level(opt_level))
            .expect("an engine can be made");
        let path = folder().join(file);
        let module = engine.compile_file(&path).unwrap_or_else(|e| panic!("{e}"));
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).expect("nothing else is in the linker");
        let program = linker.program(&module).unwrap_or_else(|e| panic!("{e}"));
        Self {
            region: sandbox::region(&engine, 4, &Limits::default()),
            program,
        }
    }

    /// One for each level of optimisation.
    pub(crate) fn at_all_levels(file: &str) -> [Self; 3] {
        [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize]
            .map(|opt_level| Self::new(file, opt_level))
    }

    /// Runs it in a new instance, with what `prepare` gives it.
    pub(crate) fn run(
        &self,
        args: &[&str],
        stdin: &str,
        prepare: impl FnOnce(&mut WasiCtxBuilder),
    ) -> Ended {
        let (stdout, stderr) = (WritePipe::new(), WritePipe::new());
        let mut builder = WasiCtx::builder();
        builder
            .arg("guest")
            .args(args)
            .stdin(ReadPipe::new(stdin))
            .stdout(stdout.clone())
            .stderr(stderr.clone());
        prepare(&mut builder);
        let ctx = builder.build().expect("the context is in order");
        let instance = self.region.instance_builder(&self.program);
        let mut instance = instance
            .with_embed_ctx(ctx)
            .build()
            .expect("a slot is free");
        let code = match instance.run("_start", &[]) {
            Ok(_) => Ok(0),
            Err(RuntimeError::RuntimeFault(fault)) => Err(fault),
            Err(RuntimeError::RuntimeTerminated(details)) => {
                let value = details.provided_details();
                Ok(value
                    .and_then(|v| v.downcast_ref::<Exit>())
                    .expect("an exit")
                    .code)
            }
            Err(other) => panic!("{other}"),
        };
        let text = |pipe: &WritePipe| String::from_utf8(pipe.take()).expect("UTF-8");
        Ended {
            code,
            stdout: text(&stdout),
            stderr: text(&stderr),
        }
    }
}

/// Gives the folder `data` as `/data`.
pub(crate) fn with_data(builder: &mut WasiCtxBuilder) {
    builder
        .preopened_dir(folder().join("data"), "/data")
        .expect("the folder is there");
}
