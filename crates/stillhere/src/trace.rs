//! `stillhere tune trace`: steps the detector through events without a clock, for tables, tests and the curious.
//!
//! Standard input has a case a line, standard output a line an event. Input is read as a stream, so it may be as long
//! as it likes; one line may not.

mod step;

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use stillhere_core::detector::Rule;
use stillhere_core::text::{Escaped, clip};

use step::{Event, Stepper};

/// The longest line of input, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How long a session stays on leave, in intervals: 30 minutes of 10 seconds.
const HOLD_DEFAULT: u64 = 180;

/// Understand the detector and choose its numbers.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Step the detector through events, without a clock.
    ///
    /// Reads cases from standard input, one JSON object a line, and prints one JSON line for each event: the tick (how
    /// many H and M there were), the event, and the cursor, strikes and status after it. Events: H a beat heard, M an
    /// interval missed, D disconnected (which closes at once, as for legacy sessions), R the same identity is back.
    /// `hold` is in intervals. What `params` leaves out is as in the profile seed: 3, 5, 3 and 180.
    #[command(after_help = "Example:\n  echo '{\"case\":\"x\",\"params\":{\"hold\":6},\"events\":\"HHMDR\"}' \
                      | stillhere tune trace")]
    Trace,
}

/// Runs it. The exit code tells whether every line was right.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Trace = args.command;
    let output = BufWriter::new(io::stdout().lock());
    match trace(io::stdin().lock(), output, io::stderr().lock()) {
        Ok(0) => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).context("can't trace"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    #[serde(default)]
    params: Object<Params>,
    events: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    start: u8,
    threshold: u8,
    strikes: u8,
    hold: u64,
}

impl Default for Params {
    fn default() -> Params {
        let Rule { start, threshold, strikes, .. } = Rule::SEED;
        Params { start, threshold, strikes, hold: HOLD_DEFAULT }
    }
}

/// A line of the answer; the order of its keys is promised.
#[derive(Serialize)]
struct Row<'a> {
    case: &'a str,
    tick: u64,
    ev: char,
    cursor: u32,
    strikes: u32,
    status: &'static str,
}

/// Answers every line of `input`; the number of lines that were malformed.
fn trace(mut input: impl BufRead, mut output: impl Write, mut complaints: impl Write) -> io::Result<u64> {
    let mut line = Vec::new();
    let mut malformed = 0;
    for number in 1_u64.. {
        line.clear();
        if (&mut input).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let answered = if line.len() > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            Err(format!("a line may have {LINE_BYTES_MAX} bytes; split the case"))
        } else {
            parse(&line)
        };
        match answered {
            Ok(None) => {}
            Ok(Some((case, stepper, events))) => write_rows(&mut output, &case, stepper, &events)?,
            Err(what) => {
                malformed += 1;
                output.flush()?;
                writeln!(complaints, "stillhere: line {number}: {what}")?;
            }
        }
    }
    output.flush()?;
    Ok(malformed)
}

/// A case ready to run, nothing for an empty line, or what is wrong with it.
fn parse(line: &[u8]) -> Result<Option<(String, Stepper, Vec<Event>)>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let Object(Case { case, params: Object(params), events }) =
        serde_json::from_slice(line).map_err(|error| explain(&error))?;
    let rule = Rule {
        start: params.start,
        threshold: params.threshold,
        strikes: params.strikes,
        recovery: Rule::SEED.recovery,
    };
    rule.check().map_err(|error| error.to_string())?;
    let events: Result<Vec<Event>, String> = events
        .chars()
        .map(|letter| Event::of(letter).ok_or_else(|| format!("unknown event {letter:?}; events are H, M, D and R")))
        .collect();
    Ok(Some((case, Stepper::new(rule, params.hold), events?)))
}

fn write_rows(output: &mut impl Write, case: &str, mut stepper: Stepper, events: &[Event]) -> io::Result<()> {
    for event in events {
        stepper.step(*event);
        let detector = stepper.detector();
        let row = Row {
            case,
            tick: stepper.tick(),
            ev: event.letter(),
            cursor: detector.cursor().into(),
            strikes: detector.strikes().into(),
            status: detector.status().name(),
        };
        serde_json::to_writer(&mut *output, &row)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads to the end of a line that is too long, without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        let (used, found) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(index) => (index + 1, true),
            None => (chunk.len(), chunk.is_empty()),
        };
        input.consume(used);
        if found {
            return Ok(());
        }
    }
}

/// serde_json's message with the column only, since it always sees a single line.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{} (column {})", Escaped(clip(text, 200)), error.column())
}

