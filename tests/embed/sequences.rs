//! Ten thousand random sequences of calls over small guests: none panics or leaks a slot, and after every
//! call the instance is in the state that a model predicts.

use std::cell::Cell;

use selvedge::{
    Flow, HostError, InstanceHandle, KillError, KillSuccess, RunResult, RuntimeError,
    TerminationDetails, Val, Vmctx, Yield,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::Sandbox;

const GUEST: &str = r#"(module
    (import "h" "middle" (func $middle (param i32) (result i32)))
    (import "h" "value" (func $value (result i32)))
    (import "h" "end" (func $end))
    (import "h" "fail" (func $fail))
    (import "h" "inner" (func $inner (param i32)))
    (export "host_end" (func $end)) (export "host_fail" (func $fail))
    (export "host_middle" (func $middle)) (export "host_inner" (func $inner))
    (memory (export "memory") 1 3)
    (global $n (export "n") (mut i32) (i32.const 0))
    (func (export "count") (global.set $n (i32.add (global.get $n) (i32.const 1))))
    (func (export "middle") (drop (call $middle (i32.const 2))))
    (func (export "value") (global.set $n (call $value)))
    (func (export "trap") unreachable)
    (func (export "end") (call $end))
    (func (export "fail") (call $fail))
    (func (export "inner") (param i32) (call $inner (local.get 0)))
    (func (export "grow") (drop (memory.grow (i32.const 1))))
    START)"#;

/// Functions that a host function calls, whatever comes of it.
const INNER: [&str; 7] = [
    "count",
    "middle",
    "value",
    "trap",
    "end",
    "host_end",
    "host_middle",
];

/// What the model knows of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    NotStarted,
    Ready,
    /// Suspended in the middle, so many resumptions before the end.
    Middle(u32),
    /// Suspended by a return value, and expects a number.
    Value,
    Faulted,
    Terminated,
}

fn is_remote(result: &Result<RunResult, RuntimeError>) -> bool {
    matches!(
        result,
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
    )
}

fn found(instance: &InstanceHandle) -> [bool; 5] {
    [
        instance.is_not_started(),
        instance.is_ready(),
        instance.is_yielded(),
        instance.is_faulted(),
        instance.is_terminated(),
    ]
}

fn predicted(state: State) -> [bool; 5] {
    [
        state == State::NotStarted,
        state == State::Ready,
        matches!(state, State::Middle(_) | State::Value),
        state == State::Faulted,
        state == State::Terminated,
    ]
}

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::with(3, &selvedge::Limits::default());
    sandbox
        .linker
        .suspending_func(
            "h",
            "middle",
            |vmctx: &Vmctx<'_>, times: i32| -> Result<i32, HostError> {
                let kept = Box::new([1u8; 100]);
                for _ in 0..times {
                    vmctx.call_export("count", &[])?;
                    vmctx.yield_()?;
                }
                Ok(kept.len() as i32)
            },
        )
        .unwrap()
        .func("h", "value", |_: &Vmctx<'_>| -> Flow<i32> {
            Yield::expecting(|_: &Vmctx<'_>, n: i32| Ok(Flow::Return(n))).into()
        })
        .unwrap()
        .func("h", "end", |_: &Vmctx<'_>| -> Result<(), HostError> {
            Err(HostError::terminate(0u8))
        })
        .unwrap()
        .func("h", "fail", |_: &Vmctx<'_>| -> Result<(), HostError> {
            Err(HostError::new("no"))
        })
        .unwrap()
        .func("h", "inner", |vmctx: &Vmctx<'_>, which: i32| {
            let name = INNER[which as usize];
            let args = if name == "host_middle" {
                &[Val::I32(1)][..]
            } else {
                &[]
            };
            let called = vmctx.call_export(name, args);
            assert_eq!(called.is_ok(), name == "count", "{name}: {called:?}");
        })
        .unwrap();
    sandbox
}

