//! Readers that don't read.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::ground::{Ground, Link};
use super::talk::{Talker, enter, outstay, words};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "slow-reader",
    about: "Enters, joins a room in which every tenth attacker talks and signals as much as it may, beats as it should, \
            and never reads a byte. A sound server keeps little for it, closes it (4005), and lets nobody else in the \
            room wait; who isn't ended after 30 s is overdue. Needs registration or names that are claims: ten \
            attackers share an account.",
    against: Against::Gateway,
    size: 4096,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Every so manyth attacker talks.
const TALKERS: u32 = 10;
/// Rooms that the talkers spread over.
const ROOMS: u32 = 10;
/// What a reader's kernel takes for it, in bytes: as little as it lets one choose.
const RECEIVE_BUFFER: usize = 2048;
/// Who doesn't read is to be ended within this: some three times what a sound server takes.
const DUE: Duration = Duration::from_secs(30);
/// How often a reader looks whether it was ended.
const LOOK: Duration = Duration::from_secs(1);
/// A talker's pace: signals a second that ours allows a session, and how many of them are messages instead.
const SIGNALS_PER_SECOND: u32 = 100;
const SAY_EVERY: u64 = 5;

async fn attacker(ground: Rc<Ground>, index: u32) {
    let room = format!("storm-slow-{}", index / TALKERS % ROOMS);
    while ground.turn().await {
        let Some(mut talker) = enter(&ground, index).await else { continue };
        if !talker.join(&room).await {
            continue;
        }
        if index.is_multiple_of(TALKERS) {
            talk(&ground, &mut talker, &room).await;
        } else {
            stop_reading(&ground, &mut talker.link, DUE, LOOK).await;
        }
    }
}

/// Talks to the room until the link's end.
async fn talk(ground: &Rc<Ground>, talker: &mut Talker, room: &str) {
    let size = ground.plan.size as usize;
    let mut frame = Vec::new();
    let mut next = Instant::now();
    for nth in 0_u64.. {
        next = next.max(Instant::now()) + Duration::from_secs(1) / SIGNALS_PER_SECOND;
        sleep_until(next).await;
        let text = words(nth, size);
        let said: Value = match nth % SAY_EVERY {
            0 => json!({ "op": "say", "room": room, "text": text }),
            key => json!({ "op": "signal", "room": room, "key": format!("k{key}"), "data": text }),
        };
        frame.clear();
        ground.framing.write(said.to_string().as_bytes(), &mut frame);
        if !talker.send(&frame).await {
            return;
        }
    }
}

/// Beats and never reads, until the link's end. The beats keep it from being cut for its silence, and are how it learns
/// of the end: a target that still has something to send can't say that it has closed until it is written to.
async fn stop_reading(ground: &Rc<Ground>, link: &mut Link, due: Duration, look: Duration) {
    // A kernel that keeps its own mind only takes a little longer to fill.
    let _ = socket2::SockRef::from(&*link.stream()).set_recv_buffer_size(RECEIVE_BUFFER);
    let mut beat = Vec::new();
    ground.framing.write(br#"{"op":"beat"}"#, &mut beat);
    let mut last = Instant::now();
    outstay(ground, link, due, look, |ground, link| {
        if last.elapsed() < ground.plan.interval {
            return true;
        }
        last = Instant::now();
        match link.stream().try_write(&beat) {
            Ok(count) => {
                ground.count().sent_bytes += count as u64;
                // A part of a beat would make nonsense of what follows; so small a buffer is nobody's.
                count == beat.len()
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run, sound};
    use super::*;

    #[test]
    fn the_first_talks_and_the_next_beats_and_reads_nothing() {
        run(async {
            // Whoever joins is sent more than any buffer takes; the fake notes how much of it was read.
            let mut fake = Fake::start(|_, said| {
                let mut answers = sound(said)?;
                if said["op"] == "join" {
                    let much = words(1, 60_000);
                    answers.extend((0..100).map(|_| json!({ "op": "signal", "data": much })));
                }
                Some(answers)
            });
            let ground = fake.ground("slow-reader");
            fake.attack(&ATTACK, &ground, &[1]);
            assert_eq!(fake.next("join").await.1["room"], "storm-slow-0");
            fake.next("beat").await;
            let received = ground.count().received_bytes;
            fake.next("beat").await;
            fake.next("beat").await;
            assert_eq!(ground.count().received_bytes, received);
            assert!(received < 10_000, "{received}");

            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("slow-reader");
            fake.attack(&ATTACK, &ground, &[20]);
            for op in ["say", "signal", "signal", "signal", "signal", "say"] {
                let (_, said) = fake.any_of(&["say", "signal"]).await;
                assert_eq!((&said["op"], &said["room"]), (&json!(op), &json!("storm-slow-2")));
            }
        });
    }

    #[test]
    fn who_is_never_ended_is_overdue_and_who_is_isnt() {
        run(async {
            let mut fake = Fake::start(|_, said| match said["op"].as_str() {
                Some("bye") => None,
                _ => sound(said),
            });
            let ground = fake.ground("slow-reader");
            let mut link = ground.connect().await.unwrap();
            let (due, look) = (Duration::from_millis(30), Duration::from_millis(5));
            {
                let stopped = stop_reading(&ground, &mut link, due, look);
                tokio::pin!(stopped);
                tokio::select! {
                    () = &mut stopped => panic!("nobody ended it"),
                    () = fake.until(|| ground.count().overdue == 1) => {}
                }
            }
            assert_eq!(ground.count().overdue, 0, "it is counted for as long as it is there");
            assert!(link.send_frame(br#"{"op":"bye"}"#).await);
            stop_reading(&ground, &mut link, Duration::from_secs(30), look).await;
            let counts = ground.count().clone();
            assert_eq!((counts.overdue, counts.ended), (0, 1));
            fake.next("bye").await;
        });
    }
}
