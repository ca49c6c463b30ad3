//! What isn't anybody's order: handled marks to write, old messages to delete.
//!
//! Retention runs in small steps, one in each transaction and one whenever there is nothing else: by count when a stream
//! has grown over its limit, by age in a sweep through all streams.

use stillhere_core::ledger::StreamId;

use super::super::base::{Kept, Kind, Rows, Trim};
use super::Ledger;

/// How long a handled mark may wait to be written.
const HANDLED_WAIT_MS: u64 = 1000;
/// Rows that one step of retention looks at, unless more were written meanwhile.
const TRIM_STEP: u64 = 256;
/// By how much a stream may be over its limit before it is trimmed: so that not every message pays for another.
const TRIM_SLACK: u64 = 64;
/// Streams that one step of the sweep by age looks at.
const SWEEP_STEP: u32 = 64;
/// How often a sweep through all streams begins.
const SWEEP_EVERY_MS: u64 = 600_000;
/// The time between two steps of a sweep.
const SWEEP_PAUSE_MS: u64 = 50;

impl Ledger {
    /// What isn't anybody's order: marks to write, streams to trim. Called in each transaction, and when `duty_at`
    /// has come.
    pub(in super::super) fn duties(&mut self, rows: &mut dyn Rows) -> Kept<()> {
        if self.marks_are_due() {
            self.write_marks(rows)?;
        }
        let rows_max = TRIM_STEP.max(2 * std::mem::take(&mut self.posted));
        if let Some((stream, kind)) = self.trims.pop_first() {
            self.trim(rows, stream, kind, rows_max)?;
        } else if self.sweep_at_ms <= self.now_ms && self.rules.keep_for_ms > 0 {
            let streams = rows.streams_after(self.sweep.unwrap_or(StreamId(0)), SWEEP_STEP)?;
            self.sweep = streams.last().map(|(stream, _)| *stream);
            self.sweep_at_ms = self.now_ms + if streams.is_empty() { SWEEP_EVERY_MS } else { SWEEP_PAUSE_MS };
            for (stream, kind) in streams {
                self.trim(rows, stream, kind, TRIM_STEP)?;
            }
        }
        Ok(())
    }

    pub(in super::super) fn write_marks(&mut self, rows: &mut dyn Rows) -> Kept<()> {
        for (mailbox, position) in &self.handled {
            rows.set_handled(*mailbox, *position)?;
        }
        self.marks_written = true;
        Ok(())
    }

    /// Whether the marks have waited long enough to be written.
    pub(super) fn marks_are_due(&self) -> bool {
        !self.handled.is_empty() && self.handled_since_ms + HANDLED_WAIT_MS <= self.now_ms
    }

    /// When `duties` wants to be called, if nothing else happens.
    pub(in super::super) fn duty_at(&self) -> Option<u64> {
        let trim = (!self.trims.is_empty()).then_some(0);
        let mark = (!self.handled.is_empty()).then_some(self.handled_since_ms + HANDLED_WAIT_MS);
        let sweep = (self.rules.keep_for_ms > 0).then_some(self.sweep_at_ms);
        [trim, mark, sweep].into_iter().flatten().min()
    }

    fn trim(&mut self, rows: &mut dyn Rows, stream: StreamId, kind: Kind, rows_max: u64) -> Kept<()> {
        let ends = match kind {
            Kind::Mailbox => match self.boxes.get(&stream, self.turn) {
                Some(letters) => letters.ends,
                None => rows.letters(stream)?.ends,
            },
            Kind::Room | Kind::Conversation => match self.rooms.get(&stream, self.turn) {
                Some(room) => room.ends,
                None => rows.ends(stream)?,
            },
        };
        let upto = match self.rules.keep_messages {
            0 => 0,
            keep => ends.head.saturating_sub(keep),
        };
        let before_ms = match self.rules.keep_for_ms {
            0 => 0,
            keep_for_ms => self.now_ms.saturating_sub(keep_for_ms),
        };
        let (trimmed, more) = rows.trim(stream, kind, Trim { upto, before_ms, rows_max })?;
        if trimmed > 0 {
            match kind {
                // The next use counts again what is waiting.
                Kind::Mailbox => self.boxes.remove(&stream),
                Kind::Room => {
                    if let Some(room) = self.rooms.get(&stream, self.turn) {
                        room.ends.trimmed = trimmed;
                    }
                    self.touched.insert(stream);
                }
                Kind::Conversation => drop(self.touched.insert(stream)),
            }
        }
        if more {
            self.trims.insert(stream, kind);
        }
        Ok(())
    }

    /// Has a stream trimmed that has grown over its limit.
    pub(super) fn check_length(&mut self, stream: StreamId, kind: Kind, head: u64, trimmed: u64) {
        let keep = self.rules.keep_messages;
        if keep > 0 && head.saturating_sub(trimmed) > keep + TRIM_SLACK && head.is_multiple_of(TRIM_SLACK) {
            self.trims.insert(stream, kind);
        }
    }
}
