//! What a hostile server does to whoever connects, one row and one function each.
//!
//! A behaviour gets a [`Guest`] and the number of its earlier guests, so that it can do one thing to the first and
//! another to the next. It ends when the guest has ended or its time is over; then the link is closed.
//!
//! To add one: write its function, add its row, and say in `judged` what is asked of a client, the most telling first.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use serde_json::json;

use super::guest::Guest;
use super::judge::Judged;
use super::visit::{Speaks, Told};
use crate::frame::Framing;
use crate::plan::Length;

/// What a behaviour does to one client.
type Act<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A way to be bad to clients.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// What it is called.
    pub name: &'static str,
    /// What the server does, in a sentence.
    pub about: &'static str,
    /// What is asked of a client.
    pub(super) judged: &'static [Judged],
    /// Does it to a client; before it there were so many.
    pub(super) act: for<'a> fn(&'a mut Guest, u32) -> Act<'a>,
}

macro_rules! behaviours {
    ($($name:literal $act:ident $about:literal [$($judged:ident)*])*) => {
        /// All of them, in the order in which a rotation has them.
        pub const BEHAVIOURS: &[Behaviour] = &[$(Behaviour {
            name: $name,
            about: $about,
            judged: &[$(Judged::$judged),*],
            act: |guest, nth| Box::pin($act(guest, nth)),
        }),*];
    };
}

behaviours! {
    "flood" flood "Sends valid messages and signals without end, as fast as they are read."
        [BeatsOn Memory OneLink]
    "stall" stall "Welcomes, then answers nothing while the link stays open."
        [GivesUp ComesBack Pauses OneLink Memory Calm]
    "half-answer" half_answer "Welcomes, then sends half a frame and no more."
        [GivesUp ComesBack Pauses OneLink Memory Calm]
    "lengths" lengths "Lies about lengths: huge, negative, one too many, one too few, zero."
        [GivesUp ComesBack Pauses BacksOff Jitters OneLink Memory Calm]
    "mute" mute "Accepts and never says a word."
        [GivesUp ComesBack Pauses OneLink Memory Calm]
    "cut" cut "Welcomes, then closes in the middle of a frame, every second time by a reset."
        [ComesBack Pauses BacksOff Jitters OneLink Memory Calm]
    "garbage" garbage "Welcomes, then sends noise without end."
        [GivesUp ComesBack Pauses BacksOff Jitters OneLink Memory]
    "bombs" bombs "Welcomes, then sends JSON that hurts: nested 20,000 deep, numbers beyond all bounds, invalid UTF-8. \
                   To those who stay it is a sound server."
        [StillHere Pauses OneLink Memory Calm]
    "dribble" dribble "Welcomes, then sends a frame at a byte a second."
        [GivesUp ComesBack Pauses OneLink Memory Calm]
    "slow" slow "Welcomes, then reads nothing and says nothing."
        [GivesUp ComesBack Pauses OneLink Memory Calm]
    "nag" nag "Welcomes, then asks for beats without end and reads none of them."
        [Memory Pauses]
    "refuse" refuse "Refuses hello for a while (1202), says goodbye with a time to wait (4001), without one (4006), and \
                     at last for good (4503)."
        [StaysAway WaitsAsTold Pauses OneLink Memory Calm]
}

/// The behaviour of that name.
pub fn find(name: &str) -> Option<&'static Behaviour> {
    BEHAVIOURS.iter().find(|behaviour| behaviour.name == name)
}

/// Text in each flooded message, in bytes: of the size that chat has at most on most servers.
const FLOOD_TEXT: usize = 1000;
/// Frames that are written at once.
const FLOOD_FRAMES: usize = 128;
/// The first number of a message: all have as many digits, so that one can be written over another.
const FLOOD_SEQ: u64 = 1_000_000_000_000_000;

async fn flood(guest: &mut Guest, _: u32) {
    let (mut frames, places) = flood_of(guest.framing());
    if !guest.greet().await {
        return;
    }
    guest.take_turn();
    let mut seq = FLOOD_SEQ;
    loop {
        for place in &places {
            seq += 1;
            frames[place.clone()].copy_from_slice(seq.to_string().as_bytes());
        }
        if !guest.send_frames(&frames).await {
            return;
        }
    }
}

