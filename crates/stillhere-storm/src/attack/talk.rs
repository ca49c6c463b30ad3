//! What attackers of chat share: a way in under a name, links that are read while they are written, and what is overdue.
//!
//! It knows the wire as the documents tell it, and nothing of the gateway's code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, Interest, Ready};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::ground::{Ground, Heard, Link};

/// So many attackers share an account. Making one costs the target some 40 ms, so 1,000 attackers are in within four
/// seconds; and with its 60 links a minute for each user every attacker may come back six times.
pub(super) const SHARE: u32 = 10;
/// Who wasn't let in rests so long, or as long as the target says, but no longer than [`REST_MAX`].
const REST: Duration = Duration::from_secs(1);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(5);
/// Frames that are read before the next one is sent: whoever is written to faster than this still gets to write.
const READ_MAX: usize = 64;
/// Every so manyth attacker of a flood disregards the frames a second that the welcome allows; the others keep just
/// below, as somebody does who wants to stay.
const RECKLESS: u32 = 4;
/// The share of the allowed rate that the others use.
const TEMPO: f64 = 0.9;

/// How attackers of one account get in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// Nobody has tried yet, or the last way is no more.
    Unknown,
    /// Names are claims here: hello is enough.
    Claim,
    /// The account's token: cheap for the target, as a login isn't.
    Token(String),
}

/// The accounts of all attackers of a run, whatever their attack.
#[derive(Default)]
pub(crate) struct Desks(RefCell<HashMap<u32, Rc<Mutex<Way>>>>);

impl Desks {
    /// An account, behind a lock: the first to come makes it, the others wait for that.
    fn desk(&self, account: u32) -> Rc<Mutex<Way>> {
        self.0.borrow_mut().entry(account).or_insert_with(|| Rc::new(Mutex::new(Way::Unknown))).clone()
    }
}

/// An attacker that is a user.
pub(super) struct Talker {
    pub(super) link: Link,
    ground: Rc<Ground>,
    /// Frames a second that the target allows on a link; 0 for no limit.
    pub(super) frames_per_second: f64,
}

/// Opens a link and becomes a user, with whatever the target has for that: an account that a few attackers share, or a
/// claim. `None` if it didn't come to that; it has rested then.
pub(super) async fn enter(ground: &Rc<Ground>, index: u32) -> Option<Talker> {
    let account = index / SHARE;
    let desk = ground.desks.desk(account);
    let mut way = desk.lock().await;
    let known = way.clone();
    if known == Way::Unknown {
        // Held meanwhile, so that one account is made once.
        let mut talker = greet(ground, index).await?;
        let Some(made) = talker.make(account).await else { return turned_away(ground) };
        *way = made;
        return Some(talker);
    }
    drop(way);
    let mut talker = greet(ground, index).await?;
    let Way::Token(token) = &known else { return Some(talker) };
    match talker.link.ask(&json!({ "op": "token", "token": token, "id": 1 })).await {
        Some(reply) if reply["op"] == "ok" => Some(talker),
        refused => {
            let mut way = desk.lock().await;
            if *way == known && code_of(&refused) == Some(1105) {
                *way = Way::Unknown;
            }
            drop(way);
            rest(&refused).await;
            turned_away(ground)
        }
    }
}

/// Opens a link and says hello under a name of the attacker's own, which is a label unless names are claims.
async fn greet(ground: &Rc<Ground>, index: u32) -> Option<Talker> {
    let mut link = ground.connect().await?;
    let Some(welcome) = link.hello(Some(&name(ground.seed, "a", index))).await else {
        sleep(REST).await;
        return turned_away(ground);
    };
    let frames_per_second = welcome["limits"]["frames_per_second"].as_f64().unwrap_or(0.0);
    Some(Talker { link, ground: ground.clone(), frames_per_second })
}

/// Counts somebody who was connected and isn't let in.
fn turned_away(ground: &Ground) -> Option<Talker> {
    let mut counts = ground.count();
    counts.turned_away += 1;
    // It was no try of what this attack is.
    counts.tries = counts.tries.saturating_sub(1);
    None
}

/// A name that only this seed has, so that a target that keeps its accounts knows the same password again.
fn name(seed: u64, kind: &str, number: u32) -> String {
    format!("storm-{seed:x}-{kind}{number}")
}

/// The code of a refusal.
fn code_of(reply: &Option<Value>) -> Option<u64> {
    reply.as_ref()?["code"].as_u64()
}

