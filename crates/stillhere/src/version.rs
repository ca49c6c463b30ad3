//! `stillhere version`.

use std::process::ExitCode;

use crate::output;

/// The version of the wire protocol that `hello` speaks.
const WIRE_VERSION: u32 = 1;

/// Print the versions of the program and of the wire protocol.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere version --json")]
pub(crate) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Answer {
    name: &'static str,
    version: &'static str,
    wire: u32,
    target: String,
}

/// Prints it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (version, target) = (env!("CARGO_PKG_VERSION"), target());
    if args.json {
        output::print_json(&Answer { name: "stillhere", version, wire: WIRE_VERSION, target })?;
    } else {
        output::print(format_args!("stillhere {version} (wire {WIRE_VERSION}, {target})\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}
