//! `stillhere ctl who`, `say` and `audit`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stillhere_core::text::Escaped;

use super::admin::Admin;
use super::pages::{List, Part};
use super::sessions::{ago, elapsed};
use crate::output;
use crate::table::{Align, Cell, Column, Table};

/// See who is here, or in a room.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl who\n  stillhere ctl who lobby\n  stillhere ctl who --user ada")]
pub(super) struct WhoArgs {
    /// Only in this room
    room: Option<String>,
    /// Only this user
    #[arg(long, conflicts_with = "room")]
    user: Option<String>,
}

/// Show a notice to all, to a room, or to a user.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl say back in five minutes\n  stillhere ctl say --room lobby be kind")]
pub(super) struct SayArgs {
    /// To those in this room
    #[arg(long)]
    room: Option<String>,
    /// To this user
    #[arg(long, conflicts_with = "room")]
    user: Option<String>,
    /// What to say
    #[arg(required = true)]
    text: Vec<String>,
}

/// List what operators did, newest first.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere ctl audit --limit 20")]
pub(super) struct AuditArgs {
    #[command(flatten)]
    part: Part,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Who {
    user: String,
    verified: bool,
    status: String,
    cause: Option<String>,
    since: Option<Timestamp>,
    sessions: u64,
}

const WHO: [Column; 5] = [
    Column { title: "USER", align: Align::Left, rank: 0 },
    Column { title: "STATUS", align: Align::Left, rank: 0 },
    Column { title: "CAUSE", align: Align::Left, rank: 1 },
    Column { title: "SINCE", align: Align::Right, rank: 2 },
    Column { title: "SESSIONS", align: Align::Right, rank: 3 },
];

/// Lists them.
pub(super) fn who(admin: &Admin, args: &WhoArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct Roster {
        users: Vec<Who>,
    }
    let filters = [("room", &args.room), ("user", &args.user)];
    let query: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let roster: Value = admin.get("/api/v1/who", &query)?;
    if as_json {
        output::print_json(&roster)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Roster { users } = serde_json::from_value(roster)?;
    let (mut table, now) = (Table::new(&WHO), Timestamp::now());
    for user in &users {
        let mark = if user.verified { "" } else { " (unverified)" };
        table.add(vec![
            Cell::new(format!("{}{mark}", Escaped(&user.user))),
            Cell::new(Escaped(&user.status)),
            Cell::new(Escaped(user.cause.as_deref().unwrap_or("-"))),
            Cell::new(user.since.map_or_else(|| "-".to_owned(), |since| ago(elapsed(since, now)))),
            Cell::new(user.sessions),
        ]);
    }
    match users.len() {
        0 => output::print("nobody\n")?,
        1 => output::print(table.render(output::columns(), output::coloured()) + "1 user\n")?,
        count => {
            output::print(format!("{}{count} users\n", table.render(output::columns(), output::coloured())))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says it.
pub(super) fn say(admin: &Admin, args: &SayArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize, Serialize)]
    struct Noticed {
        sessions: u64,
    }
    let mut body = json!({ "text": args.text.join(" ") });
    for (key, value) in [("room", &args.room), ("user", &args.user)] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let noticed: Noticed = admin.post("/api/v1/notice", &body)?;
    match noticed.sessions {
        _ if as_json => output::print_json(&noticed)?,
        0 => output::print("nobody is there to read it\n")?,
        1 => output::print("shown to 1 session\n")?,
        sessions => output::print(format_args!("shown to {sessions} sessions\n"))?,
    }
    Ok(if noticed.sessions == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    at: Option<Timestamp>,
    actor: String,
    action: String,
    subject: String,
    detail: String,
}

const AUDIT: [Column; 5] = [
    Column { title: "WHEN", align: Align::Left, rank: 0 },
    Column { title: "WHO", align: Align::Left, rank: 1 },
    Column { title: "ACTION", align: Align::Left, rank: 0 },
    Column { title: "SUBJECT", align: Align::Left, rank: 0 },
    Column { title: "DETAIL", align: Align::Left, rank: 2 },
];

/// Lists them.
pub(super) fn audit(admin: &Admin, args: &AuditArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let list = List::fetch(admin, "audit", &[], args.part)?;
    if as_json {
        output::print_json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&AUDIT);
    let lines = list.entries::<Line>()?;
    for line in &lines {
        let texts = [&line.actor, &line.action, &line.subject, &line.detail].map(|text| Cell::new(Escaped(text)));
        let at = Cell::new(line.at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")));
        table.add([at].into_iter().chain(texts).collect());
    }
    let text = if lines.is_empty() { String::new() } else { table.render(output::columns(), output::coloured()) };
    output::print(text + &list.summary("line"))?;
    Ok(ExitCode::SUCCESS)
}
