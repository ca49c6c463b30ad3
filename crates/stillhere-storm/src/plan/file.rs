//! Plans in TOML.
//!
//! Every key has a default, so the shortest plan is an `[[attack]]` with a name. `docs/storm-plans.md` is its manual.
//! What is written wrong is told with its line, all of it at once.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::section::{Page, Section, bytes, count, duration, number, or_false, per_second, switch, text, whole, word};
use super::value::{self, quoted};
use super::{
    Asked, Attack, CROWD_MAX, Crowd, Exchange, Frame, Length, Load, Mode, Plan, PlanError, Search, Sought, Source,
    Step, Target, Times, builtin, check, threshold,
};

/// How long the attack lasts unless the plan says otherwise.
pub(super) const DURING: Duration = Duration::from_secs(30);
/// Where a stillhere on this machine listens.
pub(super) const ADDRESS: &str = "127.0.0.1:14000";
/// And where its metrics are.
pub(super) const METRICS: &str = "http://127.0.0.1:14080/metrics";
/// A plan is written by hand; what is longer is another file.
const TEXT_MAX: u64 = 1 << 20;
/// Honest clients, and attackers of each attack.
const CROWD: u32 = 200;
const ATTACKERS: u32 = 100;

const MODES: &[(&str, Mode)] = &[("v1", Mode::V1), ("legacy", Mode::Legacy), ("frame", Mode::Frame)];
const ASKED: &[(&str, Asked)] =
    &[("beat", Asked::Beat), ("say", Asked::Say), ("connect", Asked::Connect), ("frame", Asked::Frame)];
const SOUGHT: &[(&str, Sought)] = &[("attackers", Sought::Attackers), ("rate", Sought::Rate), ("crowd", Sought::Crowd)];
const LENGTHS: &[(&str, Length)] = &[
    ("u8", Length::U8),
    ("u16le", Length::U16Le),
    ("u16be", Length::U16Be),
    ("u32le", Length::U32Le),
    ("u32be", Length::U32Be),
    ("line", Length::Line),
    ("raw", Length::Raw),
];

/// Reads a plan from a file.
///
/// # Errors
/// When it can't be read, is longer than 1 MiB, or [`parse`] finds something.
pub fn read(path: &Path) -> Result<Plan, PlanError> {
    let shown = quoted(&path.display().to_string());
    let cant = |error| {
        PlanError(format!(
            "can't read the plan {shown}: {error}; `stillhere storm --list` shows those that need no file"
        ))
    };
    let file = std::fs::File::open(path).map_err(cant)?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(cant)?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(PlanError(format!("{shown} is longer than 1 MiB: a plan is a short TOML file")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| PlanError(format!("{shown} is no text in UTF-8: a plan is a short TOML file")))?;
    parse(&text, &path.display().to_string())
}

impl Source {
    /// What somebody typed: a file if it looks like one (a slash, or `.toml` at its end), else a name.
    pub fn of(typed: &str) -> Source {
        let is_file = typed.contains(['/', '\\']) || typed.ends_with(".toml");
        if is_file { Source::File(typed.into()) } else { Source::Name(typed.to_owned()) }
    }

    /// The plan there.
    ///
    /// # Errors
    /// When there is none, or it can't be carried out.
    pub fn read(&self) -> Result<Plan, PlanError> {
        match self {
            Source::Name(name) => builtin::named(name),
            Source::File(path) => read(path),
        }
    }
}

/// Reads a plan. `name` is the file's: messages begin with it, and without its ending it is the plan's own name unless
/// the plan has one.
///
/// # Errors
/// Everything that is wrong with it, with its lines.
pub fn parse(text: &str, name: &str) -> Result<Plan, PlanError> {
    let mut page = Page::new(name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last = 0;
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let number = page.line(at);
        // What follows on a line that is broken already is broken by that.
        if std::mem::replace(&mut last, number) == number {
            continue;
        }
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        let what = error.message().split(", expected").next().unwrap_or_default();
        page.fault(at, format!("`{}`: this is not TOML: {}", quoted(line), quoted(what)));
    }
    // What the parser made of a broken text means little, and would only be told of as further mistakes.
    let plan = if errors.is_empty() { Some(plan(&mut page, table.get_ref(), name)) } else { None };
    if let Some(plan) = plan.as_ref().filter(|_| page.is_sound()) {
        for fault in check::faults(plan) {
            page.place(fault);
        }
    }
    page.finish()?;
    plan.ok_or_else(|| PlanError(format!("{}: this is no plan", quoted(name))))
}

fn plan<'t>(page: &mut Page<'_>, table: &'t DeTable<'t>, file: &str) -> Plan {
    let mut top = Section::new(page, "", "the plan", Some(table));
    let name = top.value("name", text).unwrap_or_else(|| stem(file));
    let about = top.value("about", text).unwrap_or_default();
    let seed = top.value("seed", whole).unwrap_or(1);
    let thresholds = top.list("thresholds", threshold::parse);
    let target = target(&mut top);
    let frame = section(&mut top, "frame").map(|table| read_frame(&mut top, table));
    let crowd = crowd(&mut top, frame.is_some());
    let time = times(&mut top, crowd.as_ref().map_or(0, |crowd| crowd.count));
    let attacks = attacks(&mut top);
    let load = section(&mut top, "load").map(|table| read_load(&mut top, table, frame.is_some(), &time));
    let search = section(&mut top, "search").map(|table| read_search(&mut top, table));
    top.end();
    let mut plan =
        Plan { name, about, target, time, crowd, attacks, load, search: None, frame, thresholds: Vec::new(), seed };
    plan.search = search.map(|search| search.filled(&plan));
    let is_given = thresholds.is_some();
    plan.thresholds = thresholds.unwrap_or_else(|| threshold::promise(&plan));
    if plan.crowd.is_none() && plan.attacks.is_empty() && plan.load.is_none() && page.is_sound() {
        page.fault(
            0,
            "nothing happens in this plan: write an [[attack]] or a [load], or let it have its crowd".to_owned(),
        );
    } else if plan.crowd.is_none() && plan.load.is_none() && !is_given && page.is_sound() {
        let says = "nobody watches this attack: write what must hold, such as thresholds = [\"overdue = 0\"], or let it \
                    have its crowd";
        page.fault(0, says.to_owned());
    }
    plan
}

