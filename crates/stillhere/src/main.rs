//! `stillhere`: the one binary. This file is its table of contents; each command is a module.

#![forbid(unsafe_code)]

mod beat;
mod certs;
mod chat;
mod check;
mod config;
mod ctl;
mod explain;
mod output;
mod reference;
mod repair;
mod serve;
mod storm;
mod table;
mod trace;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Many small, long-lived allocations from few threads: 742 bytes a link measured with this allocator, 1,180 with
/// glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Who is still here? A heartbeat, presence and chat gateway.
#[derive(Parser)]
#[command(
    name = "stillhere",
    version,
    propagate_version = false,
    max_term_width = 100,
    after_help = "Begin with:\n  stillhere serve                              run the gateway, no set-up needed\n  \
                  stillhere beat 127.0.0.1:14000 --count 3     in another terminal: three clients that beat\n  \
                  stillhere chat                               talk with others\n  \
                  stillhere ctl sessions                       see who is here\n  \
                  stillhere storm garbage                      attack it, and see what honest clients see"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Config(config::Args),
    Beat(beat::BeatArgs),
    Chat(chat::Args),
    Storm(Box<storm::Args>),
    Tune(trace::Args),
    Ctl(ctl::Args),
    Certs(certs::Args),
    Repair(repair::Args),
    Version(version::Args),
    #[command(hide = true)]
    Gen(reference::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return told_of_arguments(&told),
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Config(args) => config::run(args),
        Command::Beat(args) => beat::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Storm(args) => storm::run(*args),
        Command::Tune(args) => trace::run(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Version(args) => version::run(args),
        Command::Gen(args) => reference::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Shows the help that was asked for, or what is wrong with the arguments. Of a storm exit code 2 says that nobody
/// answers at the target, so there it is 1.
fn told_of_arguments(told: &clap::Error) -> ExitCode {
    // What can't be shown is no reason to end otherwise.
    let _ = told.print();
    let is_storm = std::env::args_os().nth(1).is_some_and(|command| command == "storm");
    match u8::try_from(told.exit_code()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(code) if !is_storm => ExitCode::from(code),
        Ok(_) | Err(_) => ExitCode::from(1),
    }
}
