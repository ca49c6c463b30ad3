//! `stillhere ctl users`: accounts.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stillhere_core::text::Escaped;
use stillhere_server::import;

use super::admin::{Admin, path_part};
use super::pages::{List, Part};
use super::sessions::{ago, elapsed};
use super::{Done, password};
use crate::output;
use crate::table::{Align, Cell, Colour, Column, Table};

/// Rows of an import in one request: the gateway takes about 40 ms for each.
const BATCH: usize = 50;

/// Make, change and list accounts.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  stillhere ctl users add ada\n  pass show chat/bob | stillhere ctl users add bob\n  \
                        stillhere ctl users import users.json"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make an account; the password comes from the terminal or standard input
    Add { name: String },
    /// Set a user's password, end its sessions and take its tokens
    Passwd { name: String },
    /// Let nobody log in as this user, and end its sessions
    Disable { name: String },
    /// Undo `disable`
    Enable { name: String },
    /// Forgive a user's wrong passwords
    Unlock { name: String },
    /// Delete an account; what it has written stays, unless --purge
    Delete {
        name: String,
        /// Delete its messages as well
        #[arg(long)]
        purge: bool,
    },
    /// Take over users from a JSON file of names and MD5 hashes
    Import {
        file: PathBuf,
        /// Give users that exist the imported password
        #[arg(long)]
        replace: bool,
    },
    /// List accounts by name
    List {
        /// Only names that contain this
        part: Option<String>,
        #[command(flatten)]
        page: Part,
    },
}

/// Carries it out.
pub(super) fn run(admin: &Admin, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let change = |name: &String, body| -> anyhow::Result<ExitCode> {
        let done: Done = admin.patch(&format!("/api/v1/users/{}", path_part(name)), &body)?;
        done.tell("user", as_json)
    };
    match &args.command {
        Command::Add { name } => {
            let body = json!({ "name": name, "password": password::read(name)? });
            admin.post::<Done>("/api/v1/users", &body)?.tell("user", as_json)
        }
        Command::Passwd { name } => change(name, json!({ "password": password::read(name)? })),
        Command::Disable { name } => change(name, json!({ "disabled": true })),
        Command::Enable { name } => change(name, json!({ "disabled": false })),
        Command::Unlock { name } => change(name, json!({ "unlock": true })),
        Command::Delete { name, purge } => {
            let query: &[_] = if *purge { &[("purge", "true".to_owned())] } else { &[] };
            let done: Done = admin.delete(&format!("/api/v1/users/{}", path_part(name)), query)?;
            done.tell("user", as_json)
        }
        Command::Import { file, replace } => import_file(admin, file, *replace, as_json),
        Command::List { part, page } => list(admin, part.as_ref(), *page, as_json),
    }
}

/// What became of an import.
#[derive(Default, Serialize)]
struct Report {
    added: u64,
    replaced: u64,
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    name: String,
    why: String,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    name: String,
    done: String,
    #[serde(default)]
    why: String,
}

/// A row that is skipped is no failure, since a second run meets all those of the first; nothing taken over at all is.
fn import_file(admin: &Admin, file: &Path, replace: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let shown = file.display();
    let mut text = String::new();
    let opened = fs::File::open(file).with_context(|| format!("can't open {shown}"))?;
    (&opened).read_to_string(&mut text).with_context(|| format!("can't read {shown}"))?;
    let import::List { rows, skipped } = import::read(&text).with_context(|| format!("can't import {shown}"))?;
    let skipped = skipped.into_iter().map(|import::Skipped { row, why }| Skipped { name: row, why }).collect();
    let mut report = Report { skipped, ..Report::default() };
    for batch in rows.chunks(BATCH) {
        let sent = admin.post("/api/v1/import", &json!({ "rows": batch, "replace": replace }));
        let done = report.added + report.replaced;
        let told = format!("the import stopped after {done} users were taken over; run it again for the rest");
        let Answer { results } = sent.context(told)?;
        for Outcome { name, done, why } in results {
            match done.as_str() {
                "added" => report.added += 1,
                "replaced" => report.replaced += 1,
                _ => report.skipped.push(Skipped { name, why }),
            }
        }
    }
    let taken = report.added + report.replaced;
    if as_json {
        output::print_json(&report)?;
    } else {
        for Skipped { name, why } in &report.skipped {
            output::print(format_args!("skipped {}: {}\n", Escaped(name), Escaped(why)))?;
        }
        let (added, replaced, skipped) = (report.added, report.replaced, report.skipped.len());
        output::print(format_args!("added {added}, replaced {replaced}, skipped {skipped}\n"))?;
    }
    Ok(if taken == 0 && !report.skipped.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// An entry of `GET /api/v1/users`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    name: String,
    disabled: bool,
    password: String,
    created: Option<Timestamp>,
}

const COLUMNS: [Column; 4] = [
    Column { title: "USER", align: Align::Left, rank: 0 },
    Column { title: "STATE", align: Align::Left, rank: 0 },
    Column { title: "PASSWORD", align: Align::Left, rank: 2 },
    Column { title: "CREATED", align: Align::Right, rank: 1 },
];

fn list(admin: &Admin, part: Option<&String>, page: Part, as_json: bool) -> anyhow::Result<ExitCode> {
    let filters: Vec<_> = part.into_iter().map(|part| ("name", part.clone())).collect();
    let list = List::fetch(admin, "users", &filters, page)?;
    if as_json {
        output::print_json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut table, now) = (Table::new(&COLUMNS), Timestamp::now());
    let users = list.entries::<User>()?;
    for user in &users {
        let state = if user.disabled { Cell::new("disabled").coloured(Colour::Warning) } else { Cell::new("enabled") };
        let created = user.created.map_or_else(|| "-".to_owned(), |created| ago(elapsed(created, now)));
        table.add(vec![Cell::new(Escaped(&user.name)), state, Cell::new(Escaped(&user.password)), Cell::new(created)]);
    }
    let text = if users.is_empty() { String::new() } else { table.render(output::columns(), output::coloured()) };
    output::print(text + &list.summary("user"))?;
    Ok(ExitCode::SUCCESS)
}