/// One step; the state that the model says comes of it. `killed` is whether a switch has ended the run that is, or comes
/// next.
fn step(
    instance: &mut InstanceHandle,
    state: State,
    killed: &Cell<bool>,
    random: &mut Random,
) -> State {
    let has_start = instance.module().has_start();
    let runnable = matches!(state, State::Ready | State::Faulted);
    let inner = [Val::I32(random.below(INNER.len()) as i32)];
    let mut run = |name: &str, then: State| {
        let args = match name {
            "inner" | "host_inner" | "host_middle" => &inner[..],
            _ => &[],
        };
        let result = instance.run(name, args);
        if !runnable {
            let refused = match state {
                State::NotStarted => matches!(result, Err(RuntimeError::InstanceNeedsStart)),
                _ => matches!(result, Err(RuntimeError::InvalidArgument(_))),
            };
            assert!(refused, "{name} in {state:?}: {result:?}");
            return state;
        }
        if killed.take() {
            assert!(is_remote(&result), "{name} in {state:?}: {result:?}");
            return State::Terminated;
        }
        assert_eq!(
            result.is_err(),
            matches!(then, State::Faulted | State::Terminated)
        );
        then
    };
    match random.below(21) {
        0 => run("count", State::Ready),
        1 => run("middle", State::Middle(2)),
        2 => run("value", State::Value),
        3 => run("trap", State::Faulted),
        4 => run("end", State::Terminated),
        5 => run("fail", State::Faulted),
        6 => run("grow", State::Ready),
        7 if killed.get() && matches!(state, State::Middle(_)) => {
            killed.set(false);
            assert!(is_remote(&instance.resume()));
            State::Terminated
        }
        7 => match (instance.resume().is_ok(), state) {
            (true, State::Middle(1)) => State::Ready,
            (true, State::Middle(n)) => State::Middle(n - 1),
            (false, _) => {
                assert!(!matches!(state, State::Middle(_)));
                state
            }
            (true, other) => panic!("resumed {other:?}"),
        },
        8 => {
            let fits = state == State::Value;
            let result = instance.resume_with_val(7i32);
            if fits && killed.take() {
                assert!(is_remote(&result));
                return State::Terminated;
            }
            assert_eq!(result.is_ok(), fits);
            if fits { State::Ready } else { state }
        }
        9 => {
            assert!(instance.resume_with_val("text").is_err());
            state
        }
        10 => {
            instance.reset().unwrap();
            killed.set(false);
            assert_eq!(instance.global("n").unwrap().i32(), Some(0));
            assert_eq!(instance.heap().unwrap().len(), 1 << 16);
            if has_start {
                State::NotStarted
            } else {
                State::Ready
            }
        }
        11 => {
            let at = random.below(1 << 16);
            instance.heap_mut().unwrap()[at] = 1;
            assert_eq!(instance.heap().unwrap()[at], 1);
            state
        }
        12 => {
            // Refused beyond three pages.
            let _ = instance.grow_memory(1);
            state
        }
        13 => run("inner", State::Ready),
        // Host functions that no guest calls.
        14 => run("host_end", State::Terminated),
        15 => run("host_fail", State::Faulted),
        16 if inner[0].i32() == Some(0) => run("host_middle", State::Ready),
        16 => run("host_middle", State::Faulted),
        17 => run("host_inner", State::Ready),
        18 if killed.get() && state == State::NotStarted => {
            killed.set(false);
            assert!(matches!(
                instance.run_start(),
                Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
            ));
            State::Terminated
        }
        18 => match instance.run_start() {
            Ok(()) if state == State::NotStarted => State::Ready,
            Ok(()) => {
                assert!(!has_start);
                state
            }
            Err(error) => {
                assert!(has_start && matches!(error, RuntimeError::StartAlreadyRun));
                assert_ne!(state, State::NotStarted);
                state
            }
        },
        19 => {
            let done = instance.kill_switch().terminate();
            let suspended = matches!(state, State::Middle(_) | State::Value);
            let expected = match (killed.get(), suspended) {
                (true, _) => Err(KillError::NotTerminable),
                (false, true) => Ok(KillSuccess::Pending),
                (false, false) => Ok(KillSuccess::Cancelled),
            };
            assert_eq!(done, expected, "{state:?}");
            killed.set(true);
            state
        }
        _ => {
            instance.globals_mut().set(0, &Val::I32(8)).unwrap();
            assert_eq!(instance.global("n").unwrap().i32(), Some(8));
            instance.set_global("n", &Val::I32(9)).unwrap();
            assert!(instance.run("absent", &[]).is_err());
            state
        }
    }
}

#[test]
fn ten_thousand_random_sequences_of_calls_end_as_the_model_predicts() {
    let sandbox = sandbox();
    let programs = [
        (State::Ready, sandbox.program(&GUEST.replace("START", ""))),
        (
            State::NotStarted,
            sandbox.program(&GUEST.replace("START", "(func $start) (start $start)")),
        ),
    ];
    for seed in 0..10_000 {
        let mut random = Random::new(seed);
        let &(mut state, ref program) = &programs[usize::from(seed % 3 == 0)];
        let mut instance = sandbox.region.new_instance(program).unwrap();
        let killed = Cell::new(false);
        for _ in 0..random.below(24) {
            state = step(&mut instance, state, &killed, &mut random);
            assert_eq!(found(&instance), predicted(state), "seed {seed}, {state:?}");
        }
        assert_eq!(sandbox.region.used_slots(), 1);
        drop(instance);
        assert_eq!(sandbox.region.used_slots(), 0, "seed {seed}");
    }
}