/// Waits as long as a refusal says, within bounds.
async fn rest(reply: &Option<Value>) {
    let wanted = reply.as_ref().and_then(|reply| reply["retry_ms"].as_u64()).map(Duration::from_millis);
    sleep(wanted.unwrap_or(REST).clamp(REST / 10, REST_MAX)).await;
}

impl Talker {
    /// Makes the account, or finds it made. `None` if the target doesn't let it.
    async fn make(&mut self, account: u32) -> Option<Way> {
        let user = name(self.ground.seed, "u", account);
        let password = format!("storm over tall grass {:x}", self.ground.seed);
        let mut reply = None;
        for op in ["register", "login"] {
            let request = json!({ "op": op, "user": user, "password": password, "remember": true, "id": 1 });
            reply = self.link.ask(&request).await;
            if let Some(token) = reply.as_ref().and_then(|reply| reply["token"].as_str()) {
                return Some(Way::Token(token.to_owned()));
            }
            match code_of(&reply) {
                // No accounts here.
                Some(1101) => return Some(Way::Claim),
                // The name is taken, by an earlier storm; or nobody may register, and the operator has made it.
                Some(1106 | 1109) => {}
                _ => break,
            }
        }
        rest(&reply).await;
        None
    }

    /// Joins a room; whether it is in.
    pub(super) async fn join(&mut self, room: &str) -> bool {
        let reply = self.link.ask(&json!({ "op": "join", "room": room, "id": 1 })).await;
        if reply.as_ref().is_some_and(|reply| reply["op"] == "ok") {
            return true;
        }
        rest(&reply).await;
        false
    }

