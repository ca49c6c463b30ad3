//! The file of samples: written second by second, read whole.
//!
//! A line is written as soon as its second is over, in one piece, so a run that is killed leaves all of its seconds and
//! at most one cut line. The file isn't forced onto the disk each second: it has to outlive the storm's process, not
//! the machine.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{End, Line, Run, Second, VERSION};

/// What the file is called in a run's folder.
pub const FILE: &str = "samples.jsonl";
/// Seconds of one run: four phases of an hour are 14,400, and the rest is room for clocks that stumble.
const SECONDS_MAX: usize = 100_000;
/// Bytes of one line. A second of a crowd with many different round trips has some 50 KiB.
const LINE_MAX: u64 = 16 << 20;
/// Bytes of a file: all of it is held in memory, in about as many bytes.
const FILE_MAX: u64 = 1 << 30;
/// No second ends later than ten days after the beginning: whoever wrote that wasn't the storm.
const AT_MS_MAX: u64 = 10 * 24 * 3_600_000;

/// Why samples can't be written or read, in a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReportError(pub String);

/// A run, as its file tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// What was known before it began.
    pub run: Run,
    /// What happened, second by second.
    pub seconds: Vec<Second>,
    /// What was known when it had ended; `None` if it was killed, or still runs.
    pub end: Option<End>,
    /// Whether the last line was cut and is left out.
    pub torn: bool,
}

/// Writes the samples of one run.
#[derive(Debug)]
pub struct Writer {
    /// `None` when it has failed: what follows isn't written.
    file: Option<File>,
    path: PathBuf,
    line: Vec<u8>,
}

impl Writer {
    /// Begins the file in this folder, which is made if it isn't there.
    ///
    /// # Errors
    /// When the folder or the file can't be made or written, or the folder already has samples.
    pub fn create(dir: &Path, run: &Run) -> Result<Writer, ReportError> {
        let path = dir.join(FILE);
        let shown = path.display();
        fs::create_dir_all(dir)
            .map_err(|error| ReportError(format!("can't make {}: {error}; choose another --out", dir.display())))?;
        let file = File::create_new(&path).map_err(|error| {
            ReportError(match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    format!("{shown} is there already, from another run; choose another --out")
                }
                _ => format!("can't write {shown}: {error}; choose another --out"),
            })
        })?;
        let mut writer = Writer { file: Some(file), path, line: Vec::new() };
        if let Err(error) = writer.write(&Line::Run(Box::new(run.clone()))) {
            // Without its first line it is of no use to anybody.
            let _ = fs::remove_file(&writer.path);
            let shown = writer.path.display();
            return Err(ReportError(format!(
                "can't write {shown}: {error}; the run wasn't begun: make room there, or choose another --out"
            )));
        }
        Ok(writer)
    }

    /// Writes one second.
    ///
    /// # Errors
    /// When it can't be written, the first time: then nothing more is written, and the run goes on.
    pub fn second(&mut self, second: Second) -> Result<(), ReportError> {
        self.line(&Line::Second(Box::new(second)))
    }

    /// Writes the last line and hands all of it to the disk.
    ///
    /// # Errors
    /// As for [`Writer::second`].
    pub fn end(mut self, end: End) -> Result<(), ReportError> {
        self.line(&Line::End(end))?;
        let synced = self.file.take().map_or(Ok(()), |file| file.sync_all());
        synced.map_err(|error| self.failed(&error))
    }

    /// False once writing has failed.
    pub fn is_writing(&self) -> bool {
        self.file.is_some()
    }

    fn line(&mut self, line: &Line) -> Result<(), ReportError> {
        self.write(line).map_err(|error| {
            self.file = None;
            self.failed(&error)
        })
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        file.write_all(&self.line)
    }

    fn failed(&self, error: &std::io::Error) -> ReportError {
        let shown = self.path.display();
        ReportError(format!("can't write {shown} any further: {error}; the report ends here, the run goes on"))
    }
}

/// Reads a run: its folder, or the file itself.
///
/// # Errors
/// When there is none, it is of a newer version, or it is damaged anywhere but in its last line.
pub fn read(path: &Path) -> Result<Recording, ReportError> {
    let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
    let shown = path.display();
    let file = File::open(&path).map_err(|error| {
        ReportError(format!("can't read {shown}: {error}; name the folder that a run was written to (its --out)"))
    })?;
    read_lines(&mut BufReader::new(file)).map_err(|error| ReportError(format!("{shown}: {error}")))
}

