//! `stillhere repair`: saves what can be read of a damaged store.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::output::thousands;

/// Save what can be read of a damaged store.
///
/// Makes a new store of it in the same directory and keeps the damaged file in a folder beside. No gateway may be running.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere repair --data-dir ./stillhere-data")]
pub(crate) struct Args {
    /// The directory of the store.
    #[arg(long, value_name = "DIR", default_value = "./stillhere-data")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let saved = stillhere_server::serve::repair(&args.data_dir)?;
    for (table, rows, is_partial) in &saved.tables {
        let note = if *is_partial { "  (some may be lost)" } else { "" };
        println!("{table:<14} {:>12}{note}", thousands(*rows as usize));
    }
    println!("The damaged file is in {}. The gateway can be started again.", saved.kept.display());
    Ok(ExitCode::SUCCESS)
}
