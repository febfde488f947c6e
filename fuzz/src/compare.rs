//! One case on all engines in step, up to the first difference. Chooses no cases and prints nothing.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engines::selvedge::Selvedge;
use crate::engines::value::Outcome;
use crate::engines::wasmi::Wasmi;
use crate::engines::wasmtime::Wasmtime;
use crate::engines::{Engine, Guest, State};
use crate::generate::{Call, Case, FUEL_PER_CALL};

/// The engines that are compared; the first one that takes a case is what the others are held against.
pub(crate) struct Engines(Vec<Box<dyn Engine>>);

/// How a case ended on which nobody differed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    /// Calls that were made and compared.
    pub(crate) calls: u64,
    /// Of them those that returned.
    pub(crate) returned: u64,
    /// Whether something ended the case early that says nothing about anybody.
    pub(crate) inconclusive: bool,
}

/// Two engines that do not agree.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// What was being done.
    pub(crate) at: String,
    /// What two engines made of it, each with its name.
    pub(crate) sides: [(String, String); 2],
}

impl Engines {
    /// Wasmtime first, wasmi, then Selvedge with several settings.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut engines: Vec<Box<dyn Engine>> =
            vec![Box::new(Wasmtime::new()?), Box::new(Wasmi::new()?)];
        for selvedge in Selvedge::variants()? {
            engines.push(Box::new(selvedge));
        }
        Ok(Self(engines))
    }

    /// Runs a case.
    pub(crate) fn compare(&self, case: &Case) -> Result<Agreed, Difference> {
        let mut agreed = Agreed {
            calls: 0,
            returned: 0,
            inconclusive: false,
        };
        let engines: Vec<&dyn Engine> = self
            .0
            .iter()
            .map(Box::as_ref)
            .filter(|engine| engine.takes(case))
            .collect();
        let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
        let started = engines.iter().map(|engine| {
            guarded(|| engine.instantiate(case))
                .unwrap_or_else(|panic| Err(Outcome::Panicked(panic)))
        });
        let (guests, outcomes): (Vec<_>, Vec<_>) = started
            .map(|start| match start {
                Ok(guest) => (Some(guest), Outcome::Returned(Vec::new())),
                Err(outcome) => (None, outcome),
            })
            .unzip();
        match judge(&names, "instantiation", &outcomes)? {
            Verdict::Same => {}
            Verdict::Inconclusive => {
                agreed.inconclusive = true;
                return Ok(agreed);
            }
        }
        // All or none, or the verdict was another.
        let mut guests: Vec<Box<dyn Guest>> = guests.into_iter().flatten().collect();
        if guests.len() < engines.len() || states(&names, "instantiation", &mut guests)? {
            return Ok(agreed);
        }
        for (i, call) in case.calls().iter().enumerate() {
            let Call { func, args } = call;
            let at = format!("call {i}, {:?} with {args:?}", func.name);
            let outcomes = guests.iter_mut().map(|guest| {
                let call = || {
                    guest.refuel(FUEL_PER_CALL);
                    guest.call(&func.name, args)
                };
                guarded(call).unwrap_or_else(Outcome::Panicked)
            });
            let outcomes: Vec<_> = outcomes.collect();
            agreed.inconclusive = judge(&names, &at, &outcomes)? == Verdict::Inconclusive
                || states(&names, &at, &mut guests)?;
            if agreed.inconclusive {
                return Ok(agreed);
            }
            agreed.calls += 1;
            agreed.returned += u64::from(matches!(outcomes[0], Outcome::Returned(_)));
        }
        Ok(agreed)
    }
}

/// Whether all outcomes are the same.
fn judge(names: &[&str], at: &str, outcomes: &[Outcome]) -> Result<Verdict, Difference> {
    let panicked = |o: &Outcome| matches!(o, Outcome::Panicked(_));
    if let Some(panic) = outcomes.iter().position(panicked) {
        // Nobody may panic, alone or together.
        let other = usize::from(panic == 0);
        return Err(difference(names, at, outcomes, [other, panic]));
    }
    if outcomes.contains(&Outcome::Exhausted) {
        return Ok(Verdict::Inconclusive);
    }
    let refused = |o: &Outcome| matches!(o, Outcome::Refused(_));
    if outcomes.iter().all(refused) {
        return Ok(Verdict::Inconclusive);
    }
    match outcomes.iter().position(|outcome| *outcome != outcomes[0]) {
        Some(other) => Err(difference(names, at, outcomes, [0, other])),
        None => Ok(Verdict::Same),
    }
}

/// Whether a stack was used up; otherwise compares what can be seen of the guests.
fn states(names: &[&str], at: &str, guests: &mut [Box<dyn Guest>]) -> Result<bool, Difference> {
    let states: Vec<State> = guests.iter_mut().map(|guest| guest.state()).collect();
    if states.iter().any(|state| state.exhausted) {
        return Ok(true);
    }
    let Some(other) = states.iter().position(|state| *state != states[0]) else {
        return Ok(false);
    };
    let (ours, theirs) = (&states[0], &states[other]);
    let (what, sides) = first("memory", &ours.memories, &theirs.memories)
        .or_else(|| first("table", &ours.tables, &theirs.tables))
        .or_else(|| first("global", &ours.globals, &theirs.globals))
        .unwrap_or_default();
    let [a, b] = sides;
    Err(Difference {
        at: format!("{what} after {at}"),
        sides: [(names[0].to_owned(), a), (names[other].to_owned(), b)],
    })
}

fn difference(names: &[&str], at: &str, outcomes: &[Outcome], of: [usize; 2]) -> Difference {
    Difference {
        at: at.to_owned(),
        sides: of.map(|i| (names[i].to_owned(), format!("{:?}", outcomes[i]))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Inconclusive,
}

/// The first item in which two lists differ.
fn first<T: PartialEq + Debug>(kind: &str, a: &[T], b: &[T]) -> Option<(String, [String; 2])> {
    let at = a.iter().zip(b).position(|(a, b)| a != b)?;
    Some((
        format!("exported {kind} {at}"),
        [format!("{:?}", a[at]), format!("{:?}", b[at])],
    ))
}

/// Does something that may panic; the panic's message if it does.
pub(crate) fn guarded<R>(what: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_cases_agree_and_some_of_their_calls_return() {
        let features = crate::features::parse(None).unwrap();
        let engines = Engines::new().unwrap();
        let (mut calls, mut returned) = (0, 0);
        for seed in 0..30 {
            let case = Case::of_seed(seed, &features).unwrap();
            let agreed = engines.compare(&case).unwrap();
            calls += agreed.calls;
            returned += agreed.returned;
        }
        assert!(calls > 30 && returned > 10, "{returned} of {calls}");
    }

    #[test]
    fn a_difference_is_told_with_both_sides() {
        let names = ["wasmtime", "wasmi", "selvedge"];
        let outcomes = [
            Outcome::HostFailed,
            Outcome::HostFailed,
            Outcome::Returned(vec![]),
        ];
        let difference = judge(&names, "here", &outcomes).err().unwrap();
        assert_eq!(difference.sides[0].0, "wasmtime");
        assert_eq!(difference.sides[1].1, "Returned([])");
        assert!(judge(&names, "here", &[Outcome::Exhausted, Outcome::HostFailed]).is_ok());
        let panicked = [Outcome::Panicked("a".into()), Outcome::Panicked("a".into())];
        assert!(judge(&names, "here", &panicked).is_err());
    }
}
