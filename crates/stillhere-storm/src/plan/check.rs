//! Whether a plan can be carried out: each number within its bounds, and all of it fitting together.
//!
//! It looks at the plan alone, not at the machine: what this machine can generate is `doctor`'s to say. Files, builtins
//! and command lines all pass through here.

use std::net::IpAddr;
use std::time::Duration;

use stillhere_core::amount::{show_size, show_span};

use super::value::{nearest, quoted};
use super::{
    ATTACKERS_MAX, Asked, Attack, CROWD_MAX, Crowd, Frame, Length, Load, Mode, PHASE_MAX, Plan, PlanError, Search,
    Sought, Target,
};
use crate::attack::{self, ATTACKS, Against};

/// Attackers, honest clients and the load's connections together: they are sockets of one process, and it needs some
/// of its 20,000 files for itself and for newcomers.
pub const SOCKETS_MAX: u32 = 19_000;
/// Requests and tries a second; one core can't make more.
pub(super) const RATE_MAX: f64 = 1_000_000.0;
/// Tries a second of an attack: fewer come to none in the longest phase.
const RATE_MIN: f64 = 0.001;
/// New clients a second: each is a port of this machine that rests for a minute, and there are 28,000.
const NEWCOMERS_MAX: f64 = 400.0;
/// Bytes of what is sent or received at once, of one connection.
const SIZE_MAX: u32 = 16 << 20;
/// What all attackers of one attack keep ready to send, together: the storm's own memory.
const SIZES_MAX: u64 = 1 << 30;
/// Between two beats.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));
/// Between two beats of v1, as the protocol clamps it.
const V1_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long a target may take to start.
const READY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));
/// The phases `during` must have seen a few samples.
const DURING_MIN: Duration = Duration::from_secs(1);
/// Steps of one load: more can't be told apart in a plot.
const STEPS_MAX: usize = 64;
/// Thresholds of one plan: more than there are figures, so that each can have two bounds.
const THRESHOLDS_MAX: usize = 100;
/// Exchanges before the first beat.
const HELLO_MAX: usize = 16;
/// Bytes of a name, which is a part of folders' names, and of an `about`.
const NAME_MAX: usize = 64;
const ABOUT_MAX: usize = 500;

/// How long the phase `during` must be until a sound server has ended what the attack holds open: before that,
/// `overdue = 0` holds for every server.
pub(super) const PATIENCE: &[(&str, Duration)] = &[
    // 10 s for a first frame, or for a frame's rest, and something for a busy machine.
    ("sit", Duration::from_secs(30)),
    ("slowloris", Duration::from_secs(30)),
    ("half-frames", Duration::from_secs(30)),
    // 15 s for what may as well take so long at a target of others.
    ("garbage", Duration::from_secs(20)),
    ("lengths", Duration::from_secs(20)),
    ("tls-flood", Duration::from_secs(20)),
    ("ws-abuse", Duration::from_secs(20)),
    // Twice the detector's bound, some 20 intervals of a second.
    ("silent-death", Duration::from_secs(40)),
    // Its buffers must fill, then it has 10 s.
    ("slow-reader", Duration::from_secs(40)),
];

/// Something that has to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it stands: `crowd.count`, `attack.0.size`, `seed`.
    pub(super) key: String,
    /// A clause that says what to write instead.
    pub(super) says: String,
}

/// Whether a plan can be carried out.
///
/// # Errors
/// What has to be changed, all of it; a line for each if it is more than one thing.
pub fn check(plan: &Plan) -> Result<(), PlanError> {
    told(faults(plan).into_iter().map(|fault| format!("{}: {}", label(&fault.key), fault.says)).collect())
}

/// One error is one line; several are a heading and a line each.
pub(super) fn told(mut faults: Vec<String>) -> Result<(), PlanError> {
    match faults.len() {
        0 => Ok(()),
        1 => Err(PlanError(faults.remove(0))),
        count => Err(PlanError(format!("{count} things to change in the plan:\n  {}", faults.join("\n  ")))),
    }
}