/// A struct that only a JSON object makes; derived code would take an array as well.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Entries<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard output and standard error for this input.
    fn traced(input: &str) -> (String, String) {
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        trace(input.as_bytes(), &mut output, &mut complaints).expect("no I/O fails here");
        (String::from_utf8(output).expect("UTF-8"), String::from_utf8(complaints).expect("UTF-8"))
    }

    #[test]
    fn the_issue_s_example_gives_a_line_for_each_event() {
        let line = r#"{"case":"x","params":{"start":3,"threshold":5,"strikes":3,"hold":180},"events":"HHMDR"}"#;
        let (output, complaints) = traced(line);
        assert_eq!(complaints, "");
        assert_eq!(
            output.lines().collect::<Vec<_>>(),
            [
                r#"{"case":"x","tick":1,"ev":"H","cursor":2,"strikes":0,"status":"alive"}"#,
                r#"{"case":"x","tick":2,"ev":"H","cursor":1,"strikes":0,"status":"alive"}"#,
                r#"{"case":"x","tick":3,"ev":"M","cursor":2,"strikes":0,"status":"alive"}"#,
                r#"{"case":"x","tick":3,"ev":"D","cursor":3,"strikes":0,"status":"close"}"#,
                r#"{"case":"x","tick":3,"ev":"R","cursor":3,"strikes":0,"status":"leave"}"#,
            ]
        );
    }

    #[test]
    fn missing_params_are_the_seed_s() {
        let full =
            traced(r#"{"case":"a","params":{"start":3,"threshold":5,"strikes":3,"hold":180},"events":"MMMMMM"}"#);
        assert_eq!(traced(r#"{"case":"a","events":"MMMMMM"}"#), full);
        assert_eq!(traced(r#"{"case":"a","params":{},"events":"MMMMMM"}"#), full);
        assert_eq!(traced(r#"{"case":"a","params":{"hold":180},"events":"MMMMMM"}"#), full);
    }

    #[test]
    fn a_malformed_line_is_named_and_the_others_are_answered() {
        let good = r#"{"case":"x","events":"H"}"#;
        for (bad, clause) in [
            ("nonsense", "expected"),
            ("[]", "expected an object"),
            (r#"["x",{},"H"]"#, "expected an object"),
            (r#"{"case":"x","params":[3,5,3,180],"events":"H"}"#, "expected an object"),
            (r#"{"case":"x","params":null,"events":"H"}"#, "expected an object"),
            (r#"{"case":"x"}"#, "missing field `events`"),
            (r#"{"events":"H"}"#, "missing field `case`"),
            (r#"{"case":1,"events":"H"}"#, "expected a string"),
            (r#"{"case":"x","events":["H"]}"#, "expected a string"),
            (r#"{"case":"x","events":"H","extra":1}"#, "unknown field `extra`"),
            (r#"{"case":"x","params":{"begin":1},"events":"H"}"#, "unknown field `begin`"),
            (r#"{"case":"x","params":{"start":"3"},"events":"H"}"#, "expected u8"),
            (r#"{"case":"x","params":{"start":-1},"events":"H"}"#, "expected u8"),
            (r#"{"case":"x","params":{"start":1.5},"events":"H"}"#, "expected u8"),
            (r#"{"case":"x","params":{"start":5},"events":"H"}"#, "start (5) must be below threshold (5)"),
            (r#"{"case":"x","params":{"strikes":0},"events":"H"}"#, "strikes must be at least 1"),
            (r#"{"case":"x","events":"HX"}"#, "unknown event 'X'"),
            (r#"{"case":"x","events":"h"}"#, "unknown event 'h'"),
            (r#"{"case":"x","case":"y","events":"H"}"#, "duplicate field `case`"),
            (r#"{"case":"x","events":"H"} {}"#, "trailing characters"),
        ] {
            let (output, complaints) = traced(&format!("{good}\n\n{bad}\n{good}\n"));
            assert_eq!(output.lines().count(), 2, "{bad}: {output}");
            assert!(
                complaints.starts_with("stillhere: line 3: ") && complaints.contains(clause),
                "{bad}: {complaints}"
            );
            assert_eq!(complaints.lines().count(), 1, "{complaints}");
        }
    }

    #[test]
    fn a_line_may_be_long_but_not_endless() {
        let fits = format!(r#"{{"case":"{}","events":""}}"#, "x".repeat(LINE_BYTES_MAX - 23));
        assert_eq!(fits.len(), LINE_BYTES_MAX);
        assert_eq!(traced(&fits), (String::new(), String::new()));
        assert_eq!(traced(&format!("{fits}\n")), (String::new(), String::new()));
        let endless = "x".repeat(3 * LINE_BYTES_MAX);
        let (output, complaints) = traced(&format!("{endless}\n{}\n", r#"{"case":"x","events":"H"}"#));
        assert_eq!(output.lines().count(), 1);
        assert!(complaints.starts_with("stillhere: line 1: a line may have 1048576 bytes"), "{complaints}");
        assert_eq!(complaints.lines().count(), 1);
    }

    #[test]
    fn nobody_s_text_colours_the_terminal() {
        let (_, complaints) = traced("{\"case\":\"x\",\"events\":\"\u{9b}\"}\n{\"\u{1b}[31m\":1}\n{\"\u{9b}\":1}\n");
        assert_eq!(complaints.lines().count(), 3);
        assert!(!complaints.contains(|c: char| c.is_control() && c != '\n'), "{complaints:?}");
    }
}
