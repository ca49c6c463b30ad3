//! `stillhere storm`: attackers and honest clients against a server, and a verdict.
//!
//! This file only knows the command line; what happens is in the crate `stillhere-storm`.

mod clients;
mod owner;
mod pages;
mod view;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use stillhere_core::text::Escaped;
use stillhere_storm::plan::{Overrides, Plan, Source, resolve};
use stillhere_storm::run::{Options, StormError};
use stillhere_storm::search;

use self::view::View;
use crate::output;

/// Every threshold holds.
const EXIT_PASSED: u8 = 0;
/// The plan or the arguments make no sense.
const EXIT_CONFIG: u8 = 1;
/// Nobody answers at the target.
const EXIT_UNREACHABLE: u8 = 2;
/// A threshold is broken.
const EXIT_BROKEN: u8 = 3;
/// The storm's own fault.
const EXIT_INTERNAL: u8 = 4;
/// Ctrl-c twice within this time is once.
const ONCE: Duration = Duration::from_millis(500);
/// Where results are kept if nothing else is said.
const RESULTS: &str = "stillhere-storm";

/// Attack a server beside honest clients, and judge it by what they saw.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  stillhere storm --list                          what there is\n  \
                  stillhere storm calm                            honest clients only: the baseline\n  \
                  stillhere storm garbage --count 1000            1,000 attackers beside 200 honest clients\n  \
                  stillhere storm withstand                       how many attackers it withstands\n  \
                  stillhere storm my-plan.toml --out result       a plan of yours, for any server with frames\n  \
                  stillhere storm report result other-result      look at results again, and compare them\n\n\
                  Exit codes: 0 passed, 1 bad plan or arguments, 2 the target can't be reached, 3 a threshold is \
                  broken, 4 internal."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// A plan's name (see --list) or a file in TOML
    #[arg(value_name = "PLAN")]
    plan: Option<String>,
    /// List the plans and the attacks
    #[arg(long)]
    list: bool,
    /// Whom to attack instead of the plan's target
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// How long the attack lasts
    #[arg(long = "for", value_name = "TIME")]
    during: Option<String>,
    /// How many attackers
    #[arg(long, value_name = "N")]
    count: Option<String>,
    /// How many honest clients
    #[arg(long, value_name = "N")]
    crowd: Option<String>,
    /// The target's metrics: http://…/metrics
    #[arg(long, value_name = "URL")]
    metrics: Option<String>,
    /// Decides every random choice
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where samples and reports are written; a new folder in ./stillhere-storm if left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    owner: owner::Proof,
}

#[derive(clap::Subcommand)]
enum Command {
    Doctor(pages::DoctorArgs),
    Report(pages::ReportArgs),
    ServeHostile(clients::Args),
    Consent(owner::Args),
}

/// Runs a plan, or one of the commands beside it.
///
/// # Errors
/// When the arguments make no sense or something of our own fails, in a sentence that says what to do instead.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        Some(Command::Doctor(args)) => pages::doctor(&args),
        Some(Command::Report(args)) => pages::report(&args),
        Some(Command::ServeHostile(args)) => clients::run(&args),
        Some(Command::Consent(args)) => owner::run(&args),
        None => storm(&args),
    };
    // Exit code 1 is for plans and arguments here, so what fails otherwise needs another.
    done.or_else(|error| {
        let code = match error.downcast_ref::<StormError>() {
            Some(StormError::Unreachable(_)) => EXIT_UNREACHABLE,
            Some(StormError::Internal(_)) => EXIT_INTERNAL,
            Some(StormError::Plan(_)) | None => EXIT_CONFIG,
        };
        output::complain(&error);
        Ok(ExitCode::from(code))
    })
}

/// What is the storm's own fault, or its machine's, and isn't taken for a verdict or a bad plan.
fn internal(error: anyhow::Error) -> anyhow::Error {
    StormError::Internal(format!("{error:#}")).into()
}

fn storm(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        pages::list(args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = &args.plan else {
        bail!("which storm? `stillhere storm --list` shows what there is; begin with `stillhere storm calm`")
    };
    let plan = plan(name, args)?;
    let target = resolve(&plan.target.address)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let withdrawn = Arc::new(AtomicBool::new(false));
    let _owner = args.owner.ask(target, &plan, withdrawn.clone())?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => folder(&plan.name),
    };
    refuse_used(&out)?;
    std::fs::create_dir_all(&out)
        .with_context(|| format!("can't make the folder {}", Escaped(&out.to_string_lossy())))?;
    end_in_good_order(interrupted.clone());
    // Who was asked is met: the name isn't looked up again.
    let options = Options { out: Some(out.clone()), trial: None, target: Some(target), interrupted, withdrawn };
    let exit = carry_out(&plan, &options, &out, args.json).inspect_err(|_| {
        // What has no results needs no folder; one that has something isn't removed.
        let _ = std::fs::remove_dir(&out);
    })?;
    Ok(ExitCode::from(exit))
}

