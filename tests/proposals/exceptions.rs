//! Exceptions: across linked modules and host functions, over many frames, with values of every type,
//! referred to from everywhere, and as errors of the host when nothing catches them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selvedge::{
    Error, Exception, ExternRef, FuncType, HostError, InstanceHandle, Limits, RuntimeError, Tag,
    TrapCode, UncaughtException, Val, ValType, Vmctx,
};
use selvedge_tests::children;
use selvedge_tests::held::Held;
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned, returned_i32};

/// The exception that a run ended with.
fn uncaught<T: std::fmt::Debug>(result: Result<T, RuntimeError>) -> UncaughtException {
    match result {
        Err(RuntimeError::UncaughtException(uncaught)) => *uncaught,
        other => panic!("the guest was to throw, not {other:?}"),
    }
}

/// Links a module into an instance under a name.
fn link(sandbox: &Sandbox, instance: &mut InstanceHandle, name: &str, wat: &str) {
    let member = instance.link(&sandbox.linker, &sandbox.module(wat));
    let member = member.unwrap_or_else(|error| panic!("{error}\n{wat}"));
    instance
        .set_member_name(name, member)
        .expect("the member is of this instance");
}

/// A tag for exceptions with an `i32`.
fn i32_tag() -> Tag {
    Tag::new(FuncType::new([ValType::I32], [])).expect("the type has no results")
}