/// A key as it is told of: `count` of [crowd].
pub(super) fn label(key: &str) -> String {
    let mut parts = key.split('.');
    let first = parts.next().unwrap_or_default();
    let last = parts.next_back();
    match (first, last) {
        (first, None) => format!("`{first}`"),
        ("thresholds", Some(_)) => "`thresholds`".to_owned(),
        ("attack", Some(last)) if parts.next().is_some() => format!("`{last}` of [[attack]]"),
        ("attack", Some(_)) => "[[attack]]".to_owned(),
        (first, Some(last)) => format!("`{last}` of [{first}]"),
    }
}

/// Everything that has to be changed.
pub(super) fn faults(plan: &Plan) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    let bad_name = plan.name.starts_with(['.', ' '])
        || plan.name.is_empty()
        || plan.name.len() > NAME_MAX
        || !plan.name.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c));
    faults.when(bad_name, "name", || format!("write letters, digits, `-`, `_` and `.`, {NAME_MAX} bytes at most"));
    let bad_about = plan.about.len() > ABOUT_MAX || plan.about.contains(char::is_control);
    faults.when(bad_about, "about", || format!("write one line of {ABOUT_MAX} bytes at most"));
    target(&plan.target, &mut faults);
    times(plan, &mut faults);
    if let Some(crowd) = &plan.crowd {
        check_crowd(crowd, plan.frame.as_ref(), &mut faults);
    }
    for (nth, attack) in plan.attacks.iter().enumerate() {
        check_attack(nth, attack, plan, &mut faults);
    }
    if let Some(load) = &plan.load {
        check_load(load, plan, &mut faults);
    }
    sockets(plan, &mut faults);
    if let Some(search) = &plan.search {
        check_search(search, plan, &mut faults);
    }
    if let Some(frame) = &plan.frame {
        check_frame(frame, plan, &mut faults);
    }
    thresholds(plan, &mut faults);
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: impl Into<String>, says: impl Into<String>) {
        self.0.push(Fault { key: key.into(), says: says.into() });
    }

    /// Whether something is wrong with a key that begins so.
    fn any_at(&self, prefix: &str) -> bool {
        self.0.iter().any(|fault| fault.key.starts_with(prefix))
    }

    fn when(&mut self, is_wrong: bool, key: &str, says: impl FnOnce() -> String) {
        if is_wrong {
            self.add(key, says());
        }
    }

    fn within(&mut self, key: &str, value: u64, (low, high): (u64, u64)) {
        self.when(!(low..=high).contains(&value), key, || format!("write a number from {low} to {high}"));
    }

    fn span(&mut self, key: &str, value: Duration, (low, high): (Duration, Duration)) {
        self.when(!(low..=high).contains(&value), key, || {
            format!("write \"{}\" to \"{}\"", show_span(low), show_span(high))
        });
    }

    fn size(&mut self, key: &str, value: u32) {
        self.when(!(1..=SIZE_MAX).contains(&value), key, || {
            format!("write \"1B\" to \"{}\"", show_size(SIZE_MAX.into()))
        });
    }

    fn rate(&mut self, key: &str, value: f64, max: f64) {
        self.when(!(0.0..=max).contains(&value), key, || format!("write \"0/s\" to \"{max}/s\""));
    }
}

