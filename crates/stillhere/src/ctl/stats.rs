//! `stillhere ctl stats`: the gateway's counters.

use std::process::ExitCode;

use serde_json::{Map, Value};
use stillhere_core::text::Escaped;

use super::admin::Admin;
use crate::output::{self, thousands};
use crate::table::{Align, Cell, Column, Table};

/// Prints them.
pub(super) fn run(admin: &Admin, as_json: bool) -> anyhow::Result<ExitCode> {
    let stats: Map<String, Value> = admin.get("/api/v1/stats", &[])?;
    if as_json {
        output::print_json(&stats)?;
    } else {
        output::print(render(&stats))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(stats: &Map<String, Value>) -> String {
    let column = |title, align| Column { title, align, rank: 0 };
    let mut table = Table::new(&[column("COUNTER", Align::Left), column("VALUE", Align::Right)]);
    add(&mut table, "", stats);
    table.render(None, output::coloured())
}

/// Counters of counters are named `outer.inner`.
fn add(table: &mut Table, prefix: &str, stats: &Map<String, Value>) {
    for (name, value) in stats {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => add(table, &format!("{name}."), inner),
            Value::Number(number) if number.is_u64() => {
                table.add(vec![Cell::new(Escaped(&name)), Cell::new(thousands(number))])
            }
            Value::String(text) => table.add(vec![Cell::new(Escaped(&name)), Cell::new(Escaped(text))]),
            other => table.add(vec![Cell::new(Escaped(&name)), Cell::new(Escaped(&other.to_string()))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_counters_get_their_path() {
        let Value::Object(stats) = serde_json::json!({ "beats": 12_345, "links": { "tcp": 2 } }) else { panic!() };
        assert_eq!(render(&stats), "COUNTER     VALUE\nbeats      12,345\nlinks.tcp       2\n");
    }
}
