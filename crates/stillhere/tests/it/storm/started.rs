//! Targets that the storm starts, and what becomes of them.

use super::*;

/// A storm on a gateway that it starts itself, and the gateway's process, as soon as honest clients are in.
fn started_gateway(scratch: &Scratch) -> (Running, SocketAddr, Pid) {
    let (target, admin) = (nobody(), nobody());
    let binary = env!("CARGO_BIN_EXE_stillhere");
    let folder = scratch.path();
    let text = format!(
        "thresholds = [\"missing = 0\"]\n[target]\naddress = \"{target}\"\nready = \"20s\"\ncommand = [\"sh\", \"-c\", \
         'echo $$ > {folder}/pid; exec {binary} serve --listen 127.0.0.1:{{port}} --admin {admin} --data-dir \
         {folder}/data']\n[time]\nramp = \"300ms\"\nbefore = \"700ms\"\nduring = \"10m\"\nafter = \"500ms\"\n[crowd]\n\
         count = 3\ninterval = \"1s\"\n"
    );
    let file = scratch.file("gateway.toml", &text);
    let mut storm = Running::start(&[&file, "--out", &format!("{folder}/out")]);
    line(&mut storm.err, |line| line.contains(" · during · "));
    let pid = self::text(&folder, "pid").trim().parse().ok().and_then(Pid::from_raw).expect("a process");
    (storm, target, pid)
}

/// Waits until nobody listens there any more.
fn is_gone(target: SocketAddr) -> bool {
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(target).is_ok() {
        if Instant::now() > patience {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[test]
fn a_target_that_the_storm_started_ends_with_it_whatever_the_terminal_does() {
    // Who runs the tests with `nohup` has told all of them not to mind that the terminal goes.
    let ignored = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:")?.trim().chars().last()?.to_digit(16));
    let minds_hup = ignored.is_none_or(|lowest| lowest & 1 == 0);
    for signal in [Signal::INT, Signal::HUP].into_iter().filter(|signal| *signal == Signal::INT || minds_hup) {
        let scratch = Scratch::new();
        let (storm, target, _) = started_gateway(&scratch);
        storm.signal_all(signal);
        let ended = storm.end();
        assert_eq!(ended.code, 3, "{signal:?}: {ended:?}");
        let summary = json(&format!("{}/out", scratch.path()), "summary.json");
        assert_eq!(summary["cut"], "interrupted", "{signal:?}: the target isn't met by what the terminal sends");
        assert!(is_gone(target), "{signal:?}");
    }
}

#[test]
fn the_second_ctrl_c_leaves_no_target_behind() {
    let scratch = Scratch::new();
    let (mut storm, target, pid) = started_gateway(&scratch);
    // A target that doesn't end when it is asked to.
    kill_process(pid, Signal::STOP).expect("it runs");
    storm.interrupt();
    line(&mut storm.err, |line| line.contains("ctrl-c once more"));
    // Within half a second it counts as the same one; the storm waits for its target for five seconds.
    while storm.child.try_wait().expect("it is ours").is_none() {
        storm.interrupt();
        thread::yield_now();
    }
    let ended = storm.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(is_gone(target));
}
