//! The target's side: a process of the owner's that says yes for as long as it runs.
//!
//! Tasks, on the caller's thread: one that accepts, one for each connection, for five seconds at most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stillhere_core::text::Escaped;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::wire::{Answer, Code, FRAME_MAX, Greeting, PROOF_BYTES, Question, VERSION, frame, nonce, parts, split};
use super::{ANSWER_TIME, ConsentError, Wants};
use crate::plan::{ATTACKERS_MAX, CROWD_MAX};

/// The longest consent: nobody forgets one for longer.
pub(super) const LASTS_MAX: Duration = Duration::from_secs(24 * 3600);
/// Connections at once; a storm has one for a moment.
const OPEN_MAX: usize = 16;
/// Questions of one address have this between them.
const PACE: Duration = Duration::from_secs(1);
/// A question that would wait longer than this for its turn isn't heard.
const TURN_MAX: Duration = Duration::from_secs(3);
/// After so many wrong codes in a row an address isn't heard for a while.
const WRONG_MAX: u32 = 5;
/// See [`WRONG_MAX`].
const SILENCE: Duration = Duration::from_secs(60);
/// Addresses that are remembered; then those that rest are forgotten, and while there are none nobody new is heard.
const ADDRESSES_MAX: usize = 1_024;
/// How often is looked whether it is over.
const GLANCE: Duration = Duration::from_millis(100);
/// After an accept that failed.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What its owner allows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsentOptions {
    /// Where to answer. The port is [`super::PORT`] unless storms are told another.
    pub listen: SocketAddr,
    /// The ports of this host that a storm may meet; at least one.
    pub ports: Vec<u16>,
    /// Attackers of one storm; 1 to [`ATTACKERS_MAX`].
    pub attackers_max: u32,
    /// Its connections at once.
    pub connections_max: u32,
    /// Its tries and requests a second; `None` for no cap.
    pub rate_max: Option<f64>,
    /// For how long; up to a day.
    pub lasts: Duration,
}

/// What was asked, for the owner to see.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A storm was told yes. It asks again every few seconds.
    Granted(SocketAddr, Wants),
    /// A storm with the code wants more than is allowed.
    Refused(SocketAddr, String),
    /// Somebody has a wrong code, for the so-many-th time in a row.
    WrongCode(SocketAddr, u32),
}

/// A consent that is being given: it listens.
pub struct Consent {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    options: ConsentOptions,
    code: Code,
}

impl Consent {
    /// Checks what is allowed, listens, and makes a code.
    ///
    /// # Errors
    /// When what is allowed makes no sense, or the port can't be had.
    pub fn bind(options: ConsentOptions) -> Result<Consent, ConsentError> {
        check(&options)?;
        let code = Code::random()?;
        let system = |what: String| move |error: io::Error| ConsentError::System { what, error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system("can't run".to_owned()))?;
        let listener = runtime.block_on(TcpListener::bind(options.listen));
        let listener = listener.map_err(system(format!(
            "can't listen on {}; choose another port and tell the storm which",
            options.listen
        )))?;
        Ok(Consent { runtime, listener, options, code })
    }

    /// What whoever may storm this host has to know.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.options.listen)
    }

    /// Answers until its time is over or `stop` is set.
    pub fn run(self, on_told: impl FnMut(Told) + 'static, stop: &AtomicBool) {
        let Consent { runtime, listener, options, code } = self;
        LocalSet::new().block_on(&runtime, async {
            let until = Instant::now() + options.lasts;
            let desk =
                Desk { options, code, until, guests: RefCell::default(), on_told: RefCell::new(Box::new(on_told)) };
            let accepting = spawn_local(accept(listener, Rc::new(desk)));
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                sleep(GLANCE).await;
            }
            accepting.abort();
        });
    }
}

/// What it allows, in sentences, with the code.
impl fmt::Display for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConsentOptions { ports, attackers_max, connections_max, rate_max, lasts, .. } = &self.options;
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        writeln!(f, "Whoever has this code may storm this host: {}", self.code)?;
        writeln!(f, "  ports        {}", ports.join(", "))?;
        writeln!(f, "  attackers    at most {attackers_max}")?;
        writeln!(f, "  connections  at most {connections_max} at once")?;
        match rate_max {
            Some(rate) => writeln!(f, "  rate         at most {rate} tries and requests a second")?,
            None => writeln!(f, "  rate         as fast as it goes")?,
        }
        write!(f, "  until        {} s from now, or until this ends; it answers at {}", lasts.as_secs(), self.address())
    }
}

