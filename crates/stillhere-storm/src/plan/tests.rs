//! Plans, good and bad, and the page that describes them.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::figure::FIGURES;
use super::file::{parse, read};
use super::*;
use crate::attack::{ATTACKS, Against};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storm-plans.md");

fn good(text: &str) -> Plan {
    parse(text, "plans/my test.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn bad(text: &str) -> String {
    match parse(text, "p.toml") {
        Err(error) => error.0,
        Ok(plan) => panic!("{text}\nis taken for {plan:?}"),
    }
}

fn texts(plan: &Plan) -> Vec<&str> {
    plan.thresholds.iter().map(|threshold| threshold.text.as_str()).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_shortest_plan_has_everything_filled_in() {
    let plan = good("[[attack]]\nname = \"garbage\"");
    let attack = Attack { name: "garbage".to_owned(), count: 100, rate: None, size: 32 * 1024, interval: seconds(1) };
    let crowd = Crowd {
        count: 200,
        mode: Mode::V1,
        interval: seconds(1),
        rooms: 0,
        say_every: None,
        signal_every: None,
        newcomers_per_second: 1.0,
    };
    let target = Target {
        address: "127.0.0.1:14000".to_owned(),
        metrics: Some("http://127.0.0.1:14080/metrics".to_owned()),
        pid: None,
        command: Vec::new(),
        ready: seconds(10),
    };
    let time = Times { ramp: seconds(2), before: seconds(10), during: seconds(30), after: seconds(10) };
    let expected = Plan {
        name: "my-test".to_owned(),
        about: String::new(),
        target,
        time,
        crowd: Some(crowd),
        attacks: vec![attack],
        load: None,
        search: None,
        frame: None,
        thresholds: plan.thresholds.clone(),
        seed: 1,
    };
    assert_eq!(plan, expected);
    let promise = [
        "missing = 0",
        "sessions_lost = 0",
        "unanswered = 0",
        "false_leaves = 0",
        "newcomers_refused = 0",
        "p99_ratio <= 2",
        "tries > 0",
    ];
    assert_eq!(texts(&plan), promise);
}

const FULL: &str = r#"
name = "full"
about = "Everything at once."
seed = 7
thresholds = ["p99 < 50ms", "messages_lost = 0"]

[target]
address = "localhost:9000"
metrics = false
pid = 12
command = ["server", "--port", "{port}"]
ready = "1m30s"

[time]
ramp = "0"
before = "5s"
during = "60s"
after = "500ms"

[crowd]
count = 1_000
interval = "2s"
rooms = 10
say_every = "1s"
signal_every = false
newcomers = "0.5/s"

[[attack]]
name = "garbage"
count = 50
rate = "100/s"
size = "1MiB"
interval = "5s"

[load]
what = "say"
connections = 10
steps = ["100/s for 10s", "100/s to 1000/s for 30s"]

[search]
find = "crowd"
from = 100
max = 2000
precision = 0.25
trials = 9
"#;

#[test]
fn every_key_is_read() {
    let plan = good(FULL);
    assert_eq!((plan.name.as_str(), plan.about.as_str(), plan.seed), ("full", "Everything at once.", 7));
    assert_eq!(texts(&plan), ["p99 < 50ms", "messages_lost = 0"]);
    let Target { address, metrics, pid, command, ready } = &plan.target;
    assert_eq!((address.as_str(), metrics, *pid, *ready), ("localhost:9000", &None, Some(12), seconds(90)));
    assert_eq!(command, &["server", "--port", "{port}"]);
    let time =
        Times { ramp: Duration::ZERO, before: seconds(5), during: seconds(60), after: Duration::from_millis(500) };
    assert_eq!(plan.time, time);
    let crowd = plan.crowd.as_ref().unwrap();
    assert_eq!((crowd.count, crowd.interval, crowd.rooms), (1000, seconds(2), 10));
    assert_eq!((crowd.say_every, crowd.signal_every), (Some(seconds(1)), None));
    assert_eq!(crowd.newcomers_per_second, 0.5);
    let attack = &plan.attacks[0];
    assert_eq!((attack.count, attack.rate, attack.size, attack.interval), (50, Some(100.0), 1 << 20, seconds(5)));
    let load = plan.load.as_ref().unwrap();
    assert_eq!((load.what, load.connections, load.closed), (Asked::Say, 10, false));
    // The last step goes on with what it ends with.
    let steps: Vec<_> = load.steps.iter().map(|step| (step.from, step.to, step.lasts.as_secs())).collect();
    assert_eq!(steps, [(100.0, 100.0, 10), (100.0, 1000.0, 30), (1000.0, 1000.0, 20)]);
    let even = good("[load]\nsteps = [\"5/s for 10s\"]").load.map(|load| load.steps);
    assert_eq!(even, Some(file::steady(5.0, seconds(30))));
    let search = Search { find: Sought::Crowd, from: 100, max: 2000, precision: 0.25, trials: 9 };
    assert_eq!(plan.search, Some(search));
}

const FOREIGN: &str = r#"
[target]
address = "127.0.0.1:9000"
[[attack]]
name = "garbage"
[frame]
length = "u16le"
includes_header = true
max = "1KiB"
hello = [{ payload = "hi" }, { payload = "name", reply = "^ok" }]
beat = { payload = "ping", reply = "pong" }
"#;

#[test]
fn a_plan_with_a_frame_speaks_it() {
    let plan = good(FOREIGN);
    let exchange =
        |payload: &str, reply: Option<&str>| Exchange { payload: payload.to_owned(), reply: reply.map(str::to_owned) };
    let frame = Frame {
        length: Length::U16Le,
        includes_header: true,
        hello: vec![exchange("hi", None), exchange("name", Some("^ok"))],
        beat: exchange("ping", Some("pong")),
        max: 1024,
    };
    assert_eq!((plan.frame.as_ref(), plan.target.metrics.as_ref()), (Some(&frame), None));
    assert_eq!(plan.crowd.as_ref().map(|crowd| crowd.mode), Some(Mode::Frame));
    let promise =
        ["missing = 0", "sessions_lost = 0", "unanswered = 0", "newcomers_refused = 0", "p99_ratio <= 2", "tries > 0"];
    assert_eq!(texts(&plan), promise);
    let tables = FOREIGN.replace("beat = {", "[frame.beat]\n#").replace("payload = \"ping\"", "") + "\npayload = \"a\"";
    assert_eq!(good(&tables).frame.unwrap().beat, exchange("a", None));
    let load = good(&format!("{FOREIGN}[load]\nrate = \"5/s\"")).load.unwrap();
    assert_eq!((load.what, load.steps.len()), (Asked::Frame, 1));
}

#[test]
fn what_must_hold_follows_from_what_can_be_measured() {
    for (text, expected) in [
        (
            "[crowd]\nrooms = 5",
            "missing sessions_lost unanswered false_leaves messages_lost messages_doubled newcomers_refused",
        ),
        ("[crowd]\nmode = \"legacy\"\nnewcomers = 0", "missing sessions_lost"),
        (
            "[time]\nbefore = \"0\"\n[[attack]]\nname = \"garbage\"\n[crowd]\nnewcomers = 0",
            "missing sessions_lost unanswered false_leaves tries",
        ),
        ("crowd = false\n[load]", "load_failed load_open"),
        (
            "[load]\n[[attack]]\nname = \"garbage\"\n[crowd]\nmode = \"legacy\"",
            "missing sessions_lost tries load_failed load_open",
        ),
    ] {
        let plan = good(text);
        let figures: Vec<&str> = plan.thresholds.iter().map(|threshold| threshold.figure.as_str()).collect();
        assert_eq!(figures.join(" "), expected, "{text}");
    }
    assert_eq!(good("thresholds = []").thresholds, []);
}

#[test]
fn a_search_fills_in_its_bounds() {
    let search = |text: &str| good(text).search.map(|search| (search.find, search.from, search.max));
    assert_eq!(search("[[attack]]\nname = \"garbage\"\n[search]"), Some((Sought::Attackers, 50, 18_800)));
    assert_eq!(search("[search]"), Some((Sought::Crowd, 100, 19_000)));
    assert_eq!(search("[load]\n[search]"), Some((Sought::Rate, 100, 1_000_000)));
    assert_eq!(search("[search]\nmax = 7"), Some((Sought::Crowd, 7, 7)));
    // What the attackers keep ready is bounded too.
    let large = "[[attack]]\nname = \"garbage\"\nsize = \"1MiB\"\n[search]";
    assert_eq!(search(large), Some((Sought::Attackers, 50, 1024)));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_to_write() {
    let attack = |keys: &str| format!("[[attack]]\nname = \"garbage\"\n{keys}");
    let load = |keys: &str| format!("[load]\n{keys}");
    let search = |keys: &str| format!("[search]\n{keys}");
    let frame = |keys: &str| format!("[frame]\n{keys}");
    let crowd = |keys: &str| format!("[crowd]\n{keys}");
    let beat = "beat = { payload = \"a\" }";
    for (text, says) in [
        // Words.
        ("atack = 1".to_owned(), "p.toml:1: `atack` is no key and no section of a plan; did you mean [[attack]]?"),
        ("thresold = []".to_owned(), "did you mean `thresholds`?"),
        ("\n[crowds]".to_owned(), "p.toml:2: `crowds` is no key and no section of a plan; did you mean [crowd]?"),
        (crowd("cuont = 3"), "p.toml:2: `cuont` is no key of [crowd]; did you mean `count`?"),
        (crowd("thresholds = []"), "p.toml:2: `thresholds` is no key of [crowd]: write it above the first [section]"),
        (attack("sise = 1"), "p.toml:3: `sise` is no key of [[attack]]; did you mean `size`?"),
        (frame("beat = { payload = \"\", repyl = \"\" }"), "`repyl` is no key of an exchange; did you mean `reply`?"),
        (
            "[[attack]]\nname = \"grabage\"".to_owned(),
            "p.toml:2: `name = \"grabage\"`: there is no such attack; did you mean \"garbage\"?",
        ),
        ("[[attack]]\ncount = 1".to_owned(), "[[attack]] needs a name"),
        (crowd("mode = \"v2\""), "p.toml:2: `mode = \"v2\"`: did you mean \"v1\"? It may be v1, legacy, frame"),
        (load("what = \"beet\""), "did you mean \"beat\"?"),
        (search("find = \"attacker\""), "did you mean \"attackers\"?"),
        (frame("length = \"u32lee\""), "did you mean \"u32le\"?"),
        (
            "thresholds = [\n\"p99 < 50ms\",\n\"p98 < 5\"]".to_owned(),
            "p.toml:3: `p98 < 5`: there is no figure `p98`; did you mean",
        ),
        // Forms.
        ("name = 3".to_owned(), "write it as text in \"quotes\""),
        ("[crowd\ncount = 1".to_owned(), "p.toml:1: `[crowd`: this is not TOML"),
        ("seed = -1".to_owned(), "`seed = -1`: write a whole number from 0"),
        (crowd("count = \"3\""), "write the number without quotes"),
        (crowd("count = 1.5"), "write a whole number"),
        (crowd("interval = 10"), "p.toml:2: `interval = 10`: a duration needs a unit: write \"10s\""),
        (crowd("interval = \"1.5s\""), "write \"1500ms\" instead"),
        (crowd("interval = true"), "write a duration in quotes"),
        (crowd("newcomers = \"1\""), "write \"1/s\""),
        (crowd("newcomers = nan"), "write how many a second"),
        (attack("size = 64"), "write \"64B\""),
        (attack("size = \"64KB\""), "write B, KiB, MiB or GiB"),
        (attack("rate = \"fast\""), "write how many a second, such as \"1000/s\""),
        (load("closed = \"no\""), "write true or false, without quotes"),
        (load("steps = [\"100/s\"]"), "p.toml:2: `100/s`: write a step as \"100/s for 10s\""),
        (load("steps = \"100/s for 10s\""), "write a list"),
        (load("rate = 1\nsteps = []"), "write either `rate` or `steps`"),
        (search("precision = \"1%\""), "write a number without quotes"),
        ("[target]\ncommand = \"server\"".to_owned(), "write a list"),
        ("[attack]\nname = \"garbage\"".to_owned(), "write [[attack]], in double brackets"),
        ("target = \"127.0.0.1:9\"".to_owned(), "write [target] on a line of its own"),
        ("crowd = 200".to_owned(), "write a section [crowd], or crowd = false"),
        (frame("beat = \"ping\""), "write beat = { payload = "),
        (frame("hello = \"hi\""), "`hello` is a list"),
        (frame("hello = [\"hi\"]"), "write each exchange as { payload = "),
        // Bounds.
        ("name = \"../x\"".to_owned(), "p.toml:1: `name = \"../x\"`: write letters, digits"),
        (format!("about = \"{}\"", "a".repeat(501)), "write one line of 500 bytes at most"),
        ("[target]\naddress = \"host\"".to_owned(), "p.toml:2: `address = \"host\"`: write HOST:PORT"),
        ("[target]\naddress = \"host:0\"".to_owned(), "write HOST:PORT"),
        ("[target]\nmetrics = \"127.0.0.1:14080\"".to_owned(), "write a URL"),
        ("[target]\npid = 0".to_owned(), "the number of a process"),
        ("[target]\ncommand = [\"\"]".to_owned(), "write the program first"),
        ("[target]\nready = \"1h\"".to_owned(), "write \"100ms\" to \"5m\""),
        ("[time]\nduring = \"2h\"".to_owned(), "p.toml:2: `during = \"2h\"`: write \"1s\" to \"1h\""),
        ("[time]\nbefore = \"99999999999h\"".to_owned(), "write \"0s\" to \"1h\""),
        (crowd("count = 0"), "p.toml:2: `count = 0`: write a number from 1 to 19000"),
        (crowd("count = 99999999999999999999"), "write a number from 1 to 19000"),
        (crowd("interval = \"500ms\""), "`interval = \"500ms\"`: write \"1s\" to \"10m\""),
        (crowd("mode = \"legacy\"\ninterval = \"50ms\""), "write \"100ms\" to \"10m\""),
        (crowd("newcomers = 1000"), "write \"0/s\" to \"400/s\""),
        (attack("count = 0"), "write a number from 1 to 19000"),
        ("[target]\nmetrics = \"http://192.0.2.1/metrics\"".to_owned(), "only the target's own host"),
        ("[target]\nmetrics = \"http://127.0.0.1@192.0.2.1/metrics\"".to_owned(), "only the target's own host"),
        (attack("rate = 0"), "write \"0.001/s\" to \"1000000/s\""),
        (attack("rate = \"0.0000001/s\""), "write \"0.001/s\" to"),
        (attack("size = \"17MiB\""), "write \"1B\" to \"16MiB\""),
        (attack("interval = \"10ms\""), "write \"1s\" to \"10m\""),
        (load("connections = 0"), "write a number from 1 to 19000"),
        (load("rate = \"2000000/s\""), "to \"1000000/s\""),
        (load("rate = 0"), "nothing is ever asked"),
        (load("steps = [\"5/s for 0s\"]"), "lasts longer than nothing"),
        (load("steps = []"), "write 1 to 64 steps"),
        (search("trials = 65"), "write a number from 1 to 64"),
        (search("precision = 0"), "write a share from 0.01"),
        (search("from = 10\nmax = 5"), "`from = 10`: write a number from 1 to 5"),
        (search("max = 30000"), "`max = 30000`: write a number from 1 to 19000"),
        (frame("max = \"17MiB\"\nbeat = { payload = \"a\" }"), "write \"1B\" to \"16MiB\""),
        // What doesn't fit together.
        ("crowd = false".to_owned(), "nothing happens in this plan"),
        (format!("crowd = false\n{}", attack("")), "nobody watches this attack: write what must hold"),
        (crowd("mode = \"frame\""), "\"frame\" needs a section [frame]"),
        (frame(&format!("{beat}\n[crowd]\nmode = \"v1\"")), "beside a section [frame] write \"frame\""),
        (crowd("mode = \"legacy\"\nrooms = 1"), "only v1 has rooms"),
        (crowd("count = 10\nrooms = 6"), "a room needs two clients to be one: write 5 at most"),
        (crowd("say_every = \"5s\""), "this needs rooms"),
        (attack("[[attack]]\nname = \"garbage\""), "p.toml:4: `name = \"garbage\"`: this attack is there twice"),
        (attack("count = 18900"), "p.toml:3: `count = 18900`: attackers, crowd and load make 19100 connections"),
        (
            format!("[crowd]\ncount = 18950\n{}", attack("")),
            "p.toml:3: `count` of [[attack]]: attackers, crowd and load make 19050",
        ),
        (attack("count = 1000\nsize = \"2MiB\""), "1000 attackers would keep more than 1GiB ready"),
        (load("what = \"frame\""), "\"frame\" needs a section [frame]"),
        (load("connections = 18900"), "attackers, crowd and load make 19100 connections"),
        (
            load("steps = [\"5/s for 1m\"]"),
            "together they last 1m, longer than the 30s of `during`: write during = \"1m\"",
        ),
        (search("find = \"attackers\""), "a search for attackers needs an [[attack]]"),
        (search("find = \"rate\""), "a search for a rate needs a [load]"),
        (format!("crowd = false\n[load]\n{}", search("find = \"crowd\"")), "a search for a crowd needs a crowd"),
        (load("closed = true\n[search]"), "write closed = false in [load]"),
        (format!("thresholds = []\n{}", search("")), "a search needs thresholds"),
        (attack("[search]\nmax = 18900"), "`max = 18900`: write a number from 1 to 18800"),
        (frame(""), "p.toml:1: `beat` of [frame]: say what an honest client sends"),
        (
            frame(&format!("length = \"line\"\nincludes_header = true\n{beat}")),
            "there is no length that could count itself",
        ),
        (frame("beat = { payload = \"a\", reply = \"(\" }"), "reply is no regular expression"),
        (frame(&format!("{beat}\n[load]")), "a load waits for answers"),
        // What nothing would measure.
        (
            "thresholds = [\"say_p99 < 1s\"]".to_owned(),
            "p.toml:1: `say_p99 < 1s`: nothing would measure `say_p99`: nobody says anything",
        ),
        ("thresholds = [\"signal_p99 < 1s\"]\n[crowd]\nrooms = 1\nsignal_every = false".to_owned(), "nobody signals"),
        ("thresholds = [\"load_p99 < 1s\"]".to_owned(), "there is no [load]"),
        ("thresholds = [\"overdue = 0\"]".to_owned(), "there is no [[attack]]"),
        (format!("crowd = false\nthresholds = [\"p99 < 1s\"]\n{}", attack("")), "there is no crowd"),
        (format!("crowd = false\nthresholds = [\"own_lag < 1s\"]\n{}", attack("")), "there is no crowd"),
        ("thresholds = [\"p99 < 1s\"]\n[crowd]\nmode = \"legacy\"".to_owned(), "beats aren't answered"),
        ("thresholds = [\"enter_p99 < 1s\"]\n[crowd]\nnewcomers = 0".to_owned(), "there are no newcomers"),
        ("thresholds = [\"p99_ratio < 2\"]\n[time]\nbefore = \"0\"".to_owned(), "no time before to compare with"),
        ("thresholds = [\"after.p99 < 2s\"]\n[time]\nafter = \"0\"".to_owned(), "there is no time after"),
        ("thresholds = [\"p99 < 2s\"]\n[crowd]\ninterval = \"1m\"".to_owned(), "nobody beats while `during` lasts"),
        ("thresholds = [\"files_left < 2\"]\n[time]\nafter = \"5s\"".to_owned(), "five seconds after the attack"),
    ] {
        let told = bad(&text);
        let is_one = told.lines().count() == 1 && told.starts_with("p.toml:");
        assert!(told.contains(says) && is_one, "{text}\n{told}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let told = bad("sed = 1\n[crowd]\ncount = \"3\"\n[time]\nduring = 5\n");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "3 things to change in the plan:"), "{told}");
    for (line, place) in lines[1..].iter().zip(["p.toml:1: ", "p.toml:3: ", "p.toml:5: "]) {
        assert!(line.trim_start().starts_with(place), "{told}");
    }
}

#[test]
fn what_a_plan_says_can_not_forge_a_message() {
    for text in ["\"a\\u001b[2J\\n\" = 1", "name = \"\u{202e}\"", "[[attack]]\nname = '\u{202e}'", "a = \u{1b}[2J"] {
        let told = bad(text);
        assert!(!told.contains('\u{1b}') && !told.contains('\u{202e}'), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn an_attack_on_gateways_is_none_on_a_server_with_a_frame() {
    for row in ATTACKS {
        let text = FOREIGN.replace("garbage", row.name);
        match row.against {
            Against::Any => assert_eq!(good(&text).attacks[0].name, row.name),
            Against::Gateway => assert!(bad(&text).contains("this attack speaks v1"), "{}", row.name),
        }
    }
}

#[test]
fn an_attack_must_last_until_a_sound_server_ends_it() {
    let mut plan = good("thresholds = [\"overdue = 0\"]\n[[attack]]\nname = \"garbage\"");
    for (name, least) in check::PATIENCE {
        plan.attacks[0].name = (*name).to_owned();
        let told = |during: Duration| {
            let faults = check::faults(&Plan { time: Times { during, ..plan.time }, ..plan.clone() });
            faults.iter().any(|fault| fault.key == "time.during")
        };
        assert_eq!((told(*least - seconds(1)), told(*least)), (true, false), "{name}");
    }
}

#[test]
fn a_plan_in_a_sample_is_read_back_as_itself() {
    let builtins = builtin::list().into_iter().filter_map(|(name, _)| builtin::find(name));
    for plan in builtins.chain([good(FULL), good(FOREIGN)]) {
        let line = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&line).unwrap(), plan, "{line}");
    }
}

#[test]
fn a_file_that_is_no_plan_is_told_by_its_name() {
    let told = |path: &Path| read(path).unwrap_err().0;
    let missing = told(Path::new("no/such/plan.toml"));
    assert!(missing.starts_with("can't read the plan no/such/plan.toml: "), "{missing}");
    let folder = std::env::temp_dir().join(format!("stillhere-plans-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("mine.toml");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    write(&[0xff, 0xfe]);
    assert!(told(&path).contains("is no text in UTF-8"));
    write(&vec![b'#'; (1 << 20) + 1]);
    assert!(told(&path).contains("is longer than 1 MiB"));
    write(&vec![b'#'; 1 << 20]);
    assert_eq!(read(&path).unwrap().name, "mine");
    assert_eq!(Source::of(&path.to_string_lossy()).read().unwrap().name, "mine");
    assert_eq!(Source::of("garbage").read().unwrap().name, "garbage");
    std::fs::remove_dir_all(&folder).unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fall_over(
        text in any::<String>(),
        key in "(name|about|seed|thresholds|crowd|count|steps|rate|during|size|beat|hello|find|metrics|command)",
        value in "[-0-9a-z.\"'/:<>= \\[\\]{},µ≤]{0,12}",
        section in "(\\[target\\]|\\[time\\]|\\[crowd\\]|\\[\\[attack\\]\\]|\\[load\\]|\\[search\\]|\\[frame\\]|)",
    ) {
        let quoted = format!("{section}\n{key} = \"{}\"", value.replace(['"', '\\'], ""));
        for text in [text.clone(), format!("{section}\n{key} = {value}"), quoted] {
            // Whatever is taken can be carried out, and whatever isn't says something.
            match parse(&text, "p.toml") {
                Ok(plan) => prop_assert_eq!(check(&plan), Ok(())),
                Err(error) => prop_assert!(!error.0.is_empty()),
            }
        }
        for text in [text, value] {
            let _ = threshold::parse(&text);
            let _ = threshold::parse(&format!("p99 < {text}"));
        }
    }
}

/// The blocks of a page in a language, each with the number of its first line.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut fence: Option<bool> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (line.strip_prefix("```"), fence) {
            (Some(begins), None) => {
                fence = Some(begins == language);
                if begins == language {
                    blocks.push((number + 1, String::new()));
                }
            }
            (Some(_), Some(_)) => fence = None,
            (None, Some(true)) => {
                if let Some((_, block)) = blocks.last_mut() {
                    writeln!(block, "{line}").unwrap();
                }
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn every_example_of_the_page_is_a_plan() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let examples = blocks(&page, "toml");
    assert!(examples.len() >= 5, "{}", examples.len());
    for (line, text) in examples {
        let plan = parse(&text, "example.toml").unwrap_or_else(|error| panic!("the block at line {line}: {error}"));
        assert_eq!(check(&plan), Ok(()), "the block at line {line}");
    }
}

#[test]
fn the_page_has_every_figure_with_its_unit() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut table = "| figure | unit | what it is |\n|---|---|---|\n".to_owned();
    for figure in FIGURES {
        let unit = match figure.unit {
            figure::Unit::Time => "time",
            figure::Unit::Bytes => "bytes",
            figure::Unit::Number => "number",
        };
        writeln!(table, "| `{}` | {unit} | {} |", figure.name, figure.about).unwrap();
    }
    assert!(page.contains(&table), "docs/storm-plans.md needs this table:\n\n{table}");
}

#[test]
fn the_page_has_every_key_and_every_word() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let keys = FULL.lines().chain(FOREIGN.lines()).filter_map(|line| line.split_once(" = "));
    for key in keys.map(|(key, _)| key).filter(|key| !key.contains(' ')).chain(["rate", "closed", "payload", "reply"]) {
        assert!(page.contains(&format!("| `{key}` |")), "`{key}` has no row");
    }
    for word in file::words() {
        assert!(page.contains(&format!("`\"{word}\"`")), "\"{word}\" isn't mentioned");
    }
}