fn target(target: &Target, faults: &mut Faults) {
    let parts = target.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let is_address = matches!(parts.map(|(_, port)| port.parse::<u16>()), Some(Ok(1..)));
    let is_harmless = !target.address.contains(|c: char| c.is_control() || c.is_whitespace());
    faults.when(!is_address || !is_harmless, "target.address", || {
        "write HOST:PORT, for example \"127.0.0.1:14000\"".to_owned()
    });
    if let Some(url) = &target.metrics {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let is_url = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && !url.contains(|c: char| c.is_control() || c.is_whitespace());
        faults.when(!is_url, "target.metrics", || {
            "write a URL, for example \"http://127.0.0.1:14080/metrics\", or false for a target without metrics"
                .to_owned()
        });
        let host = rest.map_or("", host_of);
        let is_target = parts.is_some_and(|(target, _)| target.eq_ignore_ascii_case(host));
        faults.when(is_url && !is_target && !is_loopback(host), "target.metrics", || {
            "only the target's own host and this one are asked: write one of theirs, or false".to_owned()
        });
    }
    faults.when(target.pid == Some(0), "target.pid", || "write the number of a process, from 1".to_owned());
    let is_empty = target.command.first().is_some_and(String::is_empty);
    faults.when(is_empty, "target.command", || "write the program first: [\"python3\", \"server.py\"]".to_owned());
    faults.span("target.ready", target.ready, READY);
}

/// The host of a URL without its scheme; nothing if it isn't plain.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.find(']') {
        _ if authority.contains('@') => "",
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn times(plan: &Plan, faults: &mut Faults) {
    let time = &plan.time;
    for (key, value, low) in [
        ("time.ramp", time.ramp, Duration::ZERO),
        ("time.before", time.before, Duration::ZERO),
        ("time.during", time.during, DURING_MIN),
        ("time.after", time.after, Duration::ZERO),
    ] {
        faults.span(key, value, (low, PHASE_MAX));
    }
}

fn check_crowd(crowd: &Crowd, frame: Option<&Frame>, faults: &mut Faults) {
    faults.within("crowd.count", crowd.count.into(), (1, CROWD_MAX.into()));
    let v1 = crowd.mode == Mode::V1;
    let least = if v1 { V1_INTERVAL_MIN } else { INTERVAL.0 };
    faults.span("crowd.interval", crowd.interval, (least, INTERVAL.1));
    faults.when(crowd.mode == Mode::Frame && frame.is_none(), "crowd.mode", || {
        "\"frame\" needs a section [frame] that says how to speak with the target".to_owned()
    });
    faults.when(crowd.mode != Mode::Frame && frame.is_some(), "crowd.mode", || {
        "beside a section [frame] write \"frame\", or leave [frame] out if the target is a stillhere".to_owned()
    });
    faults.when(crowd.rooms > 0 && !v1, "crowd.rooms", || "only v1 has rooms: write 0, or mode = \"v1\"".to_owned());
    faults.when(v1 && crowd.rooms > crowd.count / 2, "crowd.rooms", || {
        format!("a room needs two clients to be one: write {} at most, or a larger count", crowd.count / 2)
    });
    for (key, every) in [("crowd.say_every", crowd.say_every), ("crowd.signal_every", crowd.signal_every)] {
        let Some(every) = every else { continue };
        faults.when(crowd.rooms == 0, key, || "this needs rooms: write rooms = 1 or more beside it".to_owned());
        faults.span(key, every, (INTERVAL.0, PHASE_MAX));
    }
    faults.rate("crowd.newcomers", crowd.newcomers_per_second, NEWCOMERS_MAX);
}

fn check_attack(nth: usize, attack: &Attack, plan: &Plan, faults: &mut Faults) {
    let key = |name: &str| format!("attack.{nth}.{name}");
    match attack::find(&attack.name) {
        None => faults.add(key("name"), {
            let nearest = nearest(&attack.name, ATTACKS.iter().map(|attack| attack.name));
            format!("there is no such attack; did you mean \"{nearest}\"? `stillhere storm --list` shows all")
        }),
        Some(row) => faults.when(row.against == Against::Gateway && plan.frame.is_some(), &key("name"), || {
            "this attack speaks v1 and means nothing to a target with a [frame]; take another".to_owned()
        }),
    }
    let is_twice = plan.attacks[..nth].iter().any(|other| other.name == attack.name);
    faults.when(is_twice, &key("name"), || "this attack is there twice: raise the other's count instead".to_owned());
    faults.within(&key("count"), attack.count.into(), (1, ATTACKERS_MAX.into()));
    if let Some(rate) = attack.rate {
        faults.when(!(RATE_MIN..=RATE_MAX).contains(&rate), &key("rate"), || {
            format!("write \"{RATE_MIN}/s\" to \"{RATE_MAX}/s\", or leave it out for as fast as it goes")
        });
    }
    faults.size(&key("size"), attack.size);
    let most = SIZES_MAX / u64::from(attack.size.max(1));
    faults.when(attack.size <= SIZE_MAX && u64::from(attack.count) > most, &key("size"), || {
        format!("{} attackers would keep more than 1GiB ready: make it smaller, or count {most} at most", attack.count)
    });
    faults.span(&key("interval"), attack.interval, (V1_INTERVAL_MIN, INTERVAL.1));
}

