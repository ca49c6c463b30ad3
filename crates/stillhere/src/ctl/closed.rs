//! `stillhere ctl closed`: the links that ended, and why.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Deserialize;
use stillhere_core::text::Escaped;

use super::admin::Admin;
use super::pages::{List, Part};
use super::sessions::{ago, elapsed};
use crate::output::{self, rough};
use crate::table::{Align, Cell, Colour, Column, Table};

/// List the links that closed last, newest first, with code and cause.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere ctl closed --limit 20")]
pub(super) struct Args {
    #[command(flatten)]
    part: Part,
}

/// An entry of `GET /api/v1/closed`, as far as the table shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Closed {
    id: Option<String>,
    peer: String,
    user: Option<String>,
    mode: String,
    transport: String,
    code: Option<u16>,
    name: Option<String>,
    cause: Option<String>,
    beats: u64,
    bytes_in: u64,
    bytes_out: u64,
    rtt_ms: Option<f64>,
    opened: Option<Timestamp>,
    closed: Option<Timestamp>,
}

/// Prints the list.
pub(super) fn run(admin: &Admin, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let list = List::fetch(admin, "closed", &[], args.part)?;
    if as_json {
        output::print_json(&list)?;
    } else {
        let mut page = render(&list.entries()?, Timestamp::now(), output::columns(), output::coloured());
        page.push_str(&list.summary("closed link"));
        output::print(page)?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [Column; 11] = [
    Column { title: "CLOSED", align: Align::Right, rank: 0 },
    Column { title: "PEER", align: Align::Left, rank: 0 },
    Column { title: "WHO", align: Align::Left, rank: 3 },
    Column { title: "TRANSPORT", align: Align::Left, rank: 7 },
    Column { title: "CODE", align: Align::Left, rank: 0 },
    Column { title: "CAUSE", align: Align::Left, rank: 1 },
    Column { title: "LASTED", align: Align::Right, rank: 4 },
    Column { title: "BEATS", align: Align::Right, rank: 2 },
    Column { title: "BYTES IN", align: Align::Right, rank: 5 },
    Column { title: "BYTES OUT", align: Align::Right, rank: 6 },
    Column { title: "RTT", align: Align::Right, rank: 8 },
];

fn render(links: &[Closed], now: Timestamp, room: Option<usize>, coloured: bool) -> String {
    let mut table = Table::new(&COLUMNS);
    for link in links {
        table.add(cells(link, now));
    }
    if links.is_empty() { String::new() } else { table.render(room, coloured) }
}

fn cells(link: &Closed, now: Timestamp) -> Vec<Cell> {
    let closed = link.closed.map_or("-".to_owned(), |closed| ago(elapsed(closed, now)));
    let lasted = link.opened.zip(link.closed).map(|(opened, closed)| rough(elapsed(opened, closed)));
    let id = link.id.as_deref().filter(|id| *id != link.peer);
    let code = match (link.code, link.name.as_deref()) {
        (Some(code), name) => Cell::new(Escaped(&format!("{code} {}", name.unwrap_or("")))).coloured(Colour::Warning),
        (None, _) => Cell::new("-"),
    };
    vec![
        Cell::new(closed),
        Cell::new(Escaped(&link.peer)),
        Cell::new(Escaped(link.user.as_deref().or(id).unwrap_or("-"))),
        Cell::new(Escaped(&format!("{}/{}", link.transport, link.mode))),
        code,
        Cell::new(Escaped(link.cause.as_deref().unwrap_or("-"))),
        Cell::new(lasted.unwrap_or_else(|| "-".to_owned())),
        Cell::new(link.beats),
        Cell::new(link.bytes_in),
        Cell::new(link.bytes_out),
        Cell::new(link.rtt_ms.map_or("-".to_owned(), |rtt| format!("{rtt:.1}ms"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_link_is_a_row_with_its_code_by_name() {
        let links: Vec<Closed> = serde_json::from_value(serde_json::json!([
            {
                "id": null, "peer": "127.0.0.1:4000", "mode": "unknown", "transport": "tcp", "code": 4007,
                "name": "no_hello", "cause": null, "beats": 0, "bytes_in": 4, "bytes_out": 0, "rtt_ms": null,
                "opened": "2026-07-01T11:59:40Z", "closed": "2026-07-01T11:59:50Z",
            },
            { "peer": "127.0.0.1:4001", "mode": "legacy", "transport": "tcp", "code": null, "cause": "goodbye" },
        ]))
        .expect("links");
        let text = render(&links, "2026-07-01T12:00:00Z".parse().expect("a time"), None, false);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].starts_with("10s ago  127.0.0.1:4000") && rows[1].contains("4007 no_hello"), "{text}");
        assert!(rows[2].contains("tcp/legacy") && rows[2].contains("goodbye"), "{text}");
    }
}
