//! `stillhere gen`: pages of the docs that are tables in the code. Hidden, since only `cargo xtask gen` asks for them.

use std::fmt::Write;
use std::process::ExitCode;

use stillhere_core::close::{Cause, CloseCode};
use stillhere_core::wire::error::ErrorCode;
use stillhere_server::metrics::METRICS;

use crate::output;

/// Print a page of the docs that is generated from the code.
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    page: Page,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Page {
    Errors,
    Metrics,
}

/// Prints the page.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    output::print(match args.page {
        Page::Errors => errors(),
        Page::Metrics => metrics(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn errors() -> String {
    let mut page = String::from("# Errors, close codes and causes\n\nGenerated from the code by `cargo xtask gen`.\n");
    page +=
        "\n## Errors\n\n`error{re, code, name, message, temporary, retry_ms?}` answers a request; the link lives.\n";
    page += "10xx protocol, 11xx identity, 12xx limits, 13xx rooms and rights, 14xx not found, 15xx server.\n\n";
    page += "| code | name | temporary | meaning |\n|---|---|---|---|\n";
    for row in ErrorCode::ALL {
        let temporary = if row.temporary { "yes" } else { "no" };
        // Writing to a string can't fail.
        let _ = writeln!(page, "| {} | `{}` | {temporary} | {} |", row.number, row.name, row.meaning);
    }
    page += "\n## Close codes\n\n`bye{code, reason, retry_ms?}` precedes the close of a v1 link. The same numbers stand in\n";
    page += "logs, metrics and `stillhere ctl closed`. From 4000 to 4499 reconnect (after `retry_ms`), from 4500 on do not.\n\n";
    page += "| code | name | reconnect | reason |\n|---|---|---|---|\n";
    for code in CloseCode::all() {
        let reconnect = if code.reconnect() { "yes" } else { "no" };
        let _ = writeln!(page, "| {} | `{}` | {reconnect} | {} |", code.number(), code.name(), code.reason());
    }
    page += "\n## Causes\n\nWhy a status changed.\n\n| cause | meaning |\n|---|---|\n";
    for cause in Cause::ALL {
        let _ = writeln!(page, "| `{}` | {} |", cause.name(), cause.meaning());
    }
    page
}

fn metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from the code by `cargo xtask gen`. `GET /metrics` on the admin port.\n\n",
    );
    page += "| metric | kind | what |\n|---|---|---|\n";
    for metric in METRICS {
        let _ = writeln!(page, "| `{}` | {} | {} |", metric.full_name(), metric.kind, metric.help);
    }
    page
}