/// A file's name as a plan's: without its folder and ending, and without what plans' names can't have.
fn stem(file: &str) -> String {
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let kept: String = stem.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let kept = stillhere_core::text::clip(kept.trim_start_matches('.'), 64);
    if kept.is_empty() { "plan".to_owned() } else { kept.to_owned() }
}

/// The table of a section, if the plan has it.
fn section<'t>(top: &mut Section<'_, '_, 't>, name: &'static str) -> Option<&'t DeTable<'t>> {
    let value = top.take(name)?;
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => {
            let says = format!("`{name}` is a section: write [{name}] on a line of its own, then its keys");
            top.page().fault(value.span().start, says);
            None
        }
    }
}

fn target(top: &mut Section<'_, '_, '_>) -> Target {
    let table = section(top, "target");
    let mut part = Section::new(top.page(), "target", "[target]", table);
    let address = part.value("address", text).unwrap_or_else(|| ADDRESS.to_owned());
    let metrics = part.value("metrics", or_false(text)).unwrap_or_else(|| metrics_of(&address));
    let pid = part.value("pid", count);
    let command = part.list("command", |word| Ok(word.to_owned())).unwrap_or_default();
    let ready = part.value("ready", duration).unwrap_or(Duration::from_secs(10));
    part.end();
    Target { address, metrics, pid, command, ready }
}

/// Where the metrics of a target are if nobody says: only a stillhere's usual ones are known.
pub(super) fn metrics_of(address: &str) -> Option<String> {
    (address == ADDRESS).then(|| METRICS.to_owned())
}

fn times(top: &mut Section<'_, '_, '_>, crowd: u32) -> Times {
    let table = section(top, "time");
    let mut part = Section::new(top.page(), "time", "[time]", table);
    let ramp = part.value("ramp", duration).unwrap_or_else(|| ramp_of(crowd));
    let before = part.value("before", duration).unwrap_or(Duration::from_secs(10));
    let during = part.value("during", duration).unwrap_or(DURING);
    let after = part.value("after", duration).unwrap_or(Duration::from_secs(10));
    part.end();
    Times { ramp, before, during, after }
}

/// How long a crowd takes to come in if nobody says: two seconds for each begun thousand, which every target's backlog
/// bears.
pub(super) fn ramp_of(crowd: u32) -> Duration {
    Duration::from_secs(2 * u64::from(crowd.min(CROWD_MAX).div_ceil(1000).max(1)))
}

