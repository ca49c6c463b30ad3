//! `stillhere beat`: an honest client, or thousands, for people and scripts.
//!
//! It only counts what its clients saw; it breaks nothing on purpose and judges nothing. Attacks and thresholds are the
//! storm's.

mod plan;
mod progress;
mod report;
mod tally;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use stillhere_client::Crowd;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::plan::Plan;
use self::progress::Progress;
use self::report::Report;
use self::tally::{Tally, Verdict};
use crate::output;

/// The target was never reached.
const EXIT_UNREACHED: u8 = 2;
/// The target was reached, but some clients never got in or were told to stay away.
const EXIT_TROUBLED: u8 = 3;

/// Connect to a gateway and beat, as one client or as many, and tell what came back.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  stillhere beat 127.0.0.1:14000\n  stillhere beat 127.0.0.1:14000 --count 50 --ramp 1/10s\n  \
                  stillhere beat 127.0.0.1:14000 --legacy --for 60s --json\n\n\
                  Exit codes: 0 all went well, 1 bad arguments, 2 the target was never reached, 3 some clients never \
                  got in or were told to stay away."
)]
pub(crate) struct BeatArgs {
    // Values are checked by the plan, so that a wrong one gets our sentence and exit code 1.
    /// Where the gateway listens
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// How many clients
    #[arg(long, value_name = "N", default_value = "1")]
    count: String,
    /// How fast they are added, for example 1/10s or 500/1s; all at once if left out
    #[arg(long, value_name = "N/TIME")]
    ramp: Option<String>,
    /// The interval between beats; a gateway grants 1s to 10m
    #[arg(long, value_name = "TIME", default_value = "10s")]
    interval: String,
    /// Speak the tutorial's protocol: beat and read nothing
    #[arg(long)]
    legacy: bool,
    /// How long; until ctrl-c if left out
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<String>,
    /// Who the clients say they are
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the clients and prints the summary.
///
/// # Errors
/// When the arguments make no sense, in a sentence that says what to do instead.
pub(crate) fn run(args: BeatArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args)?;
    stillhere_client::allow_files(u64::from(plan.count))?;
    let addresses = match plan.addresses() {
        Ok(addresses) => addresses,
        Err(error) => {
            output::complain(&error);
            return Ok(ExitCode::from(EXIT_UNREACHED));
        }
    };
    let crowd = Crowd::new(plan.client(), addresses, plan.count, plan.ramp)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let (tally, lasted) = runtime.block_on(beat(crowd, &plan));
    let report = Report::new(&plan, &tally, lasted);
    if args.json {
        output::print_json(&report)?;
    } else if tally.links > 0 {
        output::print(&report)?;
    }
    Ok(match tally.verdict() {
        Verdict::Well => ExitCode::SUCCESS,
        Verdict::Troubled => ExitCode::from(EXIT_TROUBLED),
        Verdict::Unreached => {
            let advice = report::advice(&plan, &tally);
            // Nothing is left to do when even this can't be said.
            let _ = writeln!(io::stderr(), "stillhere: {advice}");
            ExitCode::from(EXIT_UNREACHED)
        }
    })
}

/// Lets the clients live until the time is over, a signal comes, or it turns out that nothing is there.
async fn beat(crowd: Crowd, plan: &Plan) -> (Tally, Duration) {
    let tally = Rc::new(RefCell::new(Tally::new(plan.count, plan.legacy)));
    let nobody_there = Rc::new(Notify::new());
    let started = Instant::now();
    let lasted = Rc::new(Cell::new(None));
    let (end, patience) = (lasted.clone(), nobody_there.clone());
    let stop = async move {
        stopped(plan.duration, patience).await;
        end.set(Some(started.elapsed()));
    };
    let counting = tally.clone();
    let running = crowd.run(stop, move |index, event| {
        let mut tally = counting.borrow_mut();
        tally.count(index, &event);
        if tally.is_nobody_there() {
            nobody_there.notify_one();
        }
    });
    tokio::pin!(running);
    let mut progress = Progress::new(plan.duration);
    let mut beat = tokio::time::interval(progress.period());
    loop {
        tokio::select! {
            () = &mut running => break,
            _ = beat.tick() => progress.show(started.elapsed(), &tally.borrow()),
        }
    }
    progress.finish();
    // The goodbyes take a moment more; without a stop every client ended by itself.
    (tally.take(), lasted.get().unwrap_or_else(|| started.elapsed()))
}

/// Waits for the end of the run.
async fn stopped(duration: Option<Duration>, nobody_there: Rc<Notify>) {
    let time_over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = time_over => {}
        () = nobody_there.notified() => {}
        () = interrupted() => {}
    }
}

/// Waits for ctrl-c or a request to terminate; for ever if the system can't tell.
pub(crate) async fn interrupted() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = terminate => {}
    }
}
