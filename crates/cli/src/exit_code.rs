//! The table of exit codes. A script that calls `selvedge` may rely on it.

/// With what code the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExitCode {
    /// The command did what it was asked to; of `run`: the guest came to its end.
    Success,
    /// A file, a setting, the module or the system stood in the way: the message says which.
    Failure,
    /// The command line was not understood.
    Usage,
    /// The guest trapped, or called an import that nothing was linked to: what a shell reports of a
    /// process that was aborted.
    Trap,
    /// The guest was ended because its time was over: what timeout(1) says of a command.
    TimedOut,
    /// Ctrl-C ended the guest: what a shell reports of a process that SIGINT ended.
    Interrupted,
    /// The guest called `proc_exit` with this code.
    Guest(i32),
}

impl ExitCode {
    /// The number. A guest's code that no process can have (more than 8 bits) becomes the largest one, so
    /// that it never turns into success by losing its upper bits.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Trap => 134,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Guest(code) => u8::try_from(code).unwrap_or(u8::MAX),
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let codes = [
            ExitCode::Success,
            ExitCode::Failure,
            ExitCode::Usage,
            ExitCode::TimedOut,
            ExitCode::Interrupted,
            ExitCode::Trap,
        ];
        assert_eq!(codes.map(ExitCode::code), [0, 1, 2, 124, 130, 134]);
    }

    #[test]
    fn a_guest_code_never_turns_into_success() {
        assert_eq!(ExitCode::Guest(0).code(), 0);
        assert_eq!(ExitCode::Guest(42).code(), 42);
        assert_eq!(ExitCode::Guest(255).code(), 255);
        assert_eq!(ExitCode::Guest(256).code(), 255);
        assert_eq!(ExitCode::Guest(-1).code(), 255);
    }
}
