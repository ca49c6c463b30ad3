//! What the process says of itself: one line an event, as text for people or as JSON for programs.
//!
//! Logs go to standard error, and optionally to a file; standard output is left to what a command was asked for (the
//! start-up card of `serve`), so `2>log` and `| jq` do what one expects and a JSON log is nothing but JSON. Spans are
//! not printed: an event carries all that its reader needs.
//!
//! Nothing here may hold up a shard. Lines are handed to a writer thread per output through a bounded queue; when a
//! terminal or disk is stuck they are dropped and counted. A kind of line (a tracing callsite) that comes too often
//! is written `lines_per_second` times a second, and the rest are summed up in one line a second.
//!
//! Threads: `log-stderr` and `log-file` write; `log-summary` sums up. All end with the process; dropping the
//! [`Guard`] lets them finish first, for about a second at most.

mod file;
mod limiter;
mod line;

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::config::{Format, Level, Log};
use file::LogFile;
use limiter::Limiter;
use line::{Line, Style};

/// How many lines may wait for a writer thread; at about 200 bytes each they are below 1 MiB. A burst of this size
/// passes, a stuck output costs no more.
const LINES_QUEUED_MAX: usize = 4096;
/// How often suppressed and lost lines are summed up.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the log going. Drop it last: that writes what is still queued.
pub struct Guard {
    level: reload::Handle<Targets, Registry>,
    lines: Arc<Lines>,
    _workers: Vec<WorkerGuard>,
}

impl Guard {
    /// Logs from this level on from now on.
    ///
    /// # Errors
    /// When another logger was put in this one's place.
    pub fn set_level(&self, level: Level) -> anyhow::Result<()> {
        self.level.reload(targets(level)).context("can't change the level of the log")
    }

    /// How many lines were lost since the start because an output was stuck or refused them.
    pub fn lines_lost(&self) -> u64 {
        self.lines.lost()
    }

    /// How many lines were left out since the start because their kind came too often.
    pub fn lines_suppressed(&self) -> u64 {
        self.lines.limiter.suppressed()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lines.summarise();
    }
}

/// Starts logging for the whole process, panics included.
///
/// # Errors
/// When the log file can't be opened, a thread can't be started, or logging was started before.
pub fn init(log: &Log) -> anyhow::Result<Guard> {
    let lost = Arc::new(AtomicU64::new(0));
    let on_terminal = io::stderr().is_terminal();
    let style = match log.format {
        Format::Json => Style::Json,
        Format::Auto if !on_terminal => Style::Json,
        Format::Text | Format::Auto if on_terminal && wants_colour() => Style::Coloured,
        Format::Text | Format::Auto => Style::Plain,
    };
    let mut outputs = vec![Output::start("log-stderr", style, io::stderr(), &lost)];
    if let Some(path) = &log.file {
        let file = LogFile::open(path.clone(), log.rotate, log.keep)
            .with_context(|| format!("can't open the log file {}; change [log] file", path.display()))?;
        let style = if log.format == Format::Text { Style::Plain } else { Style::Json };
        outputs.push(Output::start("log-file", style, file, &lost));
    }
    let (outputs, workers) = outputs.into_iter().unzip();
    let (lines, wake) = Lines::new(log.lines_per_second, outputs, lost);
    let lines = Arc::new(lines);
    let (filter, level) = reload::Layer::new(targets(log.level));
    let subscriber = Registry::default().with(filter).with(Lined(Arc::clone(&lines)));
    tracing::subscriber::set_global_default(subscriber).context("logging was started twice")?;
    start_summaries(&lines, wake)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Guard { level, lines, _workers: workers })
}

/// Our own crates log at `level`; libraries have little to say to an operator.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("stillhere", level)
}

fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, "panic: {what}");
}

/// Sums up once a second, but only while there is something: a quiet process has no timer of ours.
fn start_summaries(lines: &Arc<Lines>, wake: Receiver<()>) -> anyhow::Result<()> {
    let lines = Arc::clone(lines);
    let summarise = move || {
        while wake.recv().is_ok() {
            std::thread::sleep(SUMMARY_INTERVAL);
            lines.summarise();
        }
    };
    let thread = std::thread::Builder::new().name("log-summary".into());
    thread.spawn(summarise).map(drop).context("can't start a thread for the log")
}

/// One place that lines go to.
struct Output {
    style: Style,
    writer: BoxMakeWriter,
    /// Lines that found the queue full.
    overflow: Option<ErrorCounter>,
}

impl Output {
    fn start(
        thread: &str,
        style: Style,
        writer: impl Write + Send + 'static,
        lost: &Arc<AtomicU64>,
    ) -> (Output, WorkerGuard) {
        let writer = Counted { writer, lost: Arc::clone(lost) };
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_QUEUED_MAX);
        let (queue, worker): (NonBlocking, WorkerGuard) = builder.thread_name(thread).finish(writer);
        let overflow = Some(queue.error_counter());
        (Output { style, writer: BoxMakeWriter::new(queue), overflow }, worker)
    }
}

/// Counts lines that the operating system refuses (a full disk, a closed pipe) and goes on.
struct Counted<W> {
    writer: W,
    lost: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.writer.write_all(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Makes lines of events and hands them out.
struct Lines {
    limiter: Limiter,
    outputs: Vec<Output>,
    /// Lines that an output took but the operating system refused.
    refused: Arc<AtomicU64>,
    /// How many lost lines the log has told of. Only [`Lines::summarise`] holds it.
    told: Mutex<u64>,
    wake: SyncSender<()>,
}

impl Lines {
    fn new(lines_per_second: u32, outputs: Vec<Output>, refused: Arc<AtomicU64>) -> (Lines, Receiver<()>) {
        let (wake, woken) = sync_channel(1);
        let limiter = Limiter::new(lines_per_second);
        (Lines { limiter, outputs, refused, told: Mutex::new(0), wake }, woken)
    }

    fn handle_event(&self, event: &Event<'_>, now: Instant) {
        let admitted = self.limiter.admit(event.metadata(), now, || Line::of(event).message().to_owned());
        if admitted {
            self.write(&Line::of(event));
        }
        if !admitted || self.lost() > 0 {
            // Full means that the summary is already asked for.
            let _ = self.wake.try_send(());
        }
    }

    fn write(&self, line: &Line) {
        let now = Timestamp::now();
        for output in &self.outputs {
            let text = line.format(output.style, now);
            // The writers never fail: what is lost is counted on the way.
            let _ = output.writer.make_writer().write_all(text.as_bytes());
        }
    }

    fn summarise(&self) {
        for summary in self.limiter.take_summaries() {
            self.write(&Line::suppressed(&summary));
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost();
        if lost > *told {
            self.write(&Line::lost(lost - *told));
            *told = lost;
        }
    }

    fn lost(&self) -> u64 {
        let overflown = self.outputs.iter().filter_map(|output| output.overflow.as_ref());
        let overflown: usize = overflown.map(ErrorCounter::dropped_lines).sum();
        overflown as u64 + self.refused.load(Ordering::Relaxed)
    }
}

/// [`Lines`] as tracing wants it.
struct Lined(Arc<Lines>);

impl<S: Subscriber> Layer<S> for Lined {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.handle_event(event, Instant::now());
    }
}

#[cfg(test)]
mod tests;
