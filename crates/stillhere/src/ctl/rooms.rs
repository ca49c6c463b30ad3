//! `stillhere ctl rooms`.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;
use stillhere_core::text::Escaped;

use super::Done;
use super::admin::{Admin, path_part};
use super::pages::{List, Part};
use crate::output::{self, thousands};
use crate::table::{Align, Cell, Column, Table};

/// List, make and delete rooms.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  stillhere ctl rooms\n  stillhere ctl rooms create lobby --owner ada")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    part: Part,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a room
    Create {
        name: String,
        /// Who may do everything in it
        #[arg(long)]
        owner: Option<String>,
        /// What it is about
        #[arg(long)]
        topic: Option<String>,
        /// Only by invitation
        #[arg(long)]
        private: bool,
    },
    /// Delete a room with its messages
    Delete { name: String },
}

/// Carries it out.
pub(super) fn run(admin: &Admin, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => list(admin, args.part, as_json),
        Some(Command::Create { name, owner, topic, private }) => {
            let mut body = json!({ "name": name, "public": !private });
            for (key, value) in [("owner", owner), ("topic", topic)] {
                if let Some(value) = value {
                    body[key] = json!(value);
                }
            }
            admin.post::<Done>("/api/v1/rooms", &body)?.tell("room", as_json)
        }
        Some(Command::Delete { name }) => {
            admin.delete::<Done>(&format!("/api/v1/rooms/{}", path_part(name)), &[])?.tell("room", as_json)
        }
    }
}

/// An entry of `GET /api/v1/rooms`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Room {
    name: String,
    topic: String,
    public: bool,
    owner: Option<String>,
    messages: u64,
    bytes: u64,
}

const COLUMNS: [Column; 6] = [
    Column { title: "ROOM", align: Align::Left, rank: 0 },
    Column { title: "OPEN TO", align: Align::Left, rank: 2 },
    Column { title: "OWNER", align: Align::Left, rank: 1 },
    Column { title: "MESSAGES", align: Align::Right, rank: 0 },
    Column { title: "BYTES", align: Align::Right, rank: 3 },
    Column { title: "TOPIC", align: Align::Left, rank: 4 },
];

fn list(admin: &Admin, part: Part, as_json: bool) -> anyhow::Result<ExitCode> {
    let list = List::fetch(admin, "rooms", &[], part)?;
    if as_json {
        output::print_json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&COLUMNS);
    let rooms = list.entries::<Room>()?;
    for room in &rooms {
        table.add(vec![
            Cell::new(Escaped(&room.name)),
            Cell::new(if room.public { "all" } else { "invited" }),
            Cell::new(Escaped(room.owner.as_deref().unwrap_or("-"))),
            Cell::new(thousands(room.messages)),
            Cell::new(thousands(room.bytes)),
            Cell::new(Escaped(&room.topic)),
        ]);
    }
    let text = if rooms.is_empty() { String::new() } else { table.render(output::columns(), output::coloured()) };
    output::print(text + &list.summary("room"))?;
    Ok(ExitCode::SUCCESS)
}
