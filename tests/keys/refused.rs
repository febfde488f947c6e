//! What a region with keys asks for; most of it also where there are none.

use selvedge::{Engine, Limits, Region, RegionOptions, RuntimeError, Settings};

use crate::guests;

#[test]
fn without_being_asked_a_region_has_no_keys() {
    let engine = Engine::new(&Settings::default()).unwrap();
    assert_eq!(RegionOptions::default().protection_keys, 0);
    let region = Region::new(&engine, 1, &Limits::default()).unwrap();
    assert_eq!(region.protection_keys(), 0);
}

#[test]
fn where_there_are_no_keys_a_region_that_wants_some_is_refused() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let mut options = RegionOptions::default();
    options.protection_keys = 3;
    match Region::with_options(&engine, 1, &Limits::default(), &options) {
        Ok(region) => assert!((1..=3).contains(&region.protection_keys())),
        Err(RuntimeError::Unsupported { what, why }) => {
            assert_eq!(what, "protection keys");
            assert!(!why.is_empty());
            // And one without is not.
            Region::new(&engine, 1, &Limits::default()).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn dense_slots_have_no_keys() {
    let settings = Settings::default().with_explicit_bounds(true);
    let engine = Engine::new(&settings).unwrap();
    let mut options = RegionOptions::default();
    (options.dense, options.protection_keys) = (true, 2);
    let refused = Region::with_options(&engine, 1, &Limits::default(), &options);
    assert!(matches!(refused, Err(RuntimeError::InvalidArgument(_))));
}

#[test]
fn more_keys_than_there_are_mean_all_of_them() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let count = |wanted| {
        let region = guests::region(&engine, 1, |options| options.protection_keys = wanted)?;
        Some(region.protection_keys())
    };
    let Some(all) = count(u32::MAX) else { return };
    assert!((1..=15).contains(&all));
    assert_eq!(count(15), Some(all));
    assert_eq!(count(1), Some(1));
    // Regions have the same ones, so that they don't run out.
    let regions: Vec<_> = (0..40).map(|_| count(15)).collect();
    assert!(regions.iter().all(|&count| count == Some(all)));
}

#[test]
fn slots_of_any_length_can_have_keys() {
    let engine = Engine::new(&Settings::default()).unwrap();
    for memory_len in [65_536, 1 << 30, 4 << 30] {
        let mut limits = Limits::default();
        limits.memory_len = memory_len;
        let mut options = RegionOptions::default();
        options.protection_keys = 15;
        options.heap_alignment = 1 << 21;
        if guests::region(&engine, 1, |_| ()).is_none() {
            return;
        }
        let region = Region::with_options(&engine, 3, &limits, &options).unwrap();
        let program = selvedge::Linker::new(&engine)
            .program(
                &engine
                    .compile(b"(module (memory (export \"m\") 1))")
                    .unwrap(),
            )
            .unwrap();
        let instances: Vec<_> = (0..3)
            .map(|_| region.new_instance(&program).unwrap())
            .collect();
        for instance in &instances {
            assert_eq!(guests::base(instance) % (1 << 21), 0);
        }
    }
}