/// The exit code that its verdict makes.
fn carry_out(plan: &Plan, options: &Options, out: &Path, json: bool) -> anyhow::Result<u8> {
    let mut view = View::new(plan);
    if plan.search.is_none() {
        let recording = stillhere_storm::run::run(plan, options, &mut |progress| view.show(progress));
        view.finish();
        pages::tell(&recording?, out, json)
    } else {
        let found = search::run(plan, options, &mut |progress| view.show(progress));
        view.finish();
        pages::tell_search(&found?, out, json)
    }
}

fn plan(name: &str, args: &Args) -> anyhow::Result<Plan> {
    let mut plan = Source::of(name).read()?;
    plan.apply(&Overrides {
        target: args.target.clone(),
        during: args.during.as_deref().map(|text| time("--for", text)).transpose()?,
        count: args.count.as_deref().map(|text| count("--count", text)).transpose()?,
        crowd: args.crowd.as_deref().map(|text| count("--crowd", text)).transpose()?,
        metrics: args.metrics.clone(),
        seed: args.seed,
    })?;
    Ok(plan)
}

/// A new folder's name for results of this plan.
fn folder(name: &str) -> PathBuf {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    Path::new(RESULTS).join(format!("{name}-{now}"))
}

/// Results are never written over others.
fn refuse_used(out: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(out).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("{} isn't empty: choose another folder with --out", Escaped(&out.to_string_lossy())),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// The first ctrl-c (or request to terminate, or the end of the terminal) sets `interrupted`, the second ends the
/// process as ever. It is so once this returns.
fn end_in_good_order(interrupted: Arc<AtomicBool>) {
    let (listening, listens) = std::sync::mpsc::channel();
    let listen = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let mut first = std::pin::pin!(told_to_end());
            // Asked once, it listens.
            let is_first = tokio::select! {
                biased;
                () = &mut first => true,
                () = std::future::ready(()) => false,
            };
            // Who has gone on without waiting doesn't mind.
            let _ = listening.send(());
            if !is_first {
                first.await;
            }
            interrupted.store(true, Ordering::Relaxed);
            // A line that can't be shown is no reason to stop.
            let _ = writeln!(io::stderr(), "\nending in good order; ctrl-c once more ends at once");
            // Who sends it to a process and to its group, as `timeout` does, means it once.
            tokio::time::sleep(ONCE).await;
            told_to_end().await;
            // A target that the storm has started isn't left behind.
            stillhere_storm::run::kill_started();
            std::process::exit(130);
        });
    };
    // Without the thread ctrl-c ends the process at once, as it does everywhere.
    if std::thread::Builder::new().name("storm-signals".to_owned()).spawn(listen).is_ok() {
        // It fails when the thread has ended: then there is nothing to wait for.
        let _ = listens.recv();
    }
}

/// Waits for ctrl-c, a request to terminate, or the end of the terminal.
async fn told_to_end() {
    tokio::select! {
        () = super::beat::interrupted() => {}
        () = hung_up() => {}
    }
}

/// Waits for the end of the terminal; for ever where it means nothing to us.
async fn hung_up() {
    #[cfg(target_os = "linux")]
    if minds_hangups()
        && let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
    {
        signal.recv().await;
        return;
    }
    std::future::pending().await
}

/// Whether a hangup ends this process: `nohup` makes it ignored, and that must stay so. Elsewhere than on Linux it
/// can't be told.
#[cfg(target_os = "linux")]
fn minds_hangups() -> bool {
    // The lowest bit is the first signal, a hangup.
    let ignored = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & 1 == 1)
    };
    std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(ignored) == Some(false)
}

fn time(flag: &str, text: &str) -> anyhow::Result<Duration> {
    stillhere_storm::plan::span(text).map_err(|problem| anyhow::anyhow!("{flag} `{}`: {problem}", Escaped(text)))
}

fn count(flag: &str, text: &str) -> anyhow::Result<u32> {
    match text.replace(['_', ','], "").parse() {
        Ok(count @ 1..) => Ok(count),
        _ => bail!("{flag} `{}` is no number of clients: write 1 or more", Escaped(text)),
    }
}
