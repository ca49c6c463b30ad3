//! Memory of a session that has nothing to do, by what carries it.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::lone::{self, Carrier, Lone};
use crate::bench::daemon::{Daemon, Folder};
use crate::bench::process::Memory;
use crate::bench::row::{Figure, Goal, Met, Row, median};
use crate::bench::rows::rss;
use crate::bench::{Bench, Missing, progress};

/// The growth is taken between these, so that what a process needs for itself does not count.
const FEW: usize = 500;
const MANY: usize = 2_500;

/// Bytes of resident memory per session; each has said hello and beaten once.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    Ok(vec![
        row(bench, "WebSocket", 4_096.0, 3_072.0, web),
        row(bench, "TLS", 14.0 * 1_024.0, 12.0 * 1_024.0, tls),
        row(bench, "plain TCP", f64::INFINITY, f64::INFINITY, plain),
    ])
}

/// One carrier; that a gateway lacks it does not keep the others from being measured.
fn row(bench: &Bench, name: &str, must: f64, aim: f64, growth: fn(&Bench) -> Result<f64>) -> Row {
    let what = format!("growth of RSS per idle session over {name}, {FEW} → {MANY}");
    let mut sizes = Vec::new();
    for _ in 0..bench.pair_count() {
        match growth(bench) {
            Ok(size) => sizes.push(size),
            Err(error) => {
                let met = if error.is::<Missing>() { Met::Unmeasured } else { Met::Failed };
                progress(&format!("idle: {name}: {error:#}"));
                return Row::absent("idle", &what, met, format!("{error:#}"));
            }
        }
    }
    let row = Row::new("idle", what, Figure::alone(median(sizes)), "B");
    if must.is_finite() { row.must(Goal::AtMost(must)).aim(Goal::AtMost(aim)) } else { row }
}

fn plain(bench: &Bench) -> Result<f64> {
    grow(&bench.daemon(&[])?, &Carrier::Native)
}

fn web(bench: &Bench) -> Result<f64> {
    grow(&bench.daemon(&[])?, &Carrier::WebSocket)
}

fn tls(bench: &Bench) -> Result<f64> {
    let folder = Folder::new()?;
    let output = bench
        .command()?
        .args(["certs", "dev", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()
        .context("cannot run the gateway's binary")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!(Missing(format!("the gateway makes no certificates: {why}")));
    }
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let (certificate_path, key_path) = (certificate.display().to_string(), key.display().to_string());
    let daemon =
        bench.daemon(&[("STILLHERE_LISTEN__TLS_CERT", &certificate_path), ("STILLHERE_LISTEN__TLS_KEY", &key_path)])?;
    grow(&daemon, &lone::tls(&certificate)?)
}

fn grow(daemon: &Daemon, carrier: &Carrier) -> Result<f64> {
    // The first one tells whether the gateway speaks this at all.
    if let Err(error) = Lone::connect(daemon.address(), 0, carrier).and_then(|mut lone| lone.hello(0)) {
        bail!(Missing(format!("the gateway refused: {error:#}")));
    }
    let mut sessions = Vec::new();
    let mut hold = |to: usize| -> Result<Memory> {
        for index in sessions.len()..to {
            let mut lone = Lone::connect(daemon.address(), index, carrier)?;
            lone.hello(index)?;
            lone.beat()?;
            sessions.push(lone);
        }
        rss::settled(|| Memory::of(daemon.pid()), to)
    };
    let few = hold(FEW)?;
    let many = hold(MANY)?;
    Ok((many.resident as f64 - few.resident as f64) / (MANY - FEW) as f64)
}
