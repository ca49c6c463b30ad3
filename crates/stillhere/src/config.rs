//! `stillhere config default|explain|env`, and the flags that every command that reads the configuration shares.

use std::path::PathBuf;
use std::process::ExitCode;

use stillhere_core::text::Escaped;
use stillhere_server::config::{Config, ConfigErrors, EnvRow, Flags, default_toml, env_rows, environment};

use crate::{explain, output};

/// Show what can be configured and what follows from it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print a configuration file with every setting, its default and what it means.
    #[command(
        after_help = "Example:\n  stillhere config default > stillhere.toml\n  stillhere serve --config stillhere.toml"
    )]
    Default,
    /// Print, for each profile, how long silence is tolerated: when a session is on leave and when it is closed.
    #[command(after_help = "Example:\n  STILLHERE_DETECTOR__INTERVAL=5s stillhere config explain")]
    Explain(explain::Args),
    /// Print every name that the environment may set, with its meaning and the value in force.
    #[command(after_help = "Example:\n  STILLHERE_LOG__LEVEL=debug stillhere config env")]
    Env(EnvArgs),
}

#[derive(clap::Args)]
struct EnvArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags that set what the configuration file may set as well.
#[derive(Clone, clap::Args)]
pub(crate) struct SettingArgs {
    /// Where clients connect [default: 127.0.0.1:14000]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the admin API listens, on loopback [default: 127.0.0.1:14080]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where data is kept [default: ./stillhere-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Let clients beyond loopback say hello over plain TCP, where others can read their secrets
    #[arg(long)]
    insecure: bool,
    /// A TOML file; without it, the environment and the defaults hold
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingArgs {
    /// As the configuration takes them.
    pub(crate) fn flags(&self) -> Flags {
        let SettingArgs { listen, admin, data_dir, insecure, config } = self.clone();
        Flags { config, listen, admin, data_dir, insecure }
    }

    /// The configuration with these flags and this process's environment.
    pub(crate) fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(&self.flags(), environment())
    }
}

/// Runs the chosen one.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Default => output::print(default_toml())?,
        Command::Explain(args) => explain::run(args)?,
        Command::Env(args) => print_env(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_env(args: &EnvArgs) -> anyhow::Result<()> {
    let rows = env_rows(&args.settings.load()?, environment());
    if args.json {
        return output::print_json(&rows);
    }
    output::print(env_page(&rows, output::text_columns(), output::coloured()))
}

/// Each name as one would set it, and below it what it means.
fn env_page(rows: &[EnvRow], columns: usize, coloured: bool) -> String {
    let (bold, reset) = if coloured { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    let mut page = String::new();
    for EnvRow { name, kind, value, set, meaning } in rows {
        let value = value.as_deref().map_or(String::new(), |value| Escaped(value).to_string());
        let note = match (set, value.is_empty()) {
            (true, _) => "  (set here)",
            (false, true) => "  (not set)",
            (false, false) => "",
        };
        page.push_str(&format!("{bold}{name}{reset}={value}{note}\n"));
        page.push_str(&output::wrapped(&format!("{kind}: {meaning}"), "    ", columns));
    }
    page
}