fn read_lines(file: &mut impl BufRead) -> Result<Recording, ReportError> {
    let mut lines = Lines { file, number: 0, left: FILE_MAX, text: Vec::new() };
    let run = match lines.next()? {
        Some(Found::Line(line)) => match *line {
            Line::Run(run) => *run,
            Line::Second(_) | Line::End(_) => return Err(lines.damaged("the first line must be of the kind `run`")),
        },
        Some(Found::Torn) => return Err(lines.damaged("it is cut before anything happened")),
        None => return Err(ReportError("it is empty".to_owned())),
    };
    let mut recording = Recording { run, seconds: Vec::new(), end: None, torn: false };
    while let Some(found) = lines.next()? {
        let Found::Line(line) = found else {
            recording.torn = true;
            break;
        };
        if recording.end.is_some() {
            return Err(lines.damaged("there is something after the end"));
        }
        match *line {
            Line::Run(_) => return Err(lines.damaged("a second run begins; one file has one run")),
            Line::Second(second) => {
                if recording.seconds.len() == SECONDS_MAX {
                    return Err(lines.damaged("it has more than 100,000 seconds, and no run is that long"));
                }
                let before = recording.seconds.last().map_or(0, |last| last.at_ms);
                if second.at_ms < before || second.at_ms > AT_MS_MAX {
                    return Err(lines.damaged("its time doesn't follow from the line before"));
                }
                recording.seconds.push(*second);
            }
            Line::End(end) => recording.end = Some(end),
        }
    }
    Ok(recording)
}

/// The lines of a file, one at a time.
struct Lines<'a, R> {
    file: &'a mut R,
    /// Of the last line, from 1.
    number: usize,
    /// Bytes that may still come.
    left: u64,
    text: Vec<u8>,
}

enum Found {
    Line(Box<Line>),
    /// The last one, without its end.
    Torn,
}

/// What is looked at before the rest of a line.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
    /// Only the first line has it.
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Run,
    Second,
    End,
}

