//! `clock_*`: the four clocks of preview 1, which are the host's. Times are nanoseconds.

use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::p1::memory::{self, Memory};
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// The clock a guest names by number.
pub(crate) fn from_guest(id: u32) -> Result<ClockId, Errno> {
    match id {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        2 => Ok(ClockId::ProcessCPUTime),
        3 => Ok(ClockId::ThreadCPUTime),
        _ => Err(Errno::Inval),
    }
}

/// What the clock shows. A host whose date is before 1970 is at 0.
pub(crate) fn now(id: ClockId) -> u64 {
    nanos(clock_gettime(id))
}

/// What the clock of deadlines shows.
pub(crate) fn monotonic() -> u64 {
    now(ClockId::Monotonic)
}

fn nanos(time: Timespec) -> u64 {
    nanos_of(time.tv_sec, time.tv_nsec)
}

/// Seconds and nanoseconds as one number, from 1970 to the year 2554 and no further.
pub(crate) fn nanos_of(seconds: i64, nanos: i64) -> u64 {
    match u64::try_from(seconds) {
        Ok(seconds) => seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(nanos).unwrap_or(0)),
        Err(_) => 0,
    }
}

pub(crate) fn clock_res_get(
    _ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    id: u32,
    resolution: u32,
) -> Result<(), Errno> {
    let found = nanos(clock_getres(from_guest(id)?));
    // Never 0: a guest may divide by it.
    memory::write_u64(bytes, resolution, found.max(1))
}

/// The precision a guest asks for is always met: the clocks are read anew each time.
pub(crate) fn clock_time_get(
    _ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    id: u32,
    _precision: u64,
    time: u32,
) -> Result<(), Errno> {
    let found = now(from_guest(id)?);
    memory::write_u64(bytes, time, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_has_a_resolution_and_does_not_go_back() {
        let mut ctx = WasiCtx::builder().build().unwrap();
        let mut bytes = vec![0u8; 16];
        for id in 0..4 {
            clock_res_get(&mut ctx, &mut bytes, id, 0).unwrap();
            assert_ne!(memory::read_u64(&bytes, 0), Ok(0), "clock {id}");
            if id == 0 {
                continue; // may be set back by the host
            }
            clock_time_get(&mut ctx, &mut bytes, id, 0, 0).unwrap();
            clock_time_get(&mut ctx, &mut bytes, id, 0, 8).unwrap();
            let at = |addr| memory::read_u64(&bytes, addr).unwrap();
            assert!(at(8) >= at(0), "clock {id}");
        }
        assert_eq!(
            clock_time_get(&mut ctx, &mut bytes, 4, 0, 0),
            Err(Errno::Inval)
        );
        assert_eq!(
            clock_res_get(&mut ctx, &mut bytes, u32::MAX, 0),
            Err(Errno::Inval)
        );
        assert_eq!(
            clock_time_get(&mut ctx, &mut bytes, 0, 0, 9),
            Err(Errno::Fault)
        );
    }

    #[test]
    fn times_that_do_not_fit_stop_at_the_ends() {
        assert_eq!(nanos_of(1, 5), 1_000_000_005);
        assert_eq!(nanos_of(-1, 999_999_999), 0);
        assert_eq!(nanos_of(i64::MAX, 0), u64::MAX);
    }
}
