//! `poll_oneoff`: waiting for clocks and descriptors. It is what `sleep`, `poll` and `select` of
//! guests come down to, and what schedulers inside guests (Go's) rest on.
//!
//! It returns as soon as anything has come to pass, and then reports everything that has, in the
//! order of the subscriptions. A subscription that can't be waited for is itself an event, with an
//! error in it.

use crate::blocking::{self, Guest, Waits};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{Descriptor, Target};
use crate::p1::clock;
use crate::p1::fd::host_fd;
use crate::p1::layout::{
    EVENT_LEN, Event, FileType, Rights, SUBSCRIPTION_LEN, SubclockFlags, Subscription,
    SubscriptionKind,
};
use crate::p1::memory::{self, Memory};
use crate::stdio::{Input, Stream};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::BorrowedFd;
use rustix::fs::{SeekFrom, fstat, seek};
use rustix::time::ClockId;

/// The most subscriptions of one call: more than descriptors can be open, and few enough that the
/// host's copy of them (some megabytes) is no burden.
const MAX_SUBSCRIPTIONS: u32 = 1 << 16;

pub(crate) fn poll_oneoff(
    guest: &dyn Guest,
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    subscriptions: u32,
    events: u32,
    count: u32,
    event_count: u32,
) -> Result<(), Errno> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval);
    }
    memory::range(
        bytes,
        subscriptions,
        u64::from(count) * u64::from(SUBSCRIPTION_LEN),
    )?;
    memory::range(bytes, events, u64::from(count) * u64::from(EVENT_LEN))?;
    memory::range(bytes, event_count, 4)?;
    // All are read before any event is written: the two arrays may share their place.
    let waited = (0..count)
        .map(|idx| {
            let addr = memory::offset(subscriptions, idx * SUBSCRIPTION_LEN)?;
            Ok(Waited::new(ctx, Subscription::read(bytes, addr)?))
        })
        .collect::<Result<Vec<_>, Errno>>()?;

    let waits = Waits {
        guest,
        alarm: &ctx.alarm,
    };
    let mut at = events;
    let mut found = 0;
    for event in wait_for(waits, &waited)? {
        memory::write(bytes, at, &event.to_bytes())?;
        // The last one may end where the address space does.
        at = at.wrapping_add(EVENT_LEN);
        found += 1;
    }
    memory::write_u32(bytes, event_count, found)
}

/// A subscription and what it comes to on the host.
#[derive(Debug)]
struct Waited<'f> {
    subscription: Subscription,
    what: What<'f>,
}

#[derive(Debug)]
enum What<'f> {
    /// Nothing to wait for: ready with so many bytes, or an error.
    Settled(Result<u64, Errno>),
    /// The clock showing this or more.
    Clock(ClockId, u64),
    /// A descriptor of the host.
    Host(BorrowedFd<'f>, PollFlags),
}

impl<'f> Waited<'f> {
    fn new(ctx: &'f WasiCtx, subscription: Subscription) -> Waited<'f> {
        let what = match subscription.kind {
            SubscriptionKind::Clock { id, timeout, flags } => clock_wait(id, timeout, flags),
            SubscriptionKind::FdRead { fd } => ctx.fds.get(fd).and_then(read_wait),
            SubscriptionKind::FdWrite { fd } => ctx.fds.get(fd).and_then(write_wait),
        };
        Waited {
            subscription,
            what: what.unwrap_or_else(|error| What::Settled(Err(error))),
        }
    }

    fn event(&self, outcome: Result<u64, Errno>, hangup: bool) -> Event {
        Event {
            userdata: self.subscription.userdata,
            error: outcome.err(),
            tag: self.subscription.kind.tag(),
            nbytes: outcome.unwrap_or(0),
            hangup,
        }
    }
}

/// A timeout counts on the monotonic clock whichever clock is named, as `nanosleep` does; a point
/// in time is one of the clock that is named, and so moves when the host's date is set.
fn clock_wait(id: u32, timeout: u64, flags: SubclockFlags) -> Result<What<'static>, Errno> {
    let id = clock::from_guest(id)?;
    if !matches!(id, ClockId::Realtime | ClockId::Monotonic) {
        // The clocks of processor time stand still while one waits.
        return Err(Errno::Notsup);
    }
    if flags.contains(SubclockFlags::ABSTIME) {
        return Ok(What::Clock(id, timeout));
    }
    Ok(What::Clock(
        ClockId::Monotonic,
        clock::monotonic().saturating_add(timeout),
    ))
}