/// One line. Its kind is read first and the rest by that: what serde makes of a tagged enum doesn't read maps whose
/// keys are numbers, and holds each line twice.
fn parse(text: &[u8]) -> Result<Box<Line>, serde_json::Error> {
    let Head { kind, version: _ } = serde_json::from_slice(text)?;
    Ok(Box::new(match kind {
        Kind::Run => Line::Run(serde_json::from_slice(text)?),
        Kind::Second => Line::Second(serde_json::from_slice(text)?),
        Kind::End => Line::End(serde_json::from_slice(text)?),
    }))
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<Found>, ReportError> {
        self.text.clear();
        self.number += 1;
        let most = LINE_MAX.min(self.left) + 1;
        let read = self.file.take(most).read_until(b'\n', &mut self.text);
        let length = read.map_err(|error| ReportError(format!("line {}: {error}", self.number)))? as u64;
        if length == 0 {
            return Ok(None);
        }
        if length == most {
            return Err(self.damaged("it is longer than a line (16 MiB) or a file (1 GiB) of the storm's can be"));
        }
        self.left -= length;
        if self.number == 1 {
            self.check_version()?;
        }
        match parse(&self.text) {
            Ok(line) => Ok(Some(Found::Line(line))),
            Err(_) if !self.text.ends_with(b"\n") => Ok(Some(Found::Torn)),
            Err(error) => Err(self.damaged(&error.to_string())),
        }
    }

    /// A newer version may look different from here on, so its number is looked at first.
    fn check_version(&self) -> Result<(), ReportError> {
        match serde_json::from_slice(&self.text) {
            Ok(Head { kind: Kind::Run, version }) if version > VERSION => Err(ReportError(format!(
                "its format is version {version} and this storm knows {VERSION}; use a newer stillhere"
            ))),
            _ => Ok(()),
        }
    }

    fn damaged(&self, what: &str) -> ReportError {
        ReportError(format!("line {} is damaged: {what}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;

    /// A folder for one test, empty.
    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("stillhere-storm-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    /// A run's lines.
    fn lines() -> Vec<String> {
        let recording = synthetic::run(&synthetic::Shape::default());
        let run = Line::Run(Box::new(recording.run));
        let seconds = recording.seconds.into_iter().map(|second| Line::Second(Box::new(second)));
        let end = Line::End(End { at_ms: 40_000, cut: None, own_fault: false });
        std::iter::once(run)
            .chain(seconds)
            .chain(std::iter::once(end))
            .map(|line| serde_json::to_string(&line).unwrap() + "\n")
            .collect()
    }

    fn read_text(text: &str) -> Result<Recording, String> {
        read_lines(&mut text.as_bytes()).map_err(|error| error.0)
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = folder("round-trip");
        let wanted = synthetic::run(&synthetic::Shape::default());
        let mut writer = Writer::create(&dir, &wanted.run).unwrap();
        for second in &wanted.seconds {
            writer.second(second.clone()).unwrap();
        }
        // A run that is killed here can be read.
        let killed = read(&dir).unwrap();
        assert_eq!((killed.seconds.len(), &killed.end), (wanted.seconds.len(), &None));
        writer.end(wanted.end.clone().unwrap()).unwrap();
        assert_eq!(read(&dir).unwrap(), wanted);
        assert_eq!(read(&dir.join(FILE)).unwrap(), wanted);

        let error = Writer::create(&dir, &wanted.run).unwrap_err().to_string();
        assert!(error.contains("choose another --out"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_cut_last_line_is_left_out_and_told() {
        let lines = lines();
        let text = lines[..4].concat();
        let cut = read_text(&text[..text.len() - 20]).unwrap();
        assert_eq!((cut.seconds.len(), cut.torn, &cut.end), (2, true, &None));
        let whole = read_text(text.trim_end()).unwrap();
        assert_eq!((whole.seconds.len(), whole.torn), (3, false), "only its line feed is missing");
    }

    #[test]
    fn other_damage_is_an_error_with_its_line() {
        let lines = lines();
        let newer = lines[0].replacen("\"version\":1", "\"version\":2", 1).replacen("\"cores\"", "\"kernels\"", 1);
        let end = lines.last().unwrap();
        let future = lines[2].replacen("\"at_ms\":", "\"at_ms\":9", 1);
        for (text, wanted) in [
            (String::new(), "empty"),
            ("{\"ki".to_owned(), "line 1 is damaged: it is cut"),
            (lines[1].clone(), "line 1 is damaged: the first line"),
            (newer, "version 2 and this storm knows 1; use a newer"),
            (lines[0].replacen("\"cores\"", "\"kernels\"", 1), "line 1 is damaged: missing field `cores`"),
            (format!("{}nonsense\n{}", lines[0], lines[1]), "line 2 is damaged: expected"),
            (format!("{}\n{}", lines[0], lines[1]), "line 2 is damaged"),
            (format!("{}{}{}", lines[0], lines[2], lines[1]), "line 3 is damaged: its time"),
            (format!("{}{}", lines[0], future.replacen("9", "9999999999", 1)), "line 2 is damaged: its time"),
            (format!("{}{}", lines[0], lines[0]), "line 2 is damaged: a second run"),
            (format!("{}{end}{}", lines[0], lines[1]), "line 3 is damaged: there is something after"),
        ] {
            let error = read_text(&text).unwrap_err();
            assert!(error.contains(wanted), "`{error}` lacks `{wanted}`");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut file = BufReader::new(std::io::repeat(b'x').take(4 * LINE_MAX));
        let error = read_lines(&mut file).unwrap_err().to_string();
        assert!(error.contains("line 1 is damaged: it is longer"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once_and_stops_only_the_writing() {
        let recording = synthetic::run(&synthetic::Shape::default());
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = Writer { file: Some(file), path: PathBuf::from("/dev/full"), line: Vec::new() };
        let told = writer.second(recording.seconds[0].clone()).unwrap_err().to_string();
        assert!(told.contains("the run goes on") && !writer.is_writing(), "{told}");
        assert_eq!(writer.second(recording.seconds[1].clone()), Ok(()));
        assert_eq!(writer.end(recording.end.unwrap()), Ok(()));
    }
}
