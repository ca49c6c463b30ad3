use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Config;
use tracing::{debug, error, info, warn};

/// What was written, to look at afterwards.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("whole").clone();
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs what `say` says in this style; the lines without their time.
fn logged(style: Style, rate: u32, say: impl FnOnce(&Lines)) -> Vec<String> {
    let memory = Memory::default();
    let writer = memory.clone();
    let output = Output { style, writer: BoxMakeWriter::new(move || writer.clone()), overflow: None };
    let (lines, _wake) = Lines::new(rate, vec![output], Arc::default());
    let lines = Arc::new(lines);
    let subscriber = Registry::default().with(targets(Level::Debug)).with(Lined(Arc::clone(&lines)));
    tracing::subscriber::with_default(subscriber, || say(&lines));
    memory.lines()
}

/// The line after its time and target.
fn said(line: &str) -> &str {
    line.split_once("tests: ").map_or(line, |(_, rest)| rest)
}

#[test]
fn a_text_line_has_time_level_place_message_and_fields() {
    let lines = logged(Style::Plain, 0, |_| info!(target: "stillhere_server::listen", links = 3, peer = "::1", "up"));
    let (time, rest) = lines[0].split_once(' ').expect("a time");
    assert_eq!(rest, "INFO  server::listen: up links=3 peer=::1");
    assert_eq!(time.len(), "2026-07-01T12:00:00.123Z".len());
    assert!(time.ends_with('Z') && time.parse::<Timestamp>().is_ok(), "{time}");
}

#[test]
fn a_json_line_is_one_object_with_typed_fields() {
    let lines = logged(Style::Json, 0, |_| warn!(links = 3, ok = true, ratio = 0.5, level = "mine", "it \"works\""));
    let value: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(value["level"], "warn");
    assert_eq!(value["message"], "it \"works\"");
    assert_eq!(value["links"], 3);
    assert_eq!(value["ok"], true);
    assert_eq!(value["ratio"], 0.5);
    assert_eq!(value["field_level"], "mine");
}

#[test]
fn no_control_character_gets_through_in_any_field() {
    let hostile = "a\r\nfake\u{1b}[31m\u{9b}2J\u{202e}\u{0}";
    for style in [Style::Plain, Style::Json] {
        let lines = logged(style, 0, |_| {
            let failure = io::Error::other(hostile);
            let failure: &dyn std::error::Error = &failure;
            error!(str = hostile, shown = %hostile, debug = ?hostile, failure, "message {hostile}");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains(|c: char| c.is_control() || c == '\u{202e}'), "{}", lines[0]);
    }
}

#[test]
fn what_a_caller_escaped_is_not_escaped_twice() {
    let lines = logged(Style::Plain, 0, |_| info!(name = %stillhere_core::text::Escaped("a\nb"), "joined"));
    assert_eq!(said(&lines[0]), "joined name=a\\u{a}b");
}

#[test]
fn no_value_can_forge_a_field() {
    let lines = logged(Style::Plain, 0, |_| {
        info!(a = "x status=close", b = %"\"x\" status=\"close\"", c = "", d = ?"fine", e = "\"", "m");
    });
    let expected = r#"m a="x status=close" b="\"x\" status=\"close\"" c="" d="fine" e="\"""#;
    assert_eq!(said(&lines[0]), expected);
}

#[test]
fn a_huge_field_is_cut() {
    let lines = logged(Style::Plain, 0, |_| info!(huge = "x".repeat(1 << 20), "m"));
    assert!(lines[0].len() < 3000 && lines[0].ends_with('…'), "{}", lines[0].len());
}

#[test]
fn colours_appear_only_where_they_are_wanted() {
    let plain = logged(Style::Plain, 0, |_| warn!("m"));
    assert!(!plain[0].contains('\u{1b}'));
    let coloured = logged(Style::Coloured, 0, |_| warn!("m"));
    assert!(coloured[0].contains("\u{1b}[33mWARN"), "{coloured:?}");
}

#[test]
fn lines_of_one_kind_are_limited_and_summed_up() {
    let lines = logged(Style::Plain, 5, |lines| {
        for peer in 0..100 {
            info!(peer, "refused {peer}");
        }
        info!("another kind");
        assert_eq!(lines.limiter.suppressed(), 95);
        lines.summarise();
        lines.summarise();
    });
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(said(&lines[5]), "another kind");
    assert_eq!(said(&lines[6]), "95 more lines like \"refused 5\" suppressed suppressed=95");
}

#[test]
fn the_limit_is_a_rate_so_lines_come_back() {
    use tracing::callsite::Callsite as _;
    let limiter = Limiter::new(10);
    let callsite = tracing::callsite!(name: "x", kind: tracing::metadata::Kind::EVENT, fields: message);
    let metadata = callsite.metadata();
    let start = Instant::now();
    let admitted = |millis: u64| {
        let now = start + Duration::from_millis(millis);
        (0..100).filter(|_| limiter.admit(metadata, now, String::new)).count()
    };
    assert_eq!(admitted(0), 10);
    assert_eq!(admitted(50), 0);
    assert_eq!(admitted(100), 1);
    assert_eq!(admitted(3_600_000), 10);
    assert_eq!(admitted(0), 0, "a clock that seems to go back gives nothing");
}

#[test]
fn libraries_are_quiet_and_levels_are_respected() {
    let lines = logged(Style::Plain, 0, |_| {
        debug!("ours");
        tracing::trace!("too fine");
        info!(target: "hyper", "chatter");
        warn!(target: "hyper", "trouble");
    });
    let said: Vec<&str> = lines.iter().map(|line| line.rsplit(": ").next().unwrap_or_default()).collect();
    assert_eq!(said, ["ours", "trouble"]);
}

#[test]
fn a_stuck_output_costs_lines_and_never_time() {
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = std::sync::mpsc::channel();
    let lost = Arc::default();
    let (output, worker) = Output::start("log-test", Style::Plain, Stuck(stuck), &lost);
    let (lines, _wake) = Lines::new(0, vec![output], lost);
    let lines = Arc::new(lines);
    let subscriber = Registry::default().with(Lined(Arc::clone(&lines)));
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..LINES_QUEUED_MAX + 100 {
            info!(n, "line");
        }
    });
    // One line may already be in the writer's hands.
    assert!((99..=100).contains(&lines.lost()), "{}", lines.lost());
    drop(release);
    drop(worker);
}

#[test]
fn a_refused_line_is_counted_and_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lost: Arc<AtomicU64> = Arc::default();
    let mut writer = Counted { writer: Full, lost: Arc::clone(&lost) };
    writer.write_all(b"x\n").expect("swallowed");
    let memory = Memory::default();
    let shown = memory.clone();
    let output = Output { style: Style::Plain, writer: BoxMakeWriter::new(move || shown.clone()), overflow: None };
    let (lines, _wake) = Lines::new(0, vec![output], lost);
    lines.summarise();
    lines.summarise();
    assert_eq!(memory.lines().len(), 1);
    assert!(memory.lines()[0].ends_with("log lines were lost: an output is stuck, too slow or full lost=1"));
}

#[test]
fn the_default_log_is_in_the_range_of_what_init_takes() {
    let log = Config::default().log;
    assert_eq!((log.format, log.level, log.file), (Format::Auto, Level::Info, None));
}