fn check_load(load: &Load, plan: &Plan, faults: &mut Faults) {
    faults.within("load.connections", load.connections.into(), (1, SOCKETS_MAX.into()));
    let is_framed = plan.frame.is_some();
    faults.when(load.what == Asked::Frame && !is_framed, "load.what", || {
        "\"frame\" needs a section [frame] that says how to speak with the target".to_owned()
    });
    faults.when(load.what != Asked::Frame && is_framed, "load.what", || {
        "beside a section [frame] write \"frame\", or leave [frame] out if the target is a stillhere".to_owned()
    });
    let steps = load.steps.len();
    faults.when(!(1..=STEPS_MAX).contains(&steps), "load.steps", || format!("write 1 to {STEPS_MAX} steps"));
    let bad = |step: &&super::Step| {
        let fits = |rate: f64| (0.0..=RATE_MAX).contains(&rate);
        !fits(step.from) || !fits(step.to) || step.lasts.is_zero()
    };
    faults.when(load.steps.iter().any(|step| bad(&step)), "load.steps", || {
        format!("each step goes from \"0/s\" to \"{RATE_MAX}/s\" and lasts longer than nothing")
    });
    let is_nothing = steps > 0 && load.steps.iter().all(|step| step.from == 0.0 && step.to == 0.0);
    faults.when(is_nothing, "load.steps", || "nothing is ever asked: write a rate above 0/s".to_owned());
    let lasts = load.steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.lasts));
    faults.when(lasts > plan.time.during, "load.steps", || {
        let (lasts, during) = (show_span(lasts), show_span(plan.time.during));
        format!(
            "together they last {lasts}, longer than the {during} of `during`: write during = \"{lasts}\" in [time]"
        )
    });
}

fn sockets(plan: &Plan, faults: &mut Faults) {
    let all = plan.sockets_but(None);
    let key = match (&plan.attacks[..], &plan.load) {
        ([], Some(_)) => "load.connections",
        ([], None) => "crowd.count",
        _ => "attack.0.count",
    };
    // One that is too large by itself was told of.
    let is_told = faults.0.iter().any(|fault| fault.key.ends_with(".count") || fault.key.ends_with(".connections"));
    faults.when(all > SOCKETS_MAX.into() && !is_told, key, || {
        format!("attackers, crowd and load make {all} connections: write fewer, {SOCKETS_MAX} together at most")
    });
}

/// The largest number that a search of this plan may try.
pub(super) fn most(plan: &Plan, find: Sought) -> u64 {
    let room = u64::from(SOCKETS_MAX).saturating_sub(plan.sockets_but(Some(find)));
    match find {
        Sought::Attackers => {
            let size = plan.attacks.first().map_or(1, |attack| attack.size.max(1));
            room.min(ATTACKERS_MAX.into()).min(SIZES_MAX / u64::from(size))
        }
        Sought::Crowd => room.min(CROWD_MAX.into()),
        Sought::Rate => RATE_MAX as u64,
    }
}

