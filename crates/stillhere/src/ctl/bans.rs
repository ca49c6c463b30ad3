//! `stillhere ctl ban`, `unban` and `bans`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use stillhere_core::text::Escaped;

use super::Done;
use super::admin::Admin;
use super::pages::List;
use super::sessions::{ago, elapsed};
use crate::output::{self, rough};
use crate::table::{Align, Cell, Column, Table};

/// Ban a user, or an address or range, and end their sessions.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl ban eve --for 1h --reason spam\n  stillhere ctl ban 192.0.2.0/24")]
pub(super) struct BanArgs {
    /// A user's name, or ADDRESS[/BITS]
    #[arg(value_name = "USER|ADDRESS")]
    subject: String,
    /// How long, such as 90s, 1h or 2d [default: until it is taken back]
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// Why, for those who look at it later
    #[arg(long)]
    reason: Option<String>,
}

/// Take a ban back.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere ctl unban eve")]
pub(super) struct UnbanArgs {
    /// As it was banned
    #[arg(value_name = "USER|ADDRESS")]
    subject: String,
}

/// List the bans in force, newest first.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere ctl bans --json")]
pub(super) struct ListArgs {}

/// Bans.
pub(super) fn ban(admin: &Admin, args: &BanArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut body = json!({ kind(&args.subject): args.subject });
    if let Some(span) = args.span {
        body["for_ms"] = json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(reason) = &args.reason {
        body["reason"] = json!(reason);
    }
    admin.post::<Done>("/api/v1/bans", &body)?.tell(kind(&args.subject), as_json)
}

/// Takes a ban back.
pub(super) fn unban(admin: &Admin, args: &UnbanArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let query = [(kind(&args.subject), args.subject.clone())];
    admin.delete::<Done>("/api/v1/bans", &query)?.tell(kind(&args.subject), as_json)
}

/// What looks like an address is one; a name that does can only be banned through the API.
fn kind(subject: &str) -> &'static str {
    let address = subject.split_once('/').map_or(subject, |(address, _)| address);
    if address.parse::<IpAddr>().is_ok() || subject.contains('/') { "address" } else { "user" }
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write 90s, 30m, 1h or 2d");
    let span: SignedDuration = match text.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => SignedDuration::from_hours(days.checked_mul(24).ok_or_else(wrong)?),
        _ => text.parse().map_err(|_| wrong())?,
    };
    let span = Duration::try_from(span).map_err(|_| wrong())?;
    if span.is_zero() { Err("a ban of no time is none; write 90s, 30m, 1h or 2d".to_owned()) } else { Ok(span) }
}

/// An entry of `GET /api/v1/bans`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Ban {
    user: Option<String>,
    address: Option<String>,
    until: Option<Timestamp>,
    reason: String,
    created: Option<Timestamp>,
}

const COLUMNS: [Column; 4] = [
    Column { title: "WHO", align: Align::Left, rank: 0 },
    Column { title: "STILL", align: Align::Right, rank: 0 },
    Column { title: "BANNED", align: Align::Right, rank: 2 },
    Column { title: "REASON", align: Align::Left, rank: 1 },
];

/// Lists them.
pub(super) fn list(admin: &Admin, _: &ListArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let list = List::fetch_all_at_once(admin, "bans")?;
    if as_json {
        output::print_json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut table, now) = (Table::new(&COLUMNS), Timestamp::now());
    let bans = list.entries::<Ban>()?;
    for ban in &bans {
        let who = ban.user.as_deref().or(ban.address.as_deref()).unwrap_or("-");
        let still = ban.until.map_or_else(|| "for good".to_owned(), |until| rough(elapsed(now, until)));
        let banned = ban.created.map_or_else(|| "-".to_owned(), |created| ago(elapsed(created, now)));
        table.add(vec![Cell::new(Escaped(who)), Cell::new(still), Cell::new(banned), Cell::new(Escaped(&ban.reason))]);
    }
    let text = if bans.is_empty() { String::new() } else { table.render(output::columns(), output::coloured()) };
    output::print(text + &list.summary("ban"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_addresses_are_told_apart() {
        for (subject, wanted) in [
            ("ada", "user"),
            ("10.1", "user"),
            ("192.0.2.7", "address"),
            ("192.0.2.0/24", "address"),
            ("::1", "address"),
            ("2001:db8::/32", "address"),
            // No name has a slash, so the gateway's answer about addresses helps more.
            ("300.0.0.0/8", "address"),
        ] {
            assert_eq!(kind(subject), wanted, "{subject}");
        }
    }

    #[test]
    fn spans_are_as_elsewhere_and_in_days() {
        let table = [("90s", 90), ("1h", 3600), ("1h30m", 5400), ("2d", 172_800)];
        for (text, seconds) in table {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "1", "-1h", "0s", "soon", "99999999999999999999d"] {
            assert!(span(wrong).is_err_and(|told| told.contains("write 90s")), "{wrong}");
        }
    }
}