fn read_wait(descriptor: &Descriptor) -> Result<What<'_>, Errno> {
    match &descriptor.target {
        Target::Stream(stream) if !stream.is_input() => return Err(Errno::Badf),
        Target::File(file) if !file.readable => return Err(Errno::Badf),
        Target::Stream(_) | Target::File(_) | Target::Dir(_) => {}
    }
    descriptor.require(Rights::POLL_FD_READWRITE)?;
    match (&descriptor.target, host_fd(descriptor)) {
        (Target::Stream(Stream::Stdin(Input::Pipe(pipe))), _) => {
            Ok(What::Settled(Ok(pipe.remaining() as u64)))
        }
        (Target::File(file), Some(fd)) if file.filetype == FileType::RegularFile => {
            let len = u64::try_from(fstat(fd)?.st_size).unwrap_or(0);
            let at = seek(fd, SeekFrom::Current(0))?;
            Ok(What::Settled(Ok(len.saturating_sub(at))))
        }
        (Target::Stream(_) | Target::File(_), Some(fd)) => Ok(What::Host(fd, PollFlags::IN)),
        _ => Ok(What::Settled(Ok(0))),
    }
}

fn write_wait(descriptor: &Descriptor) -> Result<What<'_>, Errno> {
    match &descriptor.target {
        Target::Stream(stream) if stream.is_input() => return Err(Errno::Badf),
        Target::File(file) if !file.writable => return Err(Errno::Badf),
        Target::Dir(_) => return Err(Errno::Badf),
        Target::Stream(_) | Target::File(_) => {}
    }
    descriptor.require(Rights::POLL_FD_READWRITE)?;
    match (&descriptor.target, host_fd(descriptor)) {
        (Target::File(file), _) if file.filetype == FileType::RegularFile => {
            Ok(What::Settled(Ok(blocking::NONBLOCKING_WRITE as u64)))
        }
        (_, Some(fd)) => Ok(What::Host(fd, PollFlags::OUT)),
        _ => Ok(What::Settled(Ok(blocking::NONBLOCKING_WRITE as u64))),
    }
}

/// Waits until there is something to report, and gives all of it.
fn wait_for<'f>(waits: Waits<'f>, waited: &[Waited<'f>]) -> Result<Vec<Event>, Errno> {
    let mut fds: Vec<PollFd<'f>> = waited
        .iter()
        .filter_map(|waited| match waited.what {
            What::Host(fd, want) => Some(PollFd::from_borrowed_fd(fd, want)),
            _ => None,
        })
        .collect();
    let settled = waited
        .iter()
        .any(|waited| matches!(waited.what, What::Settled(_)));
    loop {
        // With something settled the descriptors are only asked, not waited for.
        if settled {
            blocking::ask(&mut fds)?;
        } else {
            waits.until(&mut fds, earliest(waited))?;
        }
        let events = collect(waited, &fds);
        if !events.is_empty() {
            return Ok(events);
        }
        // The host's date was set back while we slept until it: sleep on.
    }
}

/// When, on the monotonic clock, the first of the clocks is going to be where it is waited for.
fn earliest(waited: &[Waited<'_>]) -> Option<u64> {
    let deadlines = waited.iter().filter_map(|waited| match waited.what {
        What::Clock(id, at) => {
            Some(clock::monotonic().saturating_add(at.saturating_sub(clock::now(id))))
        }
        _ => None,
    });
    deadlines.min()
}

/// What has come to pass, in the order of the subscriptions. `fds` are those of the host
/// descriptors among them, in the same order.
fn collect(waited: &[Waited<'_>], fds: &[PollFd<'_>]) -> Vec<Event> {
    let mut fds = fds.iter();
    let mut events = Vec::new();
    for waited in waited {
        match waited.what {
            What::Settled(outcome) => events.push(waited.event(outcome, false)),
            What::Clock(id, at) => {
                if clock::now(id) >= at {
                    events.push(waited.event(Ok(0), false));
                }
            }
            What::Host(fd, want) => {
                let Some(polled) = fds.next() else { continue };
                let found = polled.revents();
                if found.is_empty() {
                    continue;
                }
                let outcome = if found.contains(PollFlags::NVAL) {
                    Err(Errno::Badf)
                } else if !found.contains(want) {
                    Ok(0)
                } else if want == PollFlags::IN {
                    // What can't count its bytes has at least something to say, if only the end.
                    Ok(rustix::io::ioctl_fionread(fd).unwrap_or(1))
                } else {
                    Ok(blocking::NONBLOCKING_WRITE as u64)
                };
                let hangup = found.intersects(PollFlags::HUP | PollFlags::ERR);
                events.push(waited.event(outcome, hangup));
            }
        }
    }
    events
}

#[cfg(test)]
mod tests;