fn check_search(search: &Search, plan: &Plan, faults: &mut Faults) {
    let most = most(plan, search.find);
    let lacks = match search.find {
        Sought::Attackers if plan.attacks.is_empty() => Some("a search for attackers needs an [[attack]]"),
        Sought::Crowd if plan.crowd.is_none() => Some("a search for a crowd needs a crowd: leave `crowd = false` out"),
        Sought::Rate if plan.load.is_none() => Some("a search for a rate needs a [load]"),
        Sought::Rate if plan.load.as_ref().is_some_and(|load| load.closed) => {
            Some("a closed load keeps to no rate, so none can be searched: write closed = false in [load]")
        }
        _ => None,
    };
    if let Some(lacks) = lacks {
        faults.add("search.find", lacks);
    }
    let least = match (search.find, &plan.crowd) {
        (Sought::Crowd, Some(crowd)) => (2 * u64::from(crowd.rooms)).max(1),
        _ => 1,
    };
    faults.within("search.max", search.max, (least, most.max(least)));
    faults.within("search.from", search.from, (least, search.max.max(least)));
    faults.when(!(0.01..=1.0).contains(&search.precision), "search.precision", || {
        "write a share from 0.01 (within a hundredth) to 1".to_owned()
    });
    faults.within("search.trials", search.trials.into(), (1, 64));
    faults.when(plan.thresholds.is_empty(), "search.find", || {
        "a search needs thresholds: nothing breaks without".to_owned()
    });
}

fn check_frame(frame: &Frame, plan: &Plan, faults: &mut Faults) {
    let is_bare = matches!(frame.length, Length::Line | Length::Raw);
    faults.when(frame.includes_header && is_bare, "frame.includes_header", || {
        "there is no length that could count itself: write false".to_owned()
    });
    faults.size("frame.max", frame.max);
    faults.when(frame.hello.len() > HELLO_MAX, "frame.hello", || format!("write {HELLO_MAX} exchanges at most"));
    let is_spoken = plan.crowd.as_ref().is_some_and(|crowd| crowd.mode == Mode::Frame) || plan.load.is_some();
    faults.when(is_spoken && frame.beat.payload.is_empty(), "frame.beat", || {
        "say what an honest client sends: beat = { payload = \"ping\", reply = \"pong\" }".to_owned()
    });
    let hello = frame.hello.iter().map(|exchange| ("frame.hello", exchange));
    for (key, exchange) in hello.chain([("frame.beat", &frame.beat)]) {
        if let Err(error) = crate::frame::Template::check(&exchange.payload) {
            faults.add(key, error.0);
        }
        let Some(reply) = &exchange.reply else { continue };
        if let Err(error) = regex_lite::Regex::new(reply) {
            faults.add(key, format!("reply is no regular expression ({}): mend it", quoted(&error.to_string())));
        }
    }
    if !faults.any_at("frame.")
        && let Err(error) = crate::frame::check(frame)
    {
        faults.add("frame.length", error.0);
    }
    let is_mute = plan.load.is_some() && frame.beat.reply.is_none();
    faults.when(is_mute, "frame.beat", || {
        "a load waits for answers: say what they look like, such as reply = \"pong\", or reply = \".\" for any"
            .to_owned()
    });
}

fn thresholds(plan: &Plan, faults: &mut Faults) {
    let count = plan.thresholds.len();
    faults.when(count > THRESHOLDS_MAX, "thresholds", || format!("write {THRESHOLDS_MAX} at most"));
    for (nth, threshold) in plan.thresholds.iter().enumerate().take(THRESHOLDS_MAX) {
        if let Some(lacks) = lacks(plan, &threshold.figure) {
            faults.add(format!("thresholds.{nth}"), format!("nothing would measure `{}`: {lacks}", threshold.figure));
        }
        let during = plan.time.during;
        let patience = |attack: &Attack| PATIENCE.iter().find(|(name, least)| *name == attack.name && during < *least);
        let hasty = plan.attacks.iter().find_map(patience).filter(|_| threshold.figure == "overdue");
        if let Some((name, least)) = hasty {
            let least = show_span(*least);
            faults.add(
                "time.during",
                format!("before {least} `overdue` tells nothing of `{name}`: write \"{least}\" or more"),
            );
        }
    }
}

