//! The project's own chores, run as `cargo xtask …`: tests, rules, benchmarks and generated pages.
//!
//! Nothing here is shipped. Each command is one module; this file only tells them apart.

#![forbid(unsafe_code)]

mod bench;
mod floor;
mod generated;
mod steps;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of the stillhere workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every test of the workspace.
    Test,
    /// Run what continuous integration runs: fmt, clippy, tidy, tests, docs.
    Ci,
    /// Check the rules about imports and shape that the compiler does not know.
    Tidy,
    /// Measure the figures of `docs/performance.md`.
    Bench {
        #[command(subcommand)]
        suite: Suite,
    },
    /// Write the generated pages again, or check that they are fresh.
    Gen {
        /// Write nothing; fail when a page is stale.
        #[arg(long)]
        check: bool,
    },
    /// The floor: a minimal epoll server that only counts frames.
    #[command(hide = true)]
    Floor(floor::Options),
    /// A crowd of beating peers that lives until its standard input ends.
    #[command(hide = true)]
    Crowd(bench::crowd::Options),
    /// A spinner that keeps the server's core from halting.
    #[command(hide = true)]
    Spin,
}

#[derive(Subcommand)]
enum Suite {
    /// Beats: memory, CPU, latency, stalls and blackholes of the gateway.
    Beats(bench::Options),
    /// Chat: fan-out, delivery, durable messages, memory and slow readers of the gateway.
    Chat(bench::Options),
    /// Storm: the gateway under every attack, beside honest clients.
    Storm(bench::storm::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test => steps::run("test", steps::TEST),
        Chore::Ci => steps::run("ci", steps::CI),
        Chore::Tidy => tidy::run(),
        Chore::Bench { suite: Suite::Beats(options) } => bench::run(&bench::BEATS, &options),
        Chore::Bench { suite: Suite::Chat(options) } => bench::run(&bench::chat::CHAT, &options),
        Chore::Bench { suite: Suite::Storm(options) } => bench::storm::run(&options),
        Chore::Gen { check } => generated::run(check),
        Chore::Floor(options) => floor::run(&options),
        Chore::Crowd(options) => bench::crowd::run(&options),
        Chore::Spin => bench::core::spin(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(4)
    })
}
