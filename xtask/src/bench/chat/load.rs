//! The loads: signals or messages with a fixed number in flight, or on a schedule.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::hall::{Event, Hall, What};

/// A delivery that has not come for so long never will.
const PROGRESS_WAIT: Duration = Duration::from_secs(5);
/// How long after the last one was due a delivery on a schedule may still come.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// A latency beyond this would have ended the run; it bounds the histogram.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// What was written so long after it was due shows that the generator itself was held up.
const LATE: Duration = Duration::from_millis(1);
/// Written between two looks at what has come, when the generator has to catch up.
const CATCH_UP: u32 = 32;

/// How long a generator without work leaves the server alone: less than a room of 1,000 takes, so that the server always has
/// something to do.
const CLOSED_PAUSE: Duration = Duration::from_micros(200);
/// The same where latency is looked at, which it adds to.
const PACED_PAUSE: Duration = Duration::from_micros(20);

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Signals; each is done when every receiver of its room has it.
    Signal,
    /// Messages; each is done when it has been acknowledged and every receiver of its room has it.
    Say,
}

impl Kind {
    fn publish(self, hall: &mut Hall, room: usize) -> Result<u32> {
        match self {
            Self::Signal => hall.signal(room),
            Self::Say => hall.say(room),
        }
    }

    /// How many events of the generator one of them ends in.
    fn echoes(self, hall: &Hall) -> u32 {
        hall.listeners() as u32 + u32::from(self == Self::Say)
    }
}

/// What a load saw.
pub(super) struct Tally {
    /// Signals or messages that were published, all of which arrived.
    pub(super) published: u64,
    /// Deliveries, without acknowledgements.
    pub(super) deliveries: u64,
    /// From the first that was written to the last that came.
    pub(super) took: Duration,
    /// The share of that time in which the generator had something to do, in percent.
    pub(super) generator: f64,
    /// Nanoseconds from when a signal or message was due, or written, to each of its deliveries.
    pub(super) delivery: Histogram<u64>,
    /// The same to its acknowledgement.
    pub(super) acknowledgement: Histogram<u64>,
    /// Those that the generator wrote more than a millisecond late.
    pub(super) late: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, 3);
        Ok(Self {
            published: 0,
            deliveries: 0,
            took: Duration::ZERO,
            generator: 0.0,
            delivery: histogram()?,
            acknowledgement: histogram()?,
            late: 0,
        })
    }

    fn note(&mut self, event: &Event, since: Instant) {
        let latency = event.at.saturating_duration_since(since).as_nanos() as u64;
        match event.what {
            What::Delivery(_) => {
                self.deliveries += 1;
                self.delivery.saturating_record(latency);
            }
            What::Ok(_) => self.acknowledgement.saturating_record(latency),
        }
    }

    /// Notes an acknowledgement that did not come through a hall.
    pub(super) fn acknowledge(&mut self, latency: Duration) {
        self.acknowledgement.saturating_record(latency.as_nanos() as u64);
    }

    fn finish(mut self, start: Instant, hall: &Hall, busy_before: Duration) -> Self {
        self.took = start.elapsed();
        let busy = hall.busy().saturating_sub(busy_before);
        self.generator = busy.as_secs_f64() * 100.0 / self.took.as_secs_f64();
        self
    }
}

/// The value in microseconds below which the share `quantile` lies.
pub(super) fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

impl Event {
    /// The number of the signal or message this belongs to.
    fn number(&self) -> u32 {
        match self.what {
            What::Delivery(number) | What::Ok(number) => number,
        }
    }
}

/// What a room's publisher has written and not everyone has yet.
#[derive(Default)]
struct Flight {
    first: u32,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    since: Instant,
    left: u32,
}

/// Keeps `in_flight` under way in each room for `span`: the next is written when the last receiver has one.
pub(super) fn closed(hall: &mut Hall, kind: Kind, in_flight: usize, span: Duration) -> Result<Tally> {
    let echoes = kind.echoes(hall);
    let mut flights: Vec<Flight> = Vec::new();
    for room in 0..hall.shape.rooms {
        flights.push(Flight { first: hall.number(room), waiting: VecDeque::with_capacity(in_flight) });
    }
    let mut tally = Tally::new()?;
    let busy = hall.busy();
    let start = Instant::now();
    for _ in 0..in_flight {
        for (room, flight) in flights.iter_mut().enumerate() {
            flight.waiting.push_back(Waiting { since: Instant::now(), left: echoes });
            kind.publish(hall, room)?;
        }
    }
    tally.published = (in_flight * flights.len()) as u64;
    let mut open = tally.published;
    let mut heard = Instant::now();
    while open > 0 {
        hall.glance(CLOSED_PAUSE, None)?;
        if hall.events.is_empty() {
            ensure!(heard.elapsed() < PROGRESS_WAIT, "{open} were not heard by all within {PROGRESS_WAIT:?}");
            continue;
        }
        let events = std::mem::take(&mut hall.events);
        for event in &events {
            heard = event.at;
            let room = hall.shape.room(event.member);
            let flight = &mut flights[room];
            let place = event.number().wrapping_sub(flight.first) as usize;
            let Some(waiting) = flight.waiting.get_mut(place) else { continue };
            tally.note(event, waiting.since);
            waiting.left -= 1;
            while flight.waiting.front().is_some_and(|waiting| waiting.left == 0) {
                flight.waiting.pop_front();
                flight.first += 1;
                open -= 1;
                if heard - start < span {
                    flight.waiting.push_back(Waiting { since: Instant::now(), left: echoes });
                    kind.publish(hall, room)?;
                    tally.published += 1;
                    open += 1;
                }
            }
        }
        hall.events = events;
    }
    Ok(tally.finish(start, hall, busy))
}

/// Publishes `count`, evenly at `per_second`, each in the next room, and returns when all have been heard by all.
///
/// Latencies count from when each was due, so a generator or a server that falls behind cannot hide it.
pub(super) fn paced(hall: &mut Hall, kind: Kind, per_second: f64, count: u64) -> Result<Tally> {
    let rooms = hall.shape.rooms as u64;
    let bases: Vec<u32> = (0..hall.shape.rooms).map(|room| hall.number(room)).collect();
    let due = |place: u64| Duration::from_secs_f64(place as f64 / per_second);
    let awaited = count * u64::from(kind.echoes(hall));
    let end = due(count) + DRAIN_WAIT;
    let mut tally = Tally::new()?;
    let mut heard = 0;
    let busy = hall.busy();
    let start = Instant::now();
    while tally.published < count || heard < awaited {
        let now = start.elapsed();
        ensure!(now < end, "{} of {count} were published, {heard} of {awaited} heard", tally.published);
        for _ in 0..CATCH_UP {
            let due = due(tally.published);
            if tally.published == count || due > now {
                break;
            }
            tally.late += u64::from(now - due > LATE);
            kind.publish(hall, (tally.published % rooms) as usize)?;
            tally.published += 1;
        }
        hall.glance(PACED_PAUSE, Some(start + due(tally.published)))?;
        let events = std::mem::take(&mut hall.events);
        for event in &events {
            let room = hall.shape.room(event.member);
            let place = u64::from(event.number() - bases[room]) * rooms + room as u64;
            tally.note(event, start + due(place));
        }
        heard += events.len() as u64;
        hall.events = events;
    }
    Ok(tally.finish(start, hall, busy))
}
