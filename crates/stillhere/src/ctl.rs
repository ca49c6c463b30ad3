//! `stillhere ctl`: asks and tells a running gateway, through its admin API.

mod admin;
mod bans;
mod closed;
mod pages;
mod password;
mod rooms;
mod sessions;
mod stats;
mod talk;
mod users;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde::Deserialize;
use serde_json::json;
use stillhere_core::text::Escaped;

use crate::output;
use admin::{Admin, Target};

/// Ask and tell a running gateway.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl sessions --status leave\n  stillhere ctl kick 127.0.0.1:50312\n  \
                        stillhere ctl --data-dir /var/lib/stillhere stats")]
pub(crate) struct Args {
    /// Where the admin API is [default: 127.0.0.1:14080]
    #[arg(long, global = true, help_heading = "Which gateway", value_name = "ADDR")]
    admin: Option<String>,
    /// The gateway's data directory, which has the admin token [default: ./stillhere-data]
    #[arg(long, global = true, help_heading = "Which gateway", value_name = "DIR")]
    data_dir: Option<String>,
    /// The admin token itself [default: admin.token in the data directory]
    #[arg(long, global = true, help_heading = "Which gateway", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The gateway's configuration, to find the others in
    #[arg(long, global = true, help_heading = "Which gateway", value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Sessions(sessions::Args),
    Closed(closed::Args),
    Kick(KickArgs),
    Who(talk::WhoArgs),
    Say(talk::SayArgs),
    Users(users::Args),
    Ban(bans::BanArgs),
    Unban(bans::UnbanArgs),
    Bans(bans::ListArgs),
    Rooms(rooms::Args),
    Audit(talk::AuditArgs),
    /// Print the gateway's counters.
    #[command(after_help = "Example:\n  stillhere ctl stats --json")]
    Stats,
    /// Read the configuration again, as HUP does, and say what needs a restart.
    #[command(after_help = "Example:\n  stillhere ctl reload")]
    Reload,
    /// Say goodbye to all clients and end, as TERM does.
    #[command(after_help = "Example:\n  stillhere ctl drain")]
    Drain,
}

/// Close sessions at once.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl kick 127.0.0.1:50312\n  stillhere ctl kick --user ada")]
struct KickArgs {
    /// A session's id, or the ip:port of its link
    #[arg(value_name = "ID", required_unless_present_any = ["user", "peer"], conflicts_with_all = ["user", "peer"])]
    id: Option<String>,
    /// All sessions of this user
    #[arg(long, conflicts_with = "peer")]
    user: Option<String>,
    /// All sessions from this address
    #[arg(long, value_name = "IP")]
    peer: Option<String>,
}

/// Runs the chosen one.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { admin, data_dir, token_file, config, json, command } = args;
    let admin = Admin::find(Target { admin, data_dir, token_file, config })?;
    match command {
        Command::Sessions(args) => sessions::run(&admin, &args, json),
        Command::Closed(args) => closed::run(&admin, &args, json),
        Command::Kick(args) => kick(&admin, &args, json),
        Command::Who(args) => talk::who(&admin, &args, json),
        Command::Say(args) => talk::say(&admin, &args, json),
        Command::Users(args) => users::run(&admin, &args, json),
        Command::Ban(args) => bans::ban(&admin, &args, json),
        Command::Unban(args) => bans::unban(&admin, &args, json),
        Command::Bans(args) => bans::list(&admin, &args, json),
        Command::Rooms(args) => rooms::run(&admin, &args, json),
        Command::Audit(args) => talk::audit(&admin, &args, json),
        Command::Stats => stats::run(&admin, json),
        Command::Reload => reload(&admin, json),
        Command::Drain => drain(&admin, json),
    }
}

/// What the API did, to whom or what.
#[derive(Deserialize, serde::Serialize)]
struct Done {
    done: String,
    subject: String,
}

impl Done {
    /// Says it: `user ada: disabled`.
    fn tell(&self, noun: &str, as_json: bool) -> anyhow::Result<ExitCode> {
        if as_json {
            output::print_json(self)?;
        } else {
            output::print(format_args!("{noun} {}: {}\n", Escaped(&self.subject), Escaped(&self.done)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn kick(admin: &Admin, args: &KickArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize, serde::Serialize)]
    struct Answer {
        kicked: u64,
    }
    let whom = match (&args.id, &args.user, &args.peer) {
        (_, Some(user), _) => json!({ "user": user }),
        (_, _, Some(peer)) => json!({ "peer": peer }),
        // An ip:port is a legacy session's id, but a v1 session's link has one as well.
        (Some(id), ..) if id.parse::<SocketAddr>().is_ok() => json!({ "peer": id }),
        (id, None, None) => json!({ "id": id }),
    };
    let answer: Answer = admin.post("/api/v1/kick", &whom)?;
    if as_json {
        output::print_json(&answer)?;
    } else {
        match answer.kicked {
            0 => bail!("nobody was kicked: no such session; `stillhere ctl sessions` lists them"),
            1 => output::print("kicked 1 session\n")?,
            kicked => output::print(format_args!("kicked {kicked} sessions\n"))?,
        }
    }
    Ok(if answer.kicked == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn reload(admin: &Admin, as_json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize, serde::Serialize)]
    struct Answer {
        #[serde(default)]
        applied: Vec<String>,
        #[serde(default)]
        needs_restart: Vec<String>,
        #[serde(default)]
        errors: Vec<serde_json::Value>,
    }
    let answer: Answer = admin.post("/api/v1/reload", &json!({}))?;
    let code = if answer.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if as_json {
        output::print_json(&answer)?;
        return Ok(code);
    }
    let list = |keys: &[String]| keys.iter().map(|key| Escaped(key).to_string()).collect::<Vec<_>>().join(", ");
    let mut page = String::new();
    for error in &answer.errors {
        let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        page.push_str(&format!("not reloaded: {}\n", Escaped(&text)));
    }
    if !answer.applied.is_empty() {
        page.push_str(&format!("applied: {}\n", list(&answer.applied)));
    }
    if !answer.needs_restart.is_empty() {
        page.push_str(&format!("only after a restart: {}\n", list(&answer.needs_restart)));
    }
    if page.is_empty() {
        page.push_str("nothing has changed\n");
    }
    output::print(page)?;
    Ok(code)
}

fn drain(admin: &Admin, as_json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize, serde::Serialize)]
    struct Answer {
        draining: bool,
        links: u64,
    }
    let answer: Answer = admin.post("/api/v1/drain", &json!({}))?;
    if as_json {
        output::print_json(&answer)?;
    } else {
        let links = output::thousands(answer.links);
        output::print(format_args!("draining: {links} links get their goodbye, then the gateway ends\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
