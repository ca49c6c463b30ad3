//! `serve` and `ctl` together, as in the first minute with stillhere.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::run::{Scratch, run};

/// A gateway on ports of its own; killed when the test fails.
struct Gateway {
    child: Child,
    card: String,
}

impl Gateway {
    fn start(scratch: &Scratch, args: &[&str]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillhere"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", &scratch.path()]);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut gateway = Gateway { child: command.spawn().expect("the binary starts"), card: String::new() };
        let stdout = gateway.child.stdout.as_mut().expect("piped");
        // The card is all that standard output ever gets; its last line is the command for sessions.
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("UTF-8");
            gateway.card.push_str(&format!("{line}\n"));
            if line.ends_with(" sessions") {
                break;
            }
        }
        gateway
    }

    /// The address of that row of the card.
    fn address(&self, row: &str) -> String {
        let line = self.card.lines().find(|line| line.trim_start().starts_with(row)).expect("a row");
        line.split_whitespace().nth(1).expect("an address").trim_start_matches("http://").to_owned()
    }

    /// Waits for the end; the exit code and the log.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
        (self.child.wait().expect("ended").code(), log)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_card_leads_to_a_gateway_that_ctl_can_see_and_end() {
    let scratch = Scratch::new();
    let gateway = Gateway::start(&scratch, &[]);
    assert!(gateway.card.contains("65s after the last frame when fresh, 95s when healthy"), "{}", gateway.card);
    let (admin, data) = (gateway.address("admin"), scratch.path());
    let ctl = |args: &[&str]| run(&[&["ctl", "--admin", &admin, "--data-dir", &data], args].concat());

    assert_eq!(ctl(&["sessions"]).out, "no sessions\n");
    assert_eq!(ctl(&["sessions", "--json"]).json()["total"], 0);
    assert_eq!(ctl(&["closed"]).out, "no closed links\n");
    assert!(ctl(&["stats", "--json"]).json().is_object());
    assert_eq!(ctl(&["reload"]).out, "nothing has changed\n");
    let kick = ctl(&["kick", "127.0.0.1:1"]);
    assert_eq!((kick.code, kick.out.as_str()), (1, ""));
    assert!(kick.err.starts_with("stillhere: "), "{kick:?}");

    let report =
        run(&["check", "--json", "--listen", &gateway.address("clients"), "--admin", &admin, "--data-dir", &data]);
    assert_eq!(report.json()["ok"], true, "a check beside the running gateway is fine: {report:?}");

    assert!(ctl(&["drain"]).out.starts_with("draining: "));
    let (code, log) = gateway.end();
    assert_eq!(code, Some(0), "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a log that is no terminal's is JSON");
        assert!(line["time"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[test]
fn a_log_file_gets_what_standard_error_gets() {
    let scratch = Scratch::new();
    let log = scratch.path() + "/logs/stillhere.log";
    let config = scratch.file("s.toml", &format!("[log]\nfile = \"{log}\"\nformat = \"text\"\nrotate = \"never\"\n"));
    let gateway = Gateway::start(&scratch, &["--config", &config]);
    let admin = gateway.address("admin");
    let data = scratch.path();
    assert_eq!(run(&["ctl", "--admin", &admin, "--data-dir", &data, "drain"]).code, 0);
    let (code, shown) = gateway.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("INFO") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(std::fs::read_to_string(log).expect("a log"), shown);
}

#[test]
fn a_taken_port_is_told_in_a_sentence() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = run(&["serve", "--listen", &address, "--admin", "127.0.0.1:0", "--data-dir", &scratch.path()]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains(&format!("stillhere: can't listen for clients on {address}")), "{ended:?}");
}