fn check(options: &ConsentOptions) -> Result<(), ConsentError> {
    let ConsentOptions { ports, attackers_max, connections_max, rate_max, lasts, .. } = options;
    let bad = |what: &str| Err(ConsentError::Bad(what.to_owned()));
    if ports.is_empty() || ports.contains(&0) {
        return bad("say which ports may be met: write for example --ports 14000");
    }
    if !(1..=ATTACKERS_MAX).contains(attackers_max) {
        return bad("a storm has from 1 to 19000 attackers: write for example --attackers 1000");
    }
    if !(1..=ATTACKERS_MAX + CROWD_MAX * 2).contains(connections_max) {
        return bad("a storm has from 1 to 57000 connections at once: write for example --connections 4000");
    }
    if rate_max.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return bad("a rate is a number above zero: write for example --rate 500");
    }
    if lasts.is_zero() || *lasts > LASTS_MAX {
        return bad("consent lasts from a moment to a day: write for example --for 1h");
    }
    Ok(())
}

/// What is remembered of an address.
#[derive(Clone, Copy, Debug)]
struct Guest {
    /// When its next question may be heard.
    next: Instant,
    /// Wrong codes in a row.
    wrong: u32,
}

struct Desk {
    options: ConsentOptions,
    code: Code,
    until: Instant,
    guests: RefCell<HashMap<IpAddr, Guest>>,
    on_told: RefCell<Box<dyn FnMut(Told)>>,
}