fn crowd(top: &mut Section<'_, '_, '_>, is_framed: bool) -> Option<Crowd> {
    let table = match top.take("crowd").map(|value| (value.span().start, value.get_ref())) {
        None | Some((_, DeValue::Boolean(true))) => None,
        Some((_, DeValue::Boolean(false))) => return None,
        Some((_, DeValue::Table(table))) => Some(table),
        Some((at, _)) => {
            top.page().fault(at, "write a section [crowd], or crowd = false for none".to_owned());
            None
        }
    };
    let mut part = Section::new(top.page(), "crowd", "[crowd]", table);
    let count = part.value("count", count).unwrap_or(CROWD);
    let mode = part.value("mode", word(MODES)).unwrap_or(if is_framed { Mode::Frame } else { Mode::V1 });
    let interval = part.value("interval", duration).unwrap_or(Duration::from_secs(1));
    let rooms = part.value("rooms", self::count).unwrap_or(0);
    let every = |seconds| (rooms > 0).then(|| Duration::from_secs(seconds));
    let say_every = part.value("say_every", or_false(duration)).unwrap_or_else(|| every(5));
    let signal_every = part.value("signal_every", or_false(duration)).unwrap_or_else(|| every(2));
    let newcomers_per_second = part.value("newcomers", per_second).unwrap_or(1.0);
    part.end();
    Some(Crowd { count, mode, interval, rooms, say_every, signal_every, newcomers_per_second })
}

fn attacks(top: &mut Section<'_, '_, '_>) -> Vec<Attack> {
    let Some(value) = top.take("attack") else { return Vec::new() };
    let tables: Option<Vec<_>> = match value.get_ref() {
        DeValue::Array(list) => list.iter().map(table_of).collect(),
        _ => None,
    };
    let Some(tables) = tables else {
        let says = "write [[attack]], in double brackets, on a line of its own: a plan may have several";
        top.page().fault(value.span().start, says.to_owned());
        return Vec::new();
    };
    tables.into_iter().enumerate().map(|(nth, (at, table))| attack(top, nth, at, table)).collect()
}

fn table_of<'t>(value: &'t Spanned<DeValue<'t>>) -> Option<(usize, &'t DeTable<'t>)> {
    match value.get_ref() {
        DeValue::Table(table) => Some((value.span().start, table)),
        _ => None,
    }
}

fn attack<'t>(top: &mut Section<'_, '_, 't>, nth: usize, at: usize, table: &'t DeTable<'t>) -> Attack {
    top.page().note(format!("attack.{nth}"), at, "[[attack]]");
    let mut part = Section::new(top.page(), &format!("attack.{nth}"), "[[attack]]", Some(table));
    let is_named = part.take("name").is_some();
    let name = part.value("name", text).unwrap_or_default();
    if !is_named {
        part.page().fault(at, "[[attack]] needs a name, such as name = \"garbage\"".to_owned());
    }
    let count = part.value("count", count).unwrap_or(ATTACKERS);
    let rate = part.value("rate", per_second);
    let usual = crate::attack::find(&name).map_or(1, |row| row.size);
    let size = part.value("size", bytes).unwrap_or(usual);
    let interval = part.value("interval", duration).unwrap_or(Duration::from_secs(1));
    part.end();
    Attack { name, count, rate, size, interval }
}

fn read_load<'t>(top: &mut Section<'_, '_, 't>, table: &'t DeTable<'t>, is_framed: bool, time: &Times) -> Load {
    let mut part = Section::new(top.page(), "load", "[load]", Some(table));
    let what = part.value("what", word(ASKED)).unwrap_or(if is_framed { Asked::Frame } else { Asked::Beat });
    let connections = part.value("connections", count).unwrap_or(100);
    let closed = part.value("closed", switch).unwrap_or(false);
    let at = part.take("rate").map(|value| value.span().start);
    let rate = part.value("rate", per_second);
    let steps =
        part.list("steps", |text| value::step(text).map_err(|says| PlanError(format!("`{}`: {says}", quoted(text)))));
    if let (Some(at), Some(_)) = (at, &steps) {
        part.page().fault(at, "write either `rate` or `steps` in [load], not both".to_owned());
    }
    part.end();
    let mut steps = steps.unwrap_or_else(|| steady(rate.unwrap_or(100.0), time.during));
    fill(&mut steps, time.during);
    Load { what, connections, steps, closed }
}

/// One rate from beginning to end.
pub(super) fn steady(rate: f64, lasts: Duration) -> Vec<Step> {
    vec![Step { from: rate, to: rate, lasts }]
}