    /// Sends frames and reads what comes meanwhile; false once the target has ended the link. A target that reads no
    /// more is read on, for as long as it takes.
    pub(super) async fn send(&mut self, frames: &[u8]) -> bool {
        let mut rest = frames;
        while !rest.is_empty() {
            let Ok(ready) = self.link.stream().ready(Interest::READABLE | Interest::WRITABLE).await else {
                return self.over().await;
            };
            if ready.is_readable() && !self.read().await {
                return false;
            }
            if ready.is_writable() {
                match self.link.stream().try_write(rest) {
                    Ok(count) if count > 0 => {
                        self.ground.count().sent_bytes += count as u64;
                        rest = &rest[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => return self.over().await,
                }
            }
            if !rest.is_empty() {
                // Readiness costs nothing of what the runtime lets a task do in one go, and reading does: a task that
                // had used it up would be told that there is something, and then that there is nothing, for ever.
                tokio::task::yield_now().await;
            }
        }
        true
    }

    /// Reads what has come, up to a bound; false at the link's end.
    async fn read(&mut self) -> bool {
        for _ in 0..READ_MAX {
            match self.link.hear(Duration::ZERO).await {
                // Only its beginning is looked at: a room's members hear a hundred thousand frames a second.
                Heard::Frame(body) if body.starts_with(br#"{"op":"ok""#) => self.ground.count().answered += 1,
                Heard::Frame(_) => {}
                Heard::Ended => return false,
                Heard::Silence => break,
            }
        }
        true
    }

    /// Notes the end, with the goodbye that may still lie unread. Always false.
    async fn over(&mut self) -> bool {
        while let Heard::Frame(_) = self.link.hear(Duration::ZERO).await {}
        self.link.end();
        false
    }
}

/// How fast a flood sends over one link.
pub(super) struct Tempo {
    next: Instant,
    /// Between two frames; `None` for as fast as it goes.
    gap: Option<Duration>,
}

impl Tempo {
    /// The tempo of an attacker on a link that allows so much.
    pub(super) fn new(frames_per_second: f64, index: u32) -> Tempo {
        let paced = frames_per_second > 0.0 && !index.is_multiple_of(RECKLESS);
        let gap = paced.then(|| Duration::from_secs_f64(1.0 / (frames_per_second * TEMPO)));
        Tempo { next: Instant::now(), gap }
    }

    /// Waits until the next frame may go. Who was late doesn't catch up for more than a tenth of a second.
    pub(super) async fn wait(&mut self) {
        let Some(gap) = self.gap else { return };
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
        sleep_until(self.next).await;
        self.next += gap;
    }
}

/// Enters, joins a room, and sends there what `write` appends for each turn, from 0 on, until the end.
pub(super) async fn flood(ground: Rc<Ground>, index: u32, mut write: impl FnMut(u64, &str, &mut Vec<u8>)) {
    let room = room(index);
    let (mut nth, mut body, mut frame) = (0, Vec::new(), Vec::new());
    while ground.turn().await {
        let Some(mut talker) = enter(&ground, index).await else { continue };
        if !talker.join(&room).await {
            continue;
        }
        let mut tempo = Tempo::new(talker.frames_per_second, index);
        loop {
            tempo.wait().await;
            if !ground.turn().await {
                return;
            }
            body.clear();
            frame.clear();
            write(nth, &room, &mut body);
            nth += 1;
            ground.framing.write(&body, &mut frame);
            if !talker.send(&frame).await {
                break;
            }
        }
    }
}

/// The room of an attacker of a flood: ten for all of them.
fn room(index: u32) -> String {
    format!("storm-{}", index % 10)
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// So many bytes.
    Bytes(usize),
    /// The target ended the connection, or it broke.
    Ended,
    /// Nothing in the given time.
    Silence,
}

/// Reads bytes as they come, for what isn't said in frames.
pub(super) async fn read(ground: &Ground, link: &mut Link, into: &mut [u8], within: Duration) -> Came {
    match timeout(within, link.stream().read(into)).await {
        Err(_) => Came::Silence,
        Ok(Ok(count)) if count > 0 => {
            ground.count().received_bytes += count as u64;
            Came::Bytes(count)
        }
        Ok(_) => {
            link.end();
            Came::Ended
        }
    }
}

/// Whether the target has ended the link, told without taking a byte from it. What lies unread stays so, and with it
/// the target sees a peer that is dead or doesn't read.
pub(super) async fn is_over(link: &mut Link) -> bool {
    // What is known is told at once; a link on which nothing happened has nothing to tell.
    let ready = timeout(Duration::ZERO, link.stream().ready(Interest::READABLE)).await;
    ready.is_ok_and(|ready| ready.map_or(true, Ready::is_read_closed))
}

/// Counts a link among the overdue ones for as long as it lives.
pub(super) struct Overdue(Rc<Ground>);

impl Overdue {
    pub(super) fn new(ground: &Rc<Ground>) -> Overdue {
        ground.count().overdue += 1;
        Overdue(ground.clone())
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.0.count().overdue -= 1;
    }
}

/// Holds a link that the target ought to end within `due`, and looks every `look` whether it has, after `meanwhile` did
/// something with it (false: it found the link ended). From `due` on the link is overdue. Goes on until the end.
pub(super) async fn outstay(
    ground: &Rc<Ground>,
    link: &mut Link,
    due: Duration,
    look: Duration,
    mut meanwhile: impl FnMut(&Ground, &mut Link) -> bool,
) {
    let begin = Instant::now();
    let mut overdue = None;
    while !is_over(link).await && meanwhile(ground, link) {
        sleep(look).await;
        if begin.elapsed() >= due {
            overdue.get_or_insert_with(|| Overdue::new(ground));
        }
    }
    // It is over, so what was left unread may be looked at: a goodbye among it has a code.
    let end = Instant::now() + REST;
    while let Ok(Heard::Frame(_)) = timeout_at(end, link.hear(REST)).await {}
    link.end();
}

/// Text of this many bytes that doesn't repeat: words of eight letters, decided by `state`.
pub(super) fn words(mut state: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for place in 0..bytes {
        // Steele and Vigna's multiplier; the high bits are good enough for letters.
        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        text.push(if place % 9 == 8 { ' ' } else { char::from(b'a' + ((state >> 59) % 26) as u8) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run, sound};
    use super::*;
    use crate::frame::Framing;

    /// Lets so many attackers enter one after the other; what was asked for besides hello.
    async fn entered(fake: &mut Fake, ground: &Rc<Ground>, count: u32) -> Vec<Value> {
        let mut links = Vec::new();
        for index in 0..count {
            links.push(enter(ground, index).await.expect("it is let in").link);
        }
        let mut said = Vec::new();
        while said.iter().filter(|said: &&Value| said["op"] == "hello").count() < count as usize {
            said.push(fake.any().await.1);
        }
        // What the last one asked for after its hello comes before what is said now.
        assert!(links[0].send_frame(br#"{"op":"that's it"}"#).await);
        loop {
            match fake.any().await.1 {
                end if end["op"] == "that's it" => break,
                request => said.push(request),
            }
        }
        said.into_iter().filter(|said| said["op"] != "hello").collect()
    }

    fn ops(said: &[Value]) -> Vec<&str> {
        said.iter().filter_map(|said| said["op"].as_str()).collect()
    }

    #[test]
    fn an_account_is_made_once_for_ten_attackers_and_the_others_show_its_token() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("say-flood");
            let said = entered(&mut fake, &ground, SHARE + 2).await;
            let registered: Vec<_> = said.iter().filter(|said| said["op"] == "register").collect();
            assert_eq!(registered.len(), 2, "{said:?}");
            assert_ne!(registered[0]["user"], registered[1]["user"]);
            assert!(said.iter().filter(|said| said["op"] == "token").all(|said| said["token"] == "a token"));
            assert_eq!(said.len(), SHARE as usize + 2);
        });
    }

    #[test]
    fn many_that_come_at_once_wait_for_the_one_that_makes_the_account() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("say-flood");
            fake.attack(&super::super::say_flood::ATTACK, &ground, &[0, 1, 2, 3]);
            let mut registers = 0;
            let mut joined = 0;
            while joined < 4 {
                let op = fake.any_of(&["register", "join"]).await.1["op"].clone();
                registers += u32::from(op == "register");
                joined += u32::from(op == "join");
            }
            assert_eq!(registers, 1);
        });
    }

    #[test]
    fn where_names_are_claims_hello_is_enough() {
        run(async {
            let mut fake = Fake::start(|_, said| match said["op"].as_str() {
                Some("register") => Some(vec![json!({ "op": "error", "code": 1101 })]),
                _ => sound(said),
            });
            let ground = fake.ground("say-flood");
            assert_eq!(ops(&entered(&mut fake, &ground, 3).await), ["register"]);
        });
    }

    #[test]
    fn an_account_of_an_earlier_storm_is_logged_in_to_and_a_token_that_was_forgotten_is_asked_for_anew() {
        run(async {
            let mut tokens = 0;
            let mut fake = Fake::start(move |_, said| match said["op"].as_str() {
                Some("register") => Some(vec![json!({ "op": "error", "code": 1106 })]),
                Some("login") => Some(vec![json!({ "op": "ok", "re": 1, "token": "another" })]),
                Some("token") => {
                    tokens += 1;
                    (tokens == 1).then(|| vec![json!({ "op": "error", "code": 1105, "retry_ms": 1 })]).or(sound(said))
                }
                _ => sound(said),
            });
            let ground = fake.ground("say-flood");
            let _first = enter(&ground, 0).await.unwrap();
            assert!(enter(&ground, 1).await.is_none());
            let _third = enter(&ground, 2).await.unwrap();
            for op in ["register", "login", "token", "register", "login"] {
                assert_eq!(fake.any_of(&["register", "login", "token"]).await.1["op"], op);
            }
        });
    }

    #[test]
    fn what_comes_is_read_while_a_target_doesnt_read() {
        /// Of 128 KiB each, answered with 256: 25 MB. What is sent must be more than the kernel takes for somebody who
        /// doesn't read, or nothing here would need the reading; 1.3 MB weren't.
        const FRAMES: u32 = 200;
        run(async {
            // A target that answers each frame with more than the kernel takes and reads no further until that is gone.
            let much = words(3, 1 << 16);
            let mut fake = Fake::start(move |_, said| match said["op"].as_str() {
                Some("say") => Some((0..4).map(|_| json!({ "op": "message", "text": much })).collect()),
                _ => sound(said),
            });
            let ground = fake.ground("say-flood");
            let mut talker = enter(&ground, 0).await.unwrap();
            let mut frames = Vec::new();
            let said = json!({ "op": "say", "text": words(4, 1 << 17) }).to_string();
            Framing::STILLHERE.write(said.as_bytes(), &mut frames);
            for _ in 0..FRAMES {
                assert!(talker.send(&frames).await);
            }
            for _ in 0..FRAMES {
                // The rest of it is taken while this waits.
                while fake.empty() {
                    assert!(talker.read().await);
                    tokio::task::yield_now().await;
                }
                fake.next("say").await;
            }
        });
    }

    #[test]
    fn a_tempo_is_just_below_what_is_allowed_but_for_every_fourth() {
        let gap = Tempo::new(1000.0, 1).gap.unwrap();
        assert!((1100..1120).contains(&gap.as_micros()), "{gap:?}");
        assert_eq!((Tempo::new(1000.0, 4).gap, Tempo::new(0.0, 1).gap), (None, None));
    }
}