/// The frames of a flood, each with the place of its number: it floods better when it doesn't write all of them anew.
fn flood_of(framing: Framing) -> (Vec<u8>, Vec<Range<usize>>) {
    let text = "flood ".repeat(FLOOD_TEXT / 6);
    let mark = FLOOD_SEQ.to_string();
    let (mut frames, mut places) = (Vec::new(), Vec::new());
    for nth in 0..FLOOD_FRAMES {
        let body = match nth % 4 {
            0 => format!(r#"{{"op":"signal","room":"flood","from":"mallory","key":"{mark}","data":"{text}"}}"#),
            _ => format!(
                r#"{{"op":"message","seq":{mark},"room":"flood","from":"mallory","text":"{text}","time_ms":1}}"#
            ),
        };
        let at = body.find(&mark).unwrap_or_default();
        let start = frames.len() + framing.header() + at;
        framing.write(&body.as_bytes()[..body.len().min(framing.max as usize)], &mut frames);
        // Somebody else's frames may be too short to have a number.
        if start + mark.len() <= frames.len() {
            places.push(start..start + mark.len());
        }
    }
    (frames, places)
}

async fn stall(guest: &mut Guest, _: u32) {
    if guest.greet().await {
        guest.hold_out().await;
    }
}

async fn half_answer(guest: &mut Guest, _: u32) {
    if !guest.greet().await {
        return;
    }
    let body = br#"{"op":"beat","t":1234567,"detect_ms":65000}"#;
    let mut frame = Vec::new();
    guest.framing().write(body, &mut frame);
    if guest.send(&frame[..frame.len() / 2]).await {
        guest.hold_out().await;
    }
}

async fn lengths(guest: &mut Guest, nth: u32) {
    if !guest.greet().await {
        return;
    }
    let framing = guest.framing();
    let body = br#"{"op":"beat","t":1}"#;
    let length = body.len() as u64 + if framing.includes_header { framing.header() as u64 } else { 0 };
    let said = [u64::from(u32::MAX), 0x8000_0000, 0x7fff_ffff, length + 1, length - 1, 0];
    let mut frame = Vec::new();
    framing.write_length(said[nth as usize % said.len()], &mut frame);
    frame.extend_from_slice(body);
    if guest.send(&frame).await {
        guest.hold_out().await;
    }
}

async fn mute(guest: &mut Guest, _: u32) {
    guest.hold_out().await;
}

async fn cut(guest: &mut Guest, nth: u32) {
    if !guest.greet().await {
        return;
    }
    let mut frame = Vec::new();
    guest.framing().write(br#"{"op":"message","room":"cut","seq":1,"from":"mallory"}"#, &mut frame);
    if guest.send(&frame[..frame.len() / 2]).await && nth % 2 == 1 {
        guest.will_reset();
    }
}

async fn garbage(guest: &mut Guest, nth: u32) {
    if !guest.greet().await {
        return;
    }
    guest.take_turn();
    let mut noise = vec![0; 16 * 1024];
    let mut rng = rand::rngs::StdRng::seed_from_u64(u64::from(nth));
    rng.fill_bytes(&mut noise);
    // Of our frames the first byte is zero: no part of this is by chance one of them.
    noise[0] |= 0x80;
    while guest.send(&noise).await {}
}

/// Deep enough to end a parser that recurses, and still within the frame limit.
const DEPTH: usize = 20_000;
/// Digits of a number.
const DIGITS: usize = 30_000;

async fn bombs(guest: &mut Guest, nth: u32) {
    if !guest.greet().await {
        return;
    }
    let around = |data: &[u8]| [br#"{"op":"signal","room":"r","from":"m","data":"#, data, b"}"].concat();
    guest.take_turn();
    let (open, close, nines) = ("[".repeat(DEPTH), "]".repeat(DEPTH), "9".repeat(DIGITS));
    let bomb = match nth % 6 {
        0 => around(format!("{open}{close}").as_bytes()),
        1 => around(open.as_bytes()),
        2 => around(nines.as_bytes()),
        3 => format!(r#"{{"op":"beat","t":{nines},"detect_ms":1e999999,"interval_ms":-1}}"#).into_bytes(),
        4 => around(b"\"\xff\xfe\xc0\x80\xed\xa0\x80\""),
        _ => around(br#""\ud800\u0000\uffff""#),
    };
    let most = guest.framing().max as usize;
    if guest.send_frame(&bomb[..bomb.len().min(most)]).await {
        guest.serve().await;
    }
}

/// Between two bytes.
const DRIBBLE: Duration = Duration::from_secs(1);

async fn dribble(guest: &mut Guest, _: u32) {
    if !guest.greet().await {
        return;
    }
    let mut frame = Vec::new();
    guest.framing().write(br#"{"op":"notice","kind":"text","text":"a byte a second is no life"}"#, &mut frame);
    for byte in frame {
        if !guest.send(&[byte]).await || !guest.rest(DRIBBLE).await {
            return;
        }
    }
}

async fn slow(guest: &mut Guest, _: u32) {
    guest.shrink();
    if guest.greet().await {
        guest.ignore().await;
    }
}

/// The end of a client whose beats fill all buffers isn't seen here before they are read, so its links may seem to
/// overlap: that isn't asked.
async fn nag(guest: &mut Guest, _: u32) {
    guest.shrink();
    if !guest.greet().await {
        return;
    }
    guest.take_turn();
    for id in 1_u32.. {
        let body = json!({ "op": "beat", "id": id, "now": true }).to_string();
        if !guest.send_unread(body.as_bytes()).await {
            return;
        }
    }
}

async fn refuse(guest: &mut Guest, nth: u32) {
    if !guest.hear_first().await || guest.speaks() != Some(Speaks::V1) {
        return;
    }
    const RETRY: Duration = Duration::from_millis(1500);
    let retry_ms = RETRY.as_millis() as u64;
    match nth {
        0 => {
            let body = json!({
                "op": "error", "code": 1202, "name": "busy", "message": "too much to do", "temporary": true,
                "retry_ms": retry_ms,
            });
            guest.dismiss(&body, Told::After(RETRY)).await;
        }
        1 => bye(guest, 4001, Some(RETRY)).await,
        2 => bye(guest, 4006, None).await,
        _ => bye(guest, 4503, None).await,
    }
}

async fn bye(guest: &mut Guest, code: u16, retry: Option<Duration>) {
    if !guest.greet().await {
        return;
    }
    let mut body = json!({ "op": "bye", "code": code, "reason": "because" });
    if let (Some(retry), Some(fields)) = (retry, body.as_object_mut()) {
        fields.insert("retry_ms".to_owned(), (retry.as_millis() as u64).into());
    }
    let told = if code >= 4500 { Told::Never } else { Told::After(retry.unwrap_or_default()) };
    guest.dismiss(&body, told).await;
}

/// Whether a behaviour makes sense with somebody else's frames.
pub(super) fn suits(behaviour: &Behaviour, framing: Option<Framing>) -> bool {
    match framing.map(|framing| framing.length) {
        None => true,
        Some(Length::Line | Length::Raw) => !["lengths", "nag", "refuse"].contains(&behaviour.name),
        Some(_) => !["nag", "refuse"].contains(&behaviour.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_core::wire::frame::Decoder;

    #[test]
    fn a_flood_is_of_sound_frames_wherever_its_numbers_stand() {
        let (mut frames, places) = flood_of(Framing::STILLHERE);
        assert_eq!(places.len(), FLOOD_FRAMES);
        for (nth, place) in (1..).zip(places) {
            frames[place].copy_from_slice((FLOOD_SEQ + nth).to_string().as_bytes());
        }
        let (mut decoder, mut rest, mut count) = (Decoder::default(), &frames[..], 0);
        while let Some(body) = decoder.next(&mut rest, 64 * 1024).unwrap() {
            let said: serde_json::Value = serde_json::from_slice(body).unwrap();
            count += 1;
            let number = said["seq"].as_u64().or_else(|| said["key"].as_str()?.parse().ok());
            assert_eq!(number, Some(FLOOD_SEQ + count), "{said}");
        }
        assert_eq!((count, decoder.kept_bytes()), (FLOOD_FRAMES as u64, 0));
        let small = Framing { length: Length::U8, includes_header: true, max: 20, speaks_v1: false };
        let (frames, places) = flood_of(small);
        assert_eq!((frames.len(), places.len()), (FLOOD_FRAMES * 21, 0));
    }

    #[test]
    fn behaviours_have_different_names_and_something_to_ask() {
        for (nth, behaviour) in BEHAVIOURS.iter().enumerate() {
            assert!(!behaviour.judged.is_empty() && behaviour.about.ends_with('.'), "{}", behaviour.name);
            assert_eq!(find(behaviour.name).map(|found| found.about), Some(behaviour.about));
            assert!(BEHAVIOURS[..nth].iter().all(|other| other.name != behaviour.name));
        }
    }
}
