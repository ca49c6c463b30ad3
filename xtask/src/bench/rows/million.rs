//! A million sessions in one shard, in this process and without sockets: what upkeep costs and how many bytes each
//! takes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use stillhere_core::event::{Input, LinkId, Outputs, Seat, Terms};
use stillhere_core::profile::Profile;
use stillhere_core::shard::Shard;
use stillhere_core::time::Time;
use stillhere_core::wire::frame::write_frame;

use crate::bench::Bench;
use crate::bench::process::Memory;
use crate::bench::row::{Figure, Goal, Row};

const SESSIONS: u32 = 1_000_000;
const INTERVAL: Duration = Duration::from_secs(10);
/// The shard is woken this often, and gets the beats of this time at once.
const STEP: Duration = Duration::from_millis(16);
/// Virtual time that is measured, after one interval in which everybody arrives and one to settle.
const MEASURED: Duration = Duration::from_secs(30);

/// Upkeep in percent of a core, bytes of resident memory a session, and the CPU of a beat in the core alone.
pub(crate) fn measure(_bench: &Bench) -> Result<Vec<Row>> {
    let before = Memory::of(std::process::id())?.resident;
    let mut crowd = Crowd::new();
    crowd.pass(INTERVAL, true);
    crowd.pass(INTERVAL, false);
    let after = Memory::of(std::process::id())?.resident;
    ensure!(crowd.shard.session_count() == SESSIONS as usize, "{} sessions", crowd.shard.session_count());
    let (upkeep_before, beats_before) = (crowd.upkeep, crowd.beats);
    crowd.pass(MEASURED, false);
    let (upkeep, beats) = (crowd.upkeep - upkeep_before, crowd.beats - beats_before);
    let stats = crowd.shard.stats();
    ensure!(stats.misses == 0 && stats.stalls == 0, "{} misses, {} stalls", stats.misses, stats.stalls);
    let percent = upkeep.as_secs_f64() / MEASURED.as_secs_f64() * 100.0;
    let bytes = (after - before) as f64 / f64::from(SESSIONS);
    let beat = beats.as_secs_f64() * 1e6 / (f64::from(SESSIONS) * MEASURED.as_secs_f64() / INTERVAL.as_secs_f64());
    let row = |what, value, unit| Row::new("million", what, Figure::alone(value), unit);
    Ok(vec![
        row("upkeep of 1,000,000 sessions beating every 10 s, of a core", percent, "%")
            .must(Goal::AtMost(2.0))
            .aim(Goal::AtMost(0.5)),
        row("memory of each, its link included", bytes, "B").must(Goal::AtMost(256.0)).aim(Goal::AtMost(160.0)),
        row("a legacy beat in the core alone", beat, "µs"),
    ])
}

struct Crowd {
    shard: Shard,
    out: Outputs,
    now: Time,
    next: u32,
    upkeep: Duration,
    beats: Duration,
}

impl Crowd {
    fn new() -> Crowd {
        let profile = Profile::default();
        let terms = Terms {
            interval: INTERVAL,
            interval_max: INTERVAL,
            ask_at: None,
            node: "bench".into(),
            ..Terms::of(&profile)
        };
        let shard = Shard::new(terms, [1; 32], Seat::ALONE, Time::ZERO);
        let (out, zero) = (Outputs::default(), Duration::ZERO);
        Crowd { shard, out, now: Time::ZERO, next: 0, upkeep: zero, beats: zero }
    }

    /// Lets virtual time pass. Everybody beats once an interval, each at its own moment; with `arrive` it is the first.
    fn pass(&mut self, span: Duration, arrive: bool) {
        let end = self.now + span;
        let each_step = u64::from(SESSIONS) * STEP.as_micros() as u64 / INTERVAL.as_micros() as u64;
        while self.now < end {
            self.now = self.now + STEP;
            let began = thread_time();
            self.handle(Input::Tick { wall_ms: 0 });
            self.upkeep += thread_time() - began;
            let to_come = u64::from((SESSIONS - self.next) % SESSIONS);
            let last_arrivals = if self.now >= end && arrive { to_come } else { 0 };
            let frames: Vec<_> =
                (0..each_step.max(last_arrivals)).map(|n| frame((self.next + n as u32) % SESSIONS)).collect();
            let began = thread_time();
            for frame in &frames {
                self.beat(frame, arrive);
            }
            self.beats += thread_time() - began;
        }
    }

    fn beat(&mut self, frame: &[u8], arrive: bool) {
        let number = self.next;
        self.next = (number + 1) % SESSIONS;
        let link = LinkId(number);
        if arrive {
            self.handle(Input::Opened { link, peer: SocketAddr::from((address(number), 4000)).into() });
        }
        self.handle(Input::Received { link, bytes: frame });
    }

    fn handle(&mut self, input: Input<'_>) {
        self.out.clear();
        self.shard.handle(self.now, input, &mut self.out);
    }
}

fn address(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [10, a, b, c]
}

/// The tutorial's heartbeat of a client, which knows its own address.
fn frame(number: u32) -> Vec<u8> {
    let [a, b, c, d] = address(number);
    let mut frame = Vec::new();
    write_frame(&mut frame, |out| {
        let body = format!(r#""{{\"ip\": \"{a}.{b}.{c}.{d}\", \"status\": \"alive\", \"pid\": {number}}}""#);
        out.extend_from_slice(body.as_bytes());
    });
    frame
}

/// CPU time of this thread: other work on the machine doesn't count.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).context("a clock before its own beginning").unwrap_or_default()
}
