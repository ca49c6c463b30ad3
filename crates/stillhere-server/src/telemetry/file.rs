//! A log file that begins anew each day or hour.
//!
//! The current file always has the configured name, so `tail -F` follows it; when its time is over it is renamed to
//! `NAME.2026-07-01` (or `NAME.2026-07-01-13`), and only files with exactly such a name are ever removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Rotate;

/// The current file and when to change it.
pub(super) struct LogFile {
    path: PathBuf,
    rotate: Rotate,
    /// How many rotated files stay.
    keep: usize,
    file: File,
    /// The day or hour of what the current file holds; empty when it never rotates.
    period: String,
    clock: fn() -> Timestamp,
}

impl LogFile {
    /// Opens `path` to append, after turning over what an earlier process left from an earlier period.
    pub(super) fn open(path: PathBuf, rotate: Rotate, keep: usize) -> io::Result<LogFile> {
        LogFile::open_with(path, rotate, keep, Timestamp::now)
    }

    fn open_with(path: PathBuf, rotate: Rotate, keep: usize, clock: fn() -> Timestamp) -> io::Result<LogFile> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = append_to(&path)?;
        let written_at = file.metadata()?.modified()?.try_into().unwrap_or_else(|_| clock());
        let mut log = LogFile { period: period(rotate, written_at), path, rotate, keep, file, clock };
        log.turn()?;
        Ok(log)
    }

    /// Begins a new file when the time of this one is over.
    fn turn(&mut self) -> io::Result<()> {
        let now = period(self.rotate, (self.clock)());
        if now == self.period {
            return Ok(());
        }
        let past = self.rotated(&self.period);
        // After a jump of the clock the name may be taken; then the current file just goes on.
        if !past.exists() {
            fs::rename(&self.path, past)?;
            self.file = append_to(&self.path)?;
        }
        self.period = now;
        self.prune()
    }

    fn rotated(&self, period: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(period);
        PathBuf::from(name)
    }

    fn prune(&self) -> io::Result<()> {
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut periods: Vec<String> = fs::read_dir(directory.unwrap_or(Path::new(".")))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|entry| Some(entry.strip_prefix(&*name)?.strip_prefix('.')?.to_owned()))
            .filter(|suffix| is_period(suffix))
            .collect();
        periods.sort();
        let surplus = periods.len().saturating_sub(self.keep);
        periods[..surplus].iter().try_for_each(|period| fs::remove_file(self.rotated(period)))
    }
}

impl Write for LogFile {
    /// Takes whole lines, so none is torn between two files.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // A directory that can't be changed is no reason to stop logging.
        let turned = self.turn();
        self.file.write_all(lines)?;
        turned.map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn period(rotate: Rotate, at: Timestamp) -> String {
    match rotate {
        Rotate::Daily => at.strftime("%Y-%m-%d").to_string(),
        Rotate::Hourly => at.strftime("%Y-%m-%d-%H").to_string(),
        Rotate::Never => String::new(),
    }
}

fn is_period(suffix: &str) -> bool {
    let shaped = |shape: &str| {
        suffix.len() == shape.len()
            && suffix.bytes().zip(shape.bytes()).all(|(c, s)| if s == b'0' { c.is_ascii_digit() } else { c == s })
    };
    shaped("0000-00-00") || shaped("0000-00-00-00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(0) };
    }

    fn clock() -> Timestamp {
        Timestamp::from_second(NOW.get()).expect("in range")
    }

    /// A directory of its own for a test, gone afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("stillhere-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory");
            Scratch(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("readable");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const DAY: i64 = 86_400;
    /// Beyond the present, so that a fresh file's own time is earlier.
    const START: i64 = 4_000_000_000 / DAY * DAY;

    #[test]
    fn each_day_gets_its_file_and_the_oldest_goes() {
        let scratch = Scratch::new("daily");
        NOW.set(START);
        let mut log = LogFile::open_with(scratch.0.join("s.log"), Rotate::Daily, 2, clock).expect("opened");
        fs::write(scratch.0.join("s.log.notes"), "mine").expect("written");
        fs::write(scratch.0.join("s.logbook"), "mine").expect("written");
        for day in 0..5 {
            NOW.set(START + day * DAY);
            log.write_all(format!("day {day}\n").as_bytes()).expect("written");
        }
        assert_eq!(scratch.names(), ["s.log", "s.log.2096-10-04", "s.log.2096-10-05", "s.log.notes", "s.logbook"]);
        assert_eq!(fs::read_to_string(scratch.0.join("s.log")).expect("there"), "day 4\n");
        assert_eq!(fs::read_to_string(scratch.0.join("s.log.2096-10-05")).expect("there"), "day 3\n");
    }

    #[test]
    fn a_file_that_never_rotates_just_grows() {
        let scratch = Scratch::new("never");
        for day in 0..3 {
            NOW.set(START + day * DAY);
            let log = LogFile::open_with(scratch.0.join("deeper/s.log"), Rotate::Never, 1, clock);
            log.expect("opened").write_all(b"x\n").expect("written");
        }
        assert_eq!(fs::read_to_string(scratch.0.join("deeper/s.log")).expect("there"), "x\nx\nx\n");
    }
}