/// What a plan lacks to measure a figure, and what to write for it; `None` if it can be measured.
pub(super) fn lacks(plan: &Plan, figure: &str) -> Option<&'static str> {
    let is_in = |names: &[&str]| names.contains(&figure);
    let of_target = is_in(&["rss_growth", "rss_left", "files_left", "cpu"]);
    if figure == "rate" || figure.starts_with("load_") {
        return plan.load.is_none().then_some("there is no [load]");
    }
    if is_in(&["tries", "overdue"]) {
        return plan.attacks.is_empty().then_some("there is no [[attack]]");
    }
    let (is_before, is_after) = (figure.starts_with("before."), figure.starts_with("after."));
    let is_ratio = figure.ends_with("_ratio");
    let is_round_trip = is_before || is_after || is_ratio || is_in(&["p50", "p90", "p99", "p99.9", "max"]);
    let time = &plan.time;
    // In each phase that is looked at every client has to beat once.
    let least = plan.crowd.as_ref().filter(|_| is_round_trip).map_or(Duration::ZERO, |crowd| crowd.interval);
    let needs_before = is_before || is_ratio || (of_target && figure != "cpu");
    if needs_before && (time.before.is_zero() || time.before < least) {
        return Some(
            "there is no time before to compare with: write before = \"10s\", or an interval or more, in [time]",
        );
    }
    if is_after && (time.after.is_zero() || time.after < least) {
        return Some("there is no time after: write after = \"10s\", or an interval or more, in [time]");
    }
    if time.during < least {
        return Some("nobody beats while `during` lasts: write an interval or more in [time]");
    }
    if figure == "files_left" && plan.time.after < Duration::from_secs(6) {
        return Some("it is counted five seconds after the attack: write after = \"10s\" in [time]");
    }
    if of_target || figure == "own_cpu" {
        return None;
    }
    let Some(crowd) = &plan.crowd else {
        return Some("there is no crowd: leave `crowd = false` out");
    };
    let is_answered = match crowd.mode {
        Mode::V1 => true,
        Mode::Legacy => false,
        Mode::Frame => plan.frame.as_ref().is_some_and(|frame| frame.beat.reply.is_some()),
    };
    let is_said = crowd.rooms > 0 && crowd.say_every.is_some();
    match figure {
        "unanswered" if !is_answered => {
            Some("the crowd's beats aren't answered; only v1 and a [frame] with a reply are")
        }
        _ if is_round_trip && !is_answered => {
            Some("the crowd's beats aren't answered; only v1 and a [frame] with a reply are")
        }
        // Of legacy clients the target's metrics tell, among those of everybody else.
        "false_leaves"
            if crowd.mode == Mode::Frame
                || (plan.target.metrics.is_none() && (crowd.mode == Mode::Legacy || crowd.rooms == 0)) =>
        {
            Some("only v1 clients in rooms are told: write metrics in [target], or mode = \"v1\" and rooms in [crowd]")
        }
        "messages_lost" | "messages_doubled" | "unsaid" | "say_p99" if !is_said => {
            Some("nobody says anything: write rooms and say_every in [crowd]")
        }
        "signal_p99" if crowd.rooms == 0 || crowd.signal_every.is_none() => {
            Some("nobody signals: write rooms and signal_every in [crowd]")
        }
        // Its kernel opens links for a target that is long dead.
        "newcomers_refused" | "enter_p99" if crowd.mode == Mode::Legacy => Some(
            "nobody answers legacy newcomers, so whether they were let in isn't seen: write mode = \"v1\" in [crowd]",
        ),
        "newcomers_refused" | "enter_p99" if crowd.newcomers_per_second == 0.0 => {
            Some("there are no newcomers: write newcomers = \"1/s\" in [crowd]")
        }
        _ => None,
    }
}
