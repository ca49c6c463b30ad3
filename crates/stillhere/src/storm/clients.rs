//! `stillhere storm serve-hostile`: a server that is bad to its clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use stillhere_storm::hostile::{Arrangement, BEHAVIOURS, Hostile, Options, Outcome};
use stillhere_storm::plan::file;

use super::{EXIT_BROKEN, EXIT_PASSED, EXIT_UNREACHABLE, end_in_good_order, internal, time};
use crate::output;

/// Be a bad server: flood, stall, lie about lengths, hang up; and judge the clients that connect.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  stillhere storm serve-hostile --for 60s            each behaviour on a port of its own\n  \
                        stillhere storm serve-hostile --do stall --for 30s --listen 127.0.0.1:14000\n  \
                        stillhere beat 127.0.0.1:14100                     in another terminal: a client to judge\n\n\
                        Exit codes: 0 the clients stood it, 1 bad arguments, 2 nobody came (or not for long enough \
                        to tell), 3 a client failed, 4 internal."
)]
pub(super) struct Args {
    /// Where to listen; each behaviour takes the next port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:14100")]
    listen: SocketAddr,
    /// Only these behaviours; all if left out (see --list)
    #[arg(long = "do", value_name = "NAME", value_delimiter = ',')]
    behaviours: Vec<String>,
    /// One port for all: a client's nth connection meets the nth behaviour
    #[arg(long)]
    rotate: bool,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    lasts: String,
    /// The client's process, whose memory and CPU are watched; found by itself if it runs here
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// A plan whose `[frame]` says how the clients speak, for clients of other servers
    #[arg(long, value_name = "PLAN.toml")]
    frame: Option<PathBuf>,
    /// List the behaviours
    #[arg(long)]
    list: bool,
    /// Print the verdict as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        let mut text = String::new();
        for behaviour in BEHAVIOURS {
            text += &format!("{:<12} {}\n", behaviour.name, behaviour.about);
        }
        output::print(text).map_err(internal)?;
        return Ok(ExitCode::SUCCESS);
    }
    let frame = match &args.frame {
        Some(path) => Some(file::read(path)?.frame.context("that plan has no [frame]")?),
        None => None,
    };
    let hostile = Hostile::bind(Options {
        listen: args.listen,
        behaviours: args.behaviours.clone(),
        arrangement: if args.rotate { Arrangement::Rotation } else { Arrangement::Ports },
        lasts: time("--for", &args.lasts)?,
        pid: args.pid,
        frame,
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    end_in_good_order(stop.clone());
    let mut said = String::new();
    for (name, address) in hostile.addresses() {
        said += &format!("{address:<22} {name}\n");
    }
    output::say(&format!("{said}connect a client to any of them; ctrl-c ends it with the verdict"));
    let verdict = hostile.run(|_| {}, &stop);
    if args.json { output::print_verdict_json(&verdict) } else { output::print_verdict(format!("{verdict}\n")) }
        .map_err(internal)?;
    Ok(ExitCode::from(match verdict.outcome() {
        Outcome::Passed => EXIT_PASSED,
        Outcome::Failed => EXIT_BROKEN,
        Outcome::Undecided => EXIT_UNREACHABLE,
    }))
}
