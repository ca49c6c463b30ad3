//! Clients on real sockets, against a server that each test plays by hand.

mod crowd;
mod links;
mod server;
mod talk;

use std::future::Future;
use std::time::Duration;

/// Runs a test on one thread, with a limit that only a bug reaches.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), test).await };
    runtime.block_on(limited).expect("the test hangs");
}