#[test]
fn an_exception_that_nothing_catches_is_an_error_with_tag_values_and_backtrace() {
    let mut instance = Sandbox::new().instance(
        "(module
            (tag $private) (tag $e (export \"failed\") (param i32 f64))
            (func $inner (param i32)
                (if (i32.eqz (local.get 0)) (then (throw $private)))
                (throw $e (local.get 0) (f64.const 2.5)))
            (func $outer (export \"run\") (param i32) (call $inner (local.get 0)))
            (func (export \"seven\") (result i32) (i32.const 7)))",
    );
    let found = uncaught(instance.run("run", &[Val::I32(5)]));
    assert!(found.exception.tag().same(&instance.tag("failed").unwrap()));
    assert_eq!(
        bits(found.exception.values()),
        bits(&[Val::I32(5), Val::F64(2.5)])
    );
    assert_eq!(found.tag_name.as_deref(), Some("failed"));
    let names: Vec<_> = found
        .backtrace
        .frames
        .iter()
        .map(|f| f.func_name.clone())
        .collect();
    assert_eq!(names, [Some("inner".to_owned()), Some("outer".to_owned())]);
    let message = found.to_string();
    assert!(
        message.contains("tag \"failed\"") && message.contains("inner"),
        "{message}"
    );

    let found = uncaught(instance.run("run", &[Val::I32(0)]));
    assert_eq!(found.tag_name, None);
    assert!(!found.exception.tag().same(&instance.tag("failed").unwrap()));
    // The instance goes on.
    assert_eq!(returned_i32(instance.run("seven", &[])), 7);
}

#[test]
fn two_instances_of_one_module_have_two_tags() {
    let sandbox = Sandbox::new();
    let program = sandbox.program("(module (tag (export \"t\") (param i32)))");
    let first = sandbox.region.new_instance(&program).unwrap();
    let second = sandbox.region.new_instance(&program).unwrap();
    let tag = first.tag("t").unwrap();
    assert!(tag.same(&first.tag("t").unwrap()));
    assert!(!tag.same(&second.tag("t").unwrap()));
    assert_eq!(tag.ty(), &FuncType::new([ValType::I32], []));
}

/// The same module linked twice throws; only the instance whose tag the catcher imports is caught.
#[test]
fn exceptions_pass_between_linked_modules_and_tags_are_those_of_their_instance() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance("(module)");
    let thrower = "(module
        (tag $e (export \"e\") (param i32))
        (func (export \"throw\") (param i32) (throw $e (local.get 0))))";
    link(&sandbox, &mut instance, "one", thrower);
    link(&sandbox, &mut instance, "two", thrower);
    let wat = "(module
        (import \"one\" \"e\" (tag $one (param i32)))
        (import \"one\" \"throw\" (func $throw_one (param i32)))
        (import \"two\" \"throw\" (func $throw_two (param i32)))
        (tag $own (param i32))
        (func $dispatch (param i32)
            (if (local.get 0)
                (then (call $throw_one (i32.const 10)))
                (else (call $throw_two (i32.const 20)))))
        (func (export \"run\") (param i32) (result i32)
            (block $other
                (return (block $caught (result i32)
                    (try_table (catch $own $caught) (catch $one $caught) (catch_all $other)
                        (call $dispatch (local.get 0)))
                    (unreachable))))
            (i32.const -1)))";
    let member = instance
        .link(&sandbox.linker, &sandbox.module(wat))
        .unwrap();
    let mut run = |which| returned_i32(instance.run_member(member, "run", &[Val::I32(which)]));
    assert_eq!(run(1), 10);
    assert_eq!(run(0), -1);
}

#[test]
fn tags_are_matched_by_type_when_they_are_imported() {
    let mut sandbox = Sandbox::new();
    sandbox.linker.tag("host", "t", &i32_tag()).unwrap();
    sandbox
        .linker
        .func("host", "f", |_: &Vmctx<'_>| ())
        .unwrap();
    let refused = |wat: &str| {
        let program = sandbox.linker.program(&sandbox.module(wat));
        let mut instance = sandbox.instance("(module)");
        let linked = instance.link(&sandbox.linker, &sandbox.module(wat));
        let (program, linked) = (program.unwrap_err(), linked.unwrap_err());
        assert_eq!(program.to_string(), linked.to_string());
        program
    };
    let error = refused("(module (import \"host\" \"t\" (tag (param i64))))");
    assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("tag (i64) -> ()") && message.contains("tag (i32) -> ()"),
        "{message}"
    );
    let error = refused("(module (import \"host\" \"f\" (tag)))");
    assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
    let error = refused("(module (import \"host\" \"t\" (func (param i32))))");
    assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
    let error = refused("(module (import \"host\" \"missing\" (tag)))");
    assert!(
        matches!(error, RuntimeError::UnknownImport { .. }),
        "{error}"
    );
    sandbox.program("(module (import \"host\" \"t\" (tag (param i32))))");

    let error = sandbox.linker.tag("host", "t", &i32_tag()).unwrap_err();
    assert!(
        matches!(error, RuntimeError::AlreadyDefined { .. }),
        "{error}"
    );
    let error = Tag::new(FuncType::new([], [ValType::I32])).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
    let error = Exception::new(&i32_tag(), [Val::I64(1)]).unwrap_err();
    assert!(
        matches!(error, RuntimeError::TypeMismatch { .. }),
        "{error}"
    );
    let instance = sandbox.instance("(module (func (export \"f\")))");
    assert!(matches!(
        instance.tag("f"),
        Err(RuntimeError::ExportKind {
            expected: "tag",
            ..
        })
    ));
    assert!(matches!(
        instance.tag("g"),
        Err(RuntimeError::UnknownExport { .. })
    ));
}

/// A host function, typed or not, throws; the guest catches it or it comes out.
#[test]
fn a_host_function_throws_and_the_guest_catches() {
    let mut sandbox = Sandbox::new();
    let tag = i32_tag();
    sandbox.linker.tag("host", "t", &tag).unwrap();
    let thrown = tag.clone();
    let typed = move |_: &Vmctx<'_>, value: i32| -> Result<i32, HostError> {
        if value == 0 {
            return Ok(0);
        }
        Err(Exception::new(&thrown, [Val::I32(value)])?.into())
    };
    sandbox.linker.func("host", "typed", typed).unwrap();
    let thrown = tag.clone();
    let ty = FuncType::new([ValType::I32; 6], [ValType::I32, ValType::V128]);
    sandbox
        .linker
        .func_new("host", "untyped", ty, move |_, args, _| {
            Err(Exception::new(&thrown, [args[5].clone()])?.into())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        "(module
            (import \"host\" \"t\" (tag $t (param i32)))
            (import \"host\" \"typed\" (func $typed (param i32) (result i32)))
            (import \"host\" \"untyped\"
                (func $untyped (param i32 i32 i32 i32 i32 i32) (result i32 v128)))
            (func (export \"typed\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (catch $t $caught) (drop (call $typed (local.get 0))))
                    (i32.const -1)))
            (func (export \"untyped\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (catch $t $caught)
                        (call $untyped (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)
                            (i32.const 5) (local.get 0))
                        (drop) (drop))
                    (i32.const -1)))
            (func (export \"tail\") (param i32) (result i32)
                ;; Who leaves has no handlers any more.
                (block $caught (result i32)
                    (try_table (catch $t $caught) (return_call $typed (local.get 0)))
                    (unreachable)))
            (func (export \"tail caught\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (catch $t $caught) (drop (call 3 (local.get 0))))
                    (i32.const -1))))",
    );
    assert_eq!(returned_i32(instance.run("typed", &[Val::I32(41)])), 41);
    assert_eq!(returned_i32(instance.run("typed", &[Val::I32(0)])), -1);
    assert_eq!(returned_i32(instance.run("untyped", &[Val::I32(42)])), 42);
    let found = uncaught(instance.run("tail", &[Val::I32(43)]));
    assert!(found.exception.tag().same(&tag));
    assert_eq!(found.tag_name.as_deref(), Some("host::t"));
    assert_eq!(bits(found.exception.values()), bits(&[Val::I32(43)]));
}

/// A reference in an exception is called without a look at its type, so what the host throws is compared.
#[test]
fn what_a_host_function_throws_is_of_the_types_that_the_tag_says() {
    let mut sandbox = Sandbox::new();
    let throw = |vmctx: &Vmctx<'_>, args: &[Val], _: &mut [Val]| -> Result<(), HostError> {
        Err(Exception::new(&vmctx.tag("t")?, args)?.into())
    };
    let ty = FuncType::new([ValType::FUNCREF], []);
    sandbox.linker.func_new("host", "throw", ty, throw).unwrap();
    let mut instance = sandbox.instance(
        "(module
            (type $i (func (result i32))) (type $l (func (result i64)))
            (import \"host\" \"throw\" (func $throw (param funcref)))
            (tag $t (export \"t\") (param (ref $i)))
            (func $seven (type $i) (i32.const 7)) (func $eight (type $l) (i64.const 8))
            (elem declare func $seven $eight)
            (func $try (param funcref) (result i32)
                (block $h (result (ref $i))
                    (try_table (catch $t $h) (call $throw (local.get 0)))
                    (unreachable))
                (return_call_ref $i))
            (func (export \"right\") (result i32) (call $try (ref.func $seven)))
            (func (export \"wrong\") (result i32) (call $try (ref.func $eight)))
            (func (export \"null\") (result i32) (call $try (ref.null func))))",
    );
    assert_eq!(returned_i32(instance.run("right", &[])), 7);
    for name in ["wrong", "null"] {
        let error = instance.run(name, &[]).unwrap_err();
        assert!(
            matches!(error, RuntimeError::TypeMismatch { .. }),
            "{error}"
        );
    }
    assert_eq!(returned_i32(instance.run("right", &[])), 7);
}

/// Host, guest, host, guest: the inner guest throws, host functions in between pass it on, swallow it, or
/// throw another one.
#[test]
fn exceptions_cross_host_functions_that_call_guests() {
    let mut sandbox = Sandbox::new();
    let tag = i32_tag();
    sandbox.linker.tag("host", "t", &tag).unwrap();
    let pass = |vmctx: &Vmctx<'_>, value: i32| -> Result<(), HostError> {
        vmctx.call_export("throw", &[Val::I32(value)])?;
        Ok(())
    };
    sandbox.linker.func("host", "pass", pass).unwrap();
    let swallow = |vmctx: &Vmctx<'_>, value: i32| -> Result<i32, HostError> {
        let found = uncaught(vmctx.call_export("throw", &[Val::I32(value)]));
        Ok(found.exception.values()[0].i32().unwrap() + 1000)
    };
    sandbox.linker.func("host", "swallow", swallow).unwrap();
    let other = tag.clone();
    let change = move |vmctx: &Vmctx<'_>, value: i32| -> Result<(), HostError> {
        uncaught(vmctx.call_export("throw", &[Val::I32(value)]));
        Err(Exception::new(&other, [Val::I32(value * 2)])?.into())
    };
    sandbox.linker.func("host", "change", change).unwrap();
    let mut instance = sandbox.instance(
        "(module
            (import \"host\" \"t\" (tag $t (param i32)))
            (import \"host\" \"pass\" (func $pass (param i32)))
            (import \"host\" \"swallow\" (func $swallow (param i32) (result i32)))
            (import \"host\" \"change\" (func $change (param i32)))
            (tag $own (export \"own\") (param i32))
            (func (export \"throw\") (param i32)
                ;; A handler below the host function does not see what is thrown above it, nor the
                ;; other way round.
                (block $never (result i32)
                    (try_table (catch $t $never) (throw $own (local.get 0)))
                    (unreachable))
                (unreachable))
            (func (export \"pass\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (catch $own $caught) (call $pass (local.get 0)))
                    (unreachable)))
            (func (export \"swallow\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (result i32) (catch $own $caught) (call $swallow (local.get 0)))))
            (func (export \"change\") (param i32) (result i32)
                (block $caught (result i32)
                    (try_table (catch $own $caught) (catch $t $caught)
                        (call $change (local.get 0)))
                    (unreachable)))
            (func (export \"through\") (param i32) (call $pass (local.get 0))))",
    );
    assert_eq!(returned_i32(instance.run("pass", &[Val::I32(7)])), 7);
    assert_eq!(returned_i32(instance.run("swallow", &[Val::I32(7)])), 1007);
    assert_eq!(returned_i32(instance.run("change", &[Val::I32(7)])), 14);
    let found = uncaught(instance.run("through", &[Val::I32(8)]));
    assert_eq!(found.tag_name.as_deref(), Some("own"));
    assert_eq!(bits(found.exception.values()), bits(&[Val::I32(8)]));
}

#[test]
fn traps_and_errors_of_the_host_are_not_caught() {
    let mut sandbox = Sandbox::new();
    let fail = |_: &Vmctx<'_>| -> Result<(), HostError> { Err(HostError::new("no such thing")) };
    sandbox.linker.func("host", "fail", fail).unwrap();
    let end = |_: &Vmctx<'_>| -> Result<(), HostError> { Err(HostError::terminate(5u8)) };
    sandbox.linker.func("host", "end", end).unwrap();
    let catching = |body: &str| {
        format!(
            "(module
                (import \"host\" \"fail\" (func $fail)) (import \"host\" \"end\" (func $end))
                (memory 1)
                (func $deeper (call $deeper) (call $deeper))
                (func $body {body})
                (func (export \"run\")
                    (block $all (try_table (catch_all $all) (call $body)))))"
        )
    };
    let run = |body: &str| sandbox.instance(&catching(body)).run("run", &[]);
    for (body, code) in [
        ("(unreachable)", TrapCode::Unreachable),
        (
            "(drop (i32.load (i32.const 65536)))",
            TrapCode::HeapOutOfBounds,
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            TrapCode::IntegerDivisionByZero,
        ),
        (
            "(memory.fill (i32.const 65536) (i32.const 0) (i32.const 1))",
            TrapCode::HeapOutOfBounds,
        ),
        (
            "(throw_ref (ref.null exn))",
            TrapCode::NullExceptionReference,
        ),
        ("(call $deeper)", TrapCode::StackOverflow),
    ] {
        assert_eq!(fault(run(body)).code, code, "{body}");
    }
    assert!(matches!(
        run("(call $fail)"),
        Err(RuntimeError::HostFunction(_))
    ));
    assert!(matches!(
        run("(call $end)"),
        Err(RuntimeError::RuntimeTerminated(_))
    ));
}

/// After a catch the frames are as if the call had returned: a trap later names them, and the registers
/// that callers want kept are theirs.
#[test]
fn backtraces_and_kept_registers_are_right_after_a_catch() {
    let mut instance = Sandbox::new().instance(
        "(module
            (tag $e (param i32))
            (func $thrower (param i32 i32 i32 i32 i32 i32)
                (if (local.get 0) (then
                    (call $thrower (i32.sub (local.get 0) (i32.const 1)) (local.get 1)
                        (local.get 2) (local.get 3) (local.get 4) (local.get 5))
                    (return)))
                (throw $e (i32.add (local.get 1) (i32.add (local.get 2) (i32.add (local.get 3)
                    (i32.add (local.get 4) (local.get 5)))))))
            (func $catcher (param i32 i32 i32 i32 i32) (result i32)
                (block $h (result i32)
                    (try_table (catch $e $h)
                        (call $thrower (i32.const 9) (local.get 0) (local.get 1) (local.get 2)
                            (local.get 3) (local.get 4)))
                    (unreachable))
                ;; Locals live on in the handler.
                (i32.sub (i32.add (local.get 0) (i32.add (local.get 1) (i32.add (local.get 2)
                    (i32.add (local.get 3) (local.get 4)))))))
            (func $caller (export \"run\") (param i32 i32 i32 i32 i32) (result i32)
                (local $zero i32)
                (local.set $zero (call $catcher (local.get 0) (local.get 1) (local.get 2)
                    (local.get 3) (local.get 4)))
                ;; What was kept over the call, in an order of its own.
                (i32.add (local.get $zero)
                    (i32.sub (i32.mul (local.get 4) (i32.const 10000))
                        (i32.add (i32.mul (local.get 3) (i32.const 1000))
                            (i32.add (i32.mul (local.get 2) (i32.const 100))
                                (i32.add (i32.mul (local.get 1) (i32.const 10))
                                    (local.get 0)))))))
            (func $trapping (export \"trap\")
                (drop (call $caller (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)
                    (i32.const 5)))
                (unreachable)))",
    );
    let args = [1, 2, 3, 4, 5].map(Val::I32);
    let expected = 50000 - 4000 - 300 - 20 - 1;
    assert_eq!(returned_i32(instance.run("run", &args)), expected);
    let trap = fault(instance.run("trap", &[]));
    let names: Vec<_> = trap
        .backtrace
        .frames
        .iter()
        .map(|f| f.func_name.clone())
        .collect();
    assert_eq!(names, [Some("trapping".to_owned())]);
}

#[test]
fn an_exception_passes_a_hundred_thousand_frames() {
    let mut limits = Limits::default();
    limits.stack_len = 32 << 20;
    let mut instance = Sandbox::with(1, &limits).instance(
        "(module
            (tag $e (param i32)) (tag $other)
            (func $down (param i32)
                (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 77))))
                ;; Handlers on the way, which do not match.
                (block $no
                    (try_table (catch $other $no)
                        (call $down (i32.sub (local.get 0) (i32.const 1)))
                        (return)))
                (unreachable))
            (func (export \"run\") (param i32) (result i32)
                (block $h (result i32)
                    (try_table (catch $e $h) (call $down (local.get 0)))
                    (unreachable))))",
    );
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(100_000)])), 77);
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(100_000)])), 77);
}

/// One exception carries a value of every type to a handler with more results than registers.
#[test]
fn values_of_every_type_arrive_as_they_were_thrown() {
    let mut instance = Sandbox::new().instance(
        "(module
            (type $all (func (param i32 i64 f32 f64 v128 funcref externref exnref)))
            (tag $e (export \"e\") (type $all)) (tag $inner (param i32))
            (func $seven (result i32) (i32.const 7)) (elem declare func $seven)
            (func $throw (type $all)
                (throw $e (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)
                    (local.get 5) (local.get 6) (local.get 7)))
            (func $exn (result exnref)
                (block $h (result i32 exnref)
                    (try_table (catch_ref $inner $h) (throw $inner (i32.const 99)))
                    (unreachable))
                (return))
            (func (export \"caught\") (param i32 i64 f32 f64 v128 externref)
                (result i32 i64 f32 f64 v128 funcref externref exnref)
                (block $h (result i32 i64 f32 f64 v128 funcref externref exnref)
                    (try_table (catch $e $h)
                        (call $throw (local.get 0) (local.get 1) (local.get 2) (local.get 3)
                            (local.get 4) (ref.func $seven) (local.get 5) (call $exn)))
                    (unreachable)))
            (func (export \"uncaught\") (param i32 i64 f32 f64 v128 externref)
                (call $throw (local.get 0) (local.get 1) (local.get 2) (local.get 3)
                    (local.get 4) (ref.func $seven) (local.get 5) (call $exn)))
            (func (export \"rethrow\") (param exnref) (result i32)
                (block $h (result i32)
                    (try_table (catch $inner $h) (throw_ref (local.get 0)))
                    (unreachable))))",
    );
    let object = ExternRef::new("an object".to_owned());
    let args = [
        Val::I32(-1),
        Val::I64(i64::MIN + 3),
        Val::F32(f32::from_bits(0x7fa0_0001)),
        Val::F64(-0.0),
        Val::V128(u128::MAX / 5),
        Val::ExternRef(Some(object.clone())),
    ];
    let check = |instance: &mut InstanceHandle, values: &[Val]| {
        assert_eq!(bits(&values[..5]), bits(&args[..5]));
        let [
            ..,
            Val::FuncRef(Some(func)),
            Val::ExternRef(Some(found)),
            Val::ExnRef(Some(exn)),
        ] = values
        else {
            panic!("{values:?}");
        };
        assert!(found.same(&object));
        assert_eq!(returned_i32(instance.run_func(*func, &[])), 7);
        let inner = instance.exception(exn).unwrap();
        assert_eq!(bits(inner.values()), bits(&[Val::I32(99)]));
        let exn = Val::ExnRef(Some(exn.clone()));
        assert_eq!(returned_i32(instance.run("rethrow", &[exn])), 99);
    };
    let values = returned(instance.run("caught", &args));
    check(&mut instance, &values);
    let found = uncaught(instance.run("uncaught", &args));
    check(&mut instance, found.exception.values());
    let other = Sandbox::new().instance("(module)");
    let Val::ExnRef(Some(exn)) = &values[7] else {
        panic!("{values:?}");
    };
    assert!(matches!(
        other.exception(exn),
        Err(RuntimeError::ForeignReference)
    ));
}

/// A guest that keeps what it catches in a global, a table, a local and in another exception, while very
/// many others come and go.
const KEEPER: &str = "(module
    (tag $e (param i32)) (tag $big (param
        i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
        i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64))
    (tag $holds (param exnref i64))
    (import \"host\" \"collect\" (func $host_collect))
    (global $kept (export \"kept\") (mut exnref) (ref.null exn))
    (table $table (export \"table\") 100 100 exnref)
    (table $large 0 1000000 exnref)
    (func $caught (param i32) (result exnref)
        (block $h (result i32 exnref)
            (try_table (catch_ref $e $h) (throw $e (local.get 0)))
            (unreachable))
        (return))
    (func $value (param exnref) (result i32)
        (block $h (result i32)
            (try_table (catch $e $h) (throw_ref (local.get 0)))
            (unreachable)))
    (func $throw_big
        (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
        (i64.const 7) (i64.const 8) (i64.const 9) (i64.const 10) (i64.const 11) (i64.const 12)
        (i64.const 13) (i64.const 14) (i64.const 15) (i64.const 16) (i64.const 17) (i64.const 18)
        (i64.const 19) (i64.const 20) (i64.const 21) (i64.const 22) (i64.const 23) (i64.const 24)
        (i64.const 25) (i64.const 26) (i64.const 27) (i64.const 28) (i64.const 29) (i64.const 30)
        (i64.const 31) (i64.const 32) (throw $big))
    (func $big_ref (result exnref)
        (block $h (result exnref)
            (try_table (catch_all_ref $h) (call $throw_big))
            (unreachable)))
    ;; Catches that many with a reference each; more bytes than may be held.
    (func $churn (export \"churn\") (param i32)
        (loop $again
            (drop (call $big_ref))
            (br_if $again
                (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    ;; The same without references.
    (func (export \"churn values\") (param i32)
        (loop $again
            (block $h (try_table (catch_all $h) (call $throw_big)))
            (br_if $again
                (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func $wrap (param exnref) (result exnref)
        (block $h (result exnref)
            (try_table (catch_all_ref $h) (throw $holds (local.get 0) (i64.const 0)))
            (unreachable)))
    (func $unwrap (param exnref) (result exnref)
        (block $h (result exnref i64)
            (try_table (catch $holds $h) (throw_ref (local.get 0)))
            (unreachable))
        (drop))
    (func (export \"keep\") (param i32) (result i32 i32 i32 i32)
        (local $mine exnref) (local $holder exnref)
        (global.set $kept (call $caught (i32.const 1)))
        (table.set $table (i32.const 57) (call $caught (i32.const 2)))
        (local.set $mine (call $caught (i32.const 3)))
        (local.set $holder (call $wrap (call $wrap (call $caught (i32.const 4)))))
        (if (local.get 0)
            (then (call $churn (local.get 0)))
            (else (call $host_collect)))
        (call $value (global.get $kept))
        (call $value (table.get $table (i32.const 57)))
        (call $value (local.get $mine))
        (call $value (call $unwrap (call $unwrap (local.get $holder)))))
    (func (export \"kept value\") (result i32) (call $value (global.get $kept)))
    (func (export \"hoard\")
        (loop $again
            (drop (table.grow $large (call $big_ref) (i32.const 1)))
            (br $again)))
    (func (export \"forget\") (table.fill $large (i32.const 0) (ref.null exn) (table.size $large)))
    (func (export \"value\") (param exnref) (result i32) (call $value (local.get 0)))
    (func (export \"caught\") (param i32) (result exnref) (call $caught (local.get 0))))";

/// With half a kilobyte each, far more than an instance may hold.
const MANY: i32 = 1_000_000;

fn keeper() -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    let collect = |vmctx: &Vmctx<'_>| -> Result<(), HostError> {
        vmctx.call_export("churn", &[Val::I32(MANY / 4)])?;
        Ok(())
    };
    let defined = sandbox.linker.func("host", "collect", collect);
    defined.expect("the name is free");
    sandbox.instance(KEEPER)
}

#[test]
fn exceptions_that_are_referred_to_stay_and_others_make_room() {
    let mut instance = keeper();
    let expected = bits(&[1, 2, 3, 4].map(Val::I32));
    // Collections in the same entry, and in one inside of it while the outer one waits.
    for churn in [MANY, 0] {
        let found = returned(instance.run("keep", &[Val::I32(churn)]));
        assert_eq!(bits(&found), expected);
    }
    assert_eq!(returned_i32(instance.run("kept value", &[])), 1);
    let [Val::ExnRef(Some(held))] = &returned(instance.run("caught", &[Val::I32(6)]))[..] else {
        panic!("an exception was to be returned");
    };
    instance.set_global("kept", &Val::ExnRef(None)).unwrap();
    instance.table_set("table", 57, &Val::ExnRef(None)).unwrap();
    returned(instance.run("churn", &[Val::I32(MANY / 4)]));
    let value = Val::ExnRef(Some(held.clone()));
    assert_eq!(
        returned_i32(instance.run("value", std::slice::from_ref(&value))),
        6
    );
    instance.table_set("table", 0, &value).unwrap();
    let Some(Val::ExnRef(Some(found))) = instance.table_get("table", 0).unwrap() else {
        panic!("an exception was to be there");
    };
    assert_eq!(
        bits(instance.exception(&found).unwrap().values()),
        bits(&[Val::I32(6)])
    );
    assert!(matches!(instance.global("kept"), Ok(Val::ExnRef(None))));
    let trap = fault(instance.run("value", &[Val::ExnRef(None)]));
    assert_eq!(trap.code, TrapCode::NullExceptionReference);
}

#[test]
fn a_guest_that_keeps_too_many_exceptions_traps_and_can_let_go() {
    let mut instance = keeper();
    for _ in 0..2 {
        let trap = fault(instance.run("hoard", &[]));
        assert_eq!(trap.code, TrapCode::ExceptionsExhausted);
        // What is thrown without a reference needs no room.
        returned(instance.run("churn values", &[Val::I32(10)]));
        returned(instance.run("forget", &[]));
        returned(instance.run("churn", &[Val::I32(1000)]));
    }
}

#[test]
fn a_million_exceptions_thrown_and_caught_take_no_more_memory_than_a_few() {
    children::check_ends("exceptions::child", "many", 0);
}

/// Not a test of its own: the body of the child. Without a case it does nothing.
#[test]
fn child() {
    if children::case().is_none() {
        return;
    }
    let mut instance = keeper();
    returned(instance.run("churn values", &[Val::I32(1000)]));
    let before = Held::now();
    // All of them together would be 500 MiB.
    returned(instance.run("churn values", &[Val::I32(MANY)]));
    before.check_flat();
}

/// An exception that nobody holds any more takes the host's objects in it along, at the latest with its
/// instance.
#[test]
fn tags_go_with_their_instances() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut instance = Sandbox::new().instance(
        "(module (tag $e (param externref))
            (func (export \"throw\") (param externref) (throw $e (local.get 0))))",
    );
    let object = ExternRef::new(Counted(dropped.clone()));
    let found = uncaught(instance.run("throw", &[Val::ExternRef(Some(object))]));
    drop(instance);
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "the error has it");
    drop(found);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn instructions_of_the_draft_are_refused_by_name() {
    // (module (func try end)): an opcode that the standard does not have.
    let wasm =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x07\x01\x05\0\x06\x40\x0b\x0b";
    let error = Sandbox::new().engine.compile(wasm).unwrap_err();
    assert!(matches!(error, Error::Compile(_)), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("legacy-exceptions") && message.contains("clang"),
        "{message}"
    );
}