/// Lets the last step last until the end: what it ends with goes on.
fn fill(steps: &mut Vec<Step>, during: Duration) {
    let all = steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.lasts));
    let rest = during.saturating_sub(all);
    match steps.last_mut() {
        Some(last) if !rest.is_zero() && last.from == last.to => last.lasts += rest,
        Some(last) if !rest.is_zero() => {
            let rate = last.to;
            steps.extend(steady(rate, rest));
        }
        Some(_) | None => {}
    }
}

/// A search before its bounds are known.
struct Draft {
    find: Option<Sought>,
    from: Option<u64>,
    max: Option<u64>,
    precision: f64,
    trials: u32,
}

fn read_search<'t>(top: &mut Section<'_, '_, 't>, table: &'t DeTable<'t>) -> Draft {
    let mut part = Section::new(top.page(), "search", "[search]", Some(table));
    let find = part.value("find", word(SOUGHT));
    let from = part.value("from", whole);
    let max = part.value("max", whole);
    let precision = part.value("precision", number).unwrap_or(0.1);
    let trials = part.value("trials", count).unwrap_or(20);
    part.end();
    Draft { find, from, max, precision, trials }
}

impl Draft {
    /// What isn't said follows from the plan: it looks for what the plan has, from a number that most targets bear to
    /// the largest that a plan may have.
    fn filled(self, plan: &Plan) -> Search {
        let find = self.find.unwrap_or(match (&plan.attacks[..], &plan.load) {
            ([], Some(_)) => Sought::Rate,
            ([], None) => Sought::Crowd,
            _ => Sought::Attackers,
        });
        let most = check::most(plan, find);
        let max = self.max.unwrap_or(most);
        let from = self.from.unwrap_or_else(|| if find == Sought::Attackers { 50 } else { 100 }.min(max));
        Search { find, from, max, precision: self.precision, trials: self.trials }
    }
}

fn read_frame<'t>(top: &mut Section<'_, '_, 't>, table: &'t DeTable<'t>) -> Frame {
    let mut part = Section::new(top.page(), "frame", "[frame]", Some(table));
    let length = part.value("length", word(LENGTHS)).unwrap_or(Length::U32Be);
    let includes_header = part.value("includes_header", switch).unwrap_or(false);
    let max = part.value("max", bytes).unwrap_or(64 * 1024);
    let hello = match part.take("hello").map(|value| (value.span().start, value.get_ref())) {
        None => Vec::new(),
        Some((at, DeValue::Array(list))) => hellos(&mut part, at, list),
        Some((at, _)) => {
            part.page().fault(at, format!("`hello` is a list: write hello = [{EXCHANGE}]"));
            Vec::new()
        }
    };
    let beat = match part.take("beat").map(|value| (value.span().start, value.get_ref())) {
        None => None,
        Some((_, DeValue::Table(table))) => Some(exchange(&mut part, "frame.beat", table)),
        Some((at, _)) => {
            part.page().fault(at, format!("write beat = {EXCHANGE}"));
            None
        }
    };
    part.end();
    let beat = beat.unwrap_or(Exchange { payload: String::new(), reply: None });
    Frame { length, includes_header, hello, beat, max }
}

const EXCHANGE: &str = "{ payload = \"ping\", reply = \"pong\" }";

fn hellos<'t>(part: &mut Section<'_, '_, 't>, at: usize, list: &'t DeArray<'t>) -> Vec<Exchange> {
    let tables: Option<Vec<_>> = list.iter().map(table_of).collect();
    match tables {
        Some(tables) => tables.into_iter().map(|(_, table)| exchange(part, "frame.hello", table)).collect(),
        None => {
            part.page().fault(at, format!("write each exchange as {EXCHANGE}"));
            Vec::new()
        }
    }
}

fn exchange<'t>(part: &mut Section<'_, '_, 't>, path: &str, table: &'t DeTable<'t>) -> Exchange {
    let mut inner = Section::new(part.page(), path, "an exchange", Some(table));
    let payload = inner.value("payload", text).unwrap_or_default();
    let reply = inner.value("reply", or_false(text)).flatten();
    inner.end();
    Exchange { payload, reply }
}

/// All words that a plan knows, for the test of its manual.
#[cfg(test)]
pub(super) fn words() -> Vec<&'static str> {
    let modes = MODES.iter().map(|(word, _)| *word);
    let asked = ASKED.iter().map(|(word, _)| *word);
    modes
        .chain(asked)
        .chain(SOUGHT.iter().map(|(word, _)| *word))
        .chain(LENGTHS.iter().map(|(word, _)| *word))
        .collect()
}
