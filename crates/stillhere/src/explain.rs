//! `stillhere config explain`: what follows from a profile's numbers, in seconds.

use serde::Serialize;
use stillhere_core::detector::Recovery;
use stillhere_core::profile::{PROFILES, Profile};
use stillhere_server::config::Config;

use crate::config::SettingArgs;
use crate::output::{self, seconds, spoken};
use crate::table::{Align, Cell, Colour, Column, Table};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Page<'a> {
    profiles: &'a [Row],
}

/// One profile and what follows from it. All times are in milliseconds.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    purpose: &'static str,
    /// Whether the gateway works with exactly these numbers.
    effective: bool,
    /// Whether `[detector]` overrides numbers of the named profile.
    overridden: bool,
    interval_ms: u128,
    /// Up to where the server stretches a healthy session's interval.
    interval_max_ms: u128,
    start: u8,
    threshold: u8,
    strikes: u8,
    /// `step`: a beat moves the cursor down by one; `full`: to zero.
    recovery: &'static str,
    /// From a session's last frame until it is on leave, when it never beat again after its first.
    leave_fresh_ms: u128,
    /// The same for a session that was healthy.
    leave_healthy_ms: u128,
    leave_hold_ms: u128,
    /// From the last frame until it is closed.
    close_fresh_ms: u128,
    close_healthy_ms: u128,
    /// After how many misses a v1 client is asked for a beat.
    ask_at: Option<u32>,
}

impl Row {
    fn new(profile: &Profile, effective: bool, overridden: bool) -> Row {
        let (fresh, healthy) = (profile.bound_fresh(), profile.bound_healthy());
        Row {
            name: profile.name,
            purpose: profile.purpose,
            effective,
            overridden,
            interval_ms: profile.interval.as_millis(),
            interval_max_ms: profile.interval_max.as_millis(),
            start: profile.rule.start,
            threshold: profile.rule.threshold,
            strikes: profile.rule.strikes,
            recovery: match profile.rule.recovery {
                Recovery::Step => "step",
                Recovery::Full => "full",
            },
            leave_fresh_ms: fresh.as_millis(),
            leave_healthy_ms: healthy.as_millis(),
            leave_hold_ms: profile.leave_hold.as_millis(),
            close_fresh_ms: (fresh + profile.leave_hold).as_millis(),
            close_healthy_ms: (healthy + profile.leave_hold).as_millis(),
            ask_at: profile.ask_at,
        }
    }
}

/// Every profile as it is, and the effective one on top if `[detector]` overrides some of it.
fn rows(config: &Config) -> Vec<Row> {
    let effective = config.profile();
    let overridden = !PROFILES.contains(&effective);
    let own = overridden.then(|| Row::new(&effective, true, true));
    own.into_iter().chain(PROFILES.iter().map(|profile| Row::new(profile, *profile == effective, false))).collect()
}

/// Prints it.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let config = args.settings.load()?;
    let rows = rows(&config);
    if args.json {
        return output::print_json(&Page { profiles: &rows });
    }
    output::print(page(&rows, output::columns(), output::text_columns(), output::coloured()))
}

const COLUMNS: [Column; 9] = [
    Column { title: "", align: Align::Left, rank: 0 },
    Column { title: "PROFILE", align: Align::Left, rank: 0 },
    Column { title: "INTERVAL", align: Align::Right, rank: 0 },
    Column { title: "START/THRESHOLD/STRIKES", align: Align::Right, rank: 3 },
    Column { title: "LEAVE FRESH", align: Align::Right, rank: 0 },
    Column { title: "LEAVE HEALTHY", align: Align::Right, rank: 0 },
    Column { title: "HOLD", align: Align::Right, rank: 2 },
    Column { title: "CLOSED FRESH", align: Align::Right, rank: 4 },
    Column { title: "CLOSED HEALTHY", align: Align::Right, rank: 1 },
];

const NOTES: &str = "→ is in force. All times count from a session's last frame. Fresh: it has only just begun. Healthy: its \
                     beats took the cursor to zero. A silent v1 link is cut at twice the time to leave; its session \
                     stays until it is closed.";

fn page(rows: &[Row], room: Option<usize>, columns: usize, coloured: bool) -> String {
    let mut table = Table::new(&COLUMNS);
    for row in rows {
        table.add(cells(row));
    }
    let mut page = table.render(room, coloured);
    page.push_str(&format!("\n{}\n", output::wrapped(NOTES, "", columns)));
    for row in rows.iter().filter(|row| !row.overridden) {
        page.push_str(&output::wrapped(&format!("{}: {}", row.name, row.purpose), "", columns));
    }
    page
}

fn cells(row: &Row) -> Vec<Cell> {
    let millis = |millis: u128| std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    let interval = match (row.interval_ms, row.interval_max_ms) {
        (least, most) if least == most => seconds(millis(least)),
        (least, most) => format!("{} … {}", seconds(millis(least)), seconds(millis(most))),
    };
    let name = if row.overridden { format!("{} + overrides", row.name) } else { row.name.to_owned() };
    let mark = |cell: Cell| if row.effective { cell.coloured(Colour::Good) } else { cell };
    vec![
        mark(Cell::new(if row.effective { "→" } else { "" })),
        mark(Cell::new(name)),
        Cell::new(interval),
        Cell::new(format!("{}/{}/{}", row.start, row.threshold, row.strikes)),
        mark(Cell::new(seconds(millis(row.leave_fresh_ms)))),
        mark(Cell::new(seconds(millis(row.leave_healthy_ms)))),
        Cell::new(spoken(millis(row.leave_hold_ms))),
        Cell::new(spoken(millis(row.close_fresh_ms))),
        Cell::new(spoken(millis(row.close_healthy_ms))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_profile_is_in_force_and_its_bounds_are_the_contract_s() {
        let rows = rows(&Config::default());
        assert_eq!(rows.len(), PROFILES.len());
        let seed = &rows[0];
        assert_eq!((seed.name, seed.effective), ("seed", true));
        assert_eq!((seed.leave_fresh_ms, seed.leave_healthy_ms), (65_000, 95_000));
        assert_eq!(rows.iter().filter(|row| row.effective).count(), 1);
    }

    #[test]
    fn overrides_get_a_row_of_their_own() {
        let config = Config::from_toml("t.toml", "[detector]\ninterval = \"5s\"\n").expect("right");
        let rows = rows(&config);
        assert_eq!(rows.len(), PROFILES.len() + 1);
        assert_eq!((rows[0].effective, rows[0].leave_fresh_ms), (true, 32_500));
        assert!(page(&rows, None, 100, false).contains("seed + overrides"));
    }
}