async fn accept(listener: TcpListener, desk: Rc<Desk>) {
    let places = Arc::new(Semaphore::new(OPEN_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        let desk = desk.clone();
        spawn_local(async move {
            // Whatever happens to one question, the next is asked on a connection of its own.
            let _ = timeout(ANSWER_TIME, desk.meet(stream, peer)).await;
            drop(place);
        });
    }
}

impl Desk {
    async fn meet(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let Some(turn) = self.turn(peer.ip(), Instant::now()) else { return Ok(()) };
        sleep_until(turn).await;
        let own = nonce().map_err(io::Error::other)?;
        let greeting = serde_json::to_vec(&Greeting { v: VERSION, nonce: own.clone() })?;
        stream.write_all(&frame(&[0; PROOF_BYTES], &greeting)).await?;
        let length = stream.read_u32().await? as usize;
        if length > FRAME_MAX {
            return Ok(());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let Some((question, json)) = self.hear(&body, &own) else {
            let wrong = self.wrong(peer.ip(), Instant::now());
            self.tell(Told::WrongCode(peer, wrong));
            return Ok(());
        };
        self.right(peer.ip());
        let answer = match self.refusal(&question.wants) {
            Some(why) => Answer::Refused { why },
            None => self.grant(),
        };
        self.tell(match &answer {
            Answer::Granted { .. } => Told::Granted(peer, question.wants.clone()),
            Answer::Refused { why } => Told::Refused(peer, why.clone()),
        });
        let answer = serde_json::to_vec(&answer)?;
        let proof = self.code.prove(&parts("answer", &own, &json, &answer));
        stream.write_all(&frame(&proof, &answer)).await
    }

    /// The question and its nonce, if whoever asks has the code.
    fn hear(&self, body: &[u8], own: &str) -> Option<(Question, String)> {
        let (proof, json) = split(body)?;
        let question: Question = serde_json::from_slice(json).ok()?;
        let nonce = question.nonce.clone();
        let is_right = self.code.proves(&parts("ask", own, &nonce, json), proof) && question.v == VERSION;
        is_right.then_some((question, nonce))
    }

    /// When an address is heard; `None` for not at all.
    fn turn(&self, ip: IpAddr, now: Instant) -> Option<Instant> {
        let ip = ip.to_canonical();
        let mut guests = self.guests.borrow_mut();
        if guests.len() >= ADDRESSES_MAX && !guests.contains_key(&ip) {
            guests.retain(|_, guest| guest.next > now);
            if guests.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        let guest = guests.entry(ip).or_insert(Guest { next: now, wrong: 0 });
        let turn = guest.next.max(now);
        if turn - now > TURN_MAX {
            return None;
        }
        guest.next = turn + PACE;
        Some(turn)
    }

    fn wrong(&self, ip: IpAddr, now: Instant) -> u32 {
        let mut guests = self.guests.borrow_mut();
        let guest = guests.entry(ip.to_canonical()).or_insert(Guest { next: now, wrong: 0 });
        guest.wrong += 1;
        if guest.wrong.is_multiple_of(WRONG_MAX) {
            guest.next = now + SILENCE;
        }
        guest.wrong
    }

    fn right(&self, ip: IpAddr) {
        if let Some(guest) = self.guests.borrow_mut().get_mut(&ip.to_canonical()) {
            guest.wrong = 0;
        }
    }

    fn tell(&self, told: Told) {
        (self.on_told.borrow_mut())(told);
    }

    fn grant(&self) -> Answer {
        let ConsentOptions { attackers_max, connections_max, rate_max, .. } = self.options;
        let remaining_ms = self.until.saturating_duration_since(Instant::now()).as_millis() as u64;
        Answer::Granted { attackers_max, connections_max, rate_max, remaining_ms }
    }

    /// Why a wish isn't granted, in a sentence that says what is.
    fn refusal(&self, wants: &Wants) -> Option<String> {
        let ConsentOptions { ports, attackers_max, connections_max, rate_max, .. } = &self.options;
        if !ports.contains(&wants.port) {
            let allowed: Vec<String> = ports.iter().map(u16::to_string).collect();
            let allowed = allowed.join(", ");
            return Some(format!("its owner doesn't allow port {}, only {}", wants.port, Escaped(&allowed)));
        }
        if wants.attackers > *attackers_max {
            return Some(format!("its owner allows {attackers_max} attackers, not {}", wants.attackers));
        }
        if wants.connections > *connections_max {
            return Some(format!("its owner allows {connections_max} connections at once, not {}", wants.connections));
        }
        match (rate_max, wants.rate) {
            (Some(most), Some(rate)) if rate <= *most => None,
            (Some(most), _) => Some(format!("its owner allows {most} tries and requests a second: set a `rate`")),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ConsentOptions {
        ConsentOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ports: vec![14_000],
            attackers_max: 100,
            connections_max: 500,
            rate_max: None,
            lasts: Duration::from_secs(60),
        }
    }

    fn desk(options: ConsentOptions) -> Desk {
        let until = Instant::now() + options.lasts;
        let (code, on_told) = (Code::random().unwrap(), RefCell::new(Box::new(|_| {}) as Box<dyn FnMut(Told)>));
        Desk { options, code, until, guests: RefCell::default(), on_told }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_write() {
        for (options, says) in [
            (ConsentOptions { ports: vec![], ..options() }, "--ports 14000"),
            (ConsentOptions { ports: vec![0], ..options() }, "--ports 14000"),
            (ConsentOptions { attackers_max: 0, ..options() }, "--attackers 1000"),
            (ConsentOptions { attackers_max: ATTACKERS_MAX + 1, ..options() }, "--attackers 1000"),
            (ConsentOptions { connections_max: 0, ..options() }, "--connections 4000"),
            (ConsentOptions { rate_max: Some(f64::NAN), ..options() }, "--rate 500"),
            (ConsentOptions { lasts: LASTS_MAX * 2, ..options() }, "--for 1h"),
        ] {
            let error = Consent::bind(options).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{error:?} doesn't say {says}");
        }
        let consent = Consent::bind(options()).unwrap();
        let shown = consent.to_string();
        assert!(shown.contains(&consent.code().to_string()) && shown.contains("at most 100"), "{shown}");
    }

    #[test]
    fn an_address_has_a_question_a_second_and_five_wrong_codes() {
        let desk = desk(options());
        let (ip, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        let turns: Vec<_> = (0..6).map(|_| desk.turn(ip, now).map(|turn| (turn - now).as_secs())).collect();
        assert_eq!(turns, [Some(0), Some(1), Some(2), Some(3), None, None]);
        let later = now + Duration::from_secs(10);
        assert_eq!((1..=5).map(|_| desk.wrong(ip, later)).last(), Some(5));
        assert_eq!(desk.turn(ip, later + Duration::from_secs(50)), None);
        assert!(desk.turn(ip, later + SILENCE).is_some());
        assert_eq!(desk.turn(other, later), Some(later));
    }

    #[test]
    fn addresses_that_rest_are_forgotten_before_new_ones_are_turned_away() {
        let desk = desk(options());
        let now = Instant::now();
        let ip = |nth: u32| IpAddr::V4((0x0a00_0000 + nth).into());
        for nth in 0..ADDRESSES_MAX as u32 {
            assert!(desk.turn(ip(nth), now).is_some());
        }
        assert_eq!(desk.turn(ip(70_000), now), None);
        assert!(desk.turn(ip(70_000), now + PACE).is_some());
        assert_eq!(desk.guests.borrow().len(), 1);
    }

    #[test]
    fn more_than_the_owner_allows_is_refused_in_each_way() {
        let wants = Wants { port: 14_000, attackers: 100, connections: 500, rate: Some(50.0), lasts_ms: 1000 };
        let limited = desk(ConsentOptions { rate_max: Some(50.0), ..options() });
        assert_eq!(limited.refusal(&wants), None);
        for (wants, says) in [
            (Wants { port: 22, ..wants.clone() }, "port 22, only 14000"),
            (Wants { attackers: 101, ..wants.clone() }, "100 attackers, not 101"),
            (Wants { connections: 501, ..wants.clone() }, "500 connections"),
            (Wants { rate: Some(51.0), ..wants.clone() }, "50 tries"),
            (Wants { rate: None, ..wants }, "set a `rate`"),
        ] {
            assert!(limited.refusal(&wants).is_some_and(|why| why.contains(says)), "{wants:?}");
        }
    }
}
