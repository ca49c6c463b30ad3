//! The plans that come with the storm: one for each attack, and a few more.
//!
//! Each is a text in TOML, made from the table of attacks, and passes through the same reader as a file: what a
//! builtin does can be written out ([`text`]), read and changed. They suit a small machine, with 200 honest clients
//! beside 200 attackers; the command line's `--count` and `--crowd` raise that.

use std::net::SocketAddr;

use stillhere_core::amount::show_span;

use super::value::{nearest, quoted};
use super::{Plan, PlanError, Threshold, check, file, threshold};
use crate::attack::{self, ATTACKS};

/// What a target's process must keep to, beside the promise to honest clients. Some files come and go with newcomers,
/// and with whoever looks at the metrics.
const OF_TARGET: [&str; 2] = ["rss_growth < 50MiB", "files_left < 10"];

/// A plan that isn't just one attack.
struct Other {
    name: &'static str,
    about: &'static str,
    /// Below its name: what happens.
    body: &'static str,
    /// What must hold beside the promise.
    thresholds: &'static [&'static str],
}

const OTHERS: &[Other] = &[
    Other {
        name: "calm",
        about: "Honest clients alone: what this machine and the target do when nobody attacks.",
        body: "[crowd]\ncount = 200\n",
        thresholds: &OF_TARGET,
    },
    Other {
        name: "chat",
        about: "Honest clients who write and signal to each other in rooms of ten.",
        body: "[crowd]\ncount = 200\nrooms = 20\nsay_every = \"5s\"\nsignal_every = \"2s\"\n",
        thresholds: &["unsaid = 0", OF_TARGET[0], OF_TARGET[1]],
    },
    Other {
        name: "mix",
        about: "Several attacks at once beside honest clients who chat.",
        // The attacks follow, see `mix`.
        body: "[crowd]\ncount = 200\nrooms = 20\n\n[time]\nduring = \"40s\"\n",
        thresholds: &["overdue = 0", OF_TARGET[0], OF_TARGET[1]],
    },
    Other {
        name: "rate",
        about: "Searches for the most beats a second that are answered within 20 ms, of 99 in 100.",
        // A gateway takes 1,000 frames a second of each link; 200 links bear twice the largest rate.
        body: "[time]\nbefore = \"5s\"\nduring = \"15s\"\nafter = \"5s\"\n\n[load]\nwhat = \"beat\"\nconnections = 200\n\n\
               [search]\nfind = \"rate\"\nfrom = 1000\nmax = 100000\nprecision = 0.1\ntrials = 20\n",
        thresholds: &["load_p99 < 20ms"],
    },
    Other {
        name: "withstand",
        about: "Searches for how many attackers with garbage the target withstands: the tutorial's table, made exact.",
        body: "[time]\nbefore = \"10s\"\nduring = \"20s\"\nafter = \"5s\"\n\n[[attack]]\nname = \"garbage\"\n\n\
               [search]\nfind = \"attackers\"\nfrom = 25\nmax = 10000\nprecision = 0.1\ntrials = 20\n",
        thresholds: &[],
    },
];

/// What `mix` does at once, as far as there are such attacks: something of each kind.
const MIX: [&str; 6] = ["garbage", "sit", "slowloris", "lengths", "json-bombs", "churn"];

/// All names with what they are for, attacks first.
pub fn list() -> Vec<(&'static str, &'static str)> {
    let attacks = ATTACKS.iter().map(|attack| (attack.name, attack.about));
    attacks.chain(OTHERS.iter().map(|other| (other.name, other.about))).collect()
}

/// The plan of that name.
pub fn find(name: &str) -> Option<Plan> {
    // That each can be read is tested.
    text(name).and_then(|text| file::parse(&text, name).ok())
}

/// The plan of that name.
///
/// # Errors
/// When there is none; names the nearest.
pub fn named(name: &str) -> Result<Plan, PlanError> {
    find(name).ok_or_else(|| {
        let nearest = nearest(name, list().into_iter().map(|(name, _)| name));
        PlanError(format!(
            "there is no plan `{}`; did you mean `{nearest}`? `stillhere storm --list` shows all; a file's name ends \
             with .toml",
            quoted(name)
        ))
    })
}

/// The text of the plan of that name, to start one's own from.
pub fn text(name: &str) -> Option<String> {
    let (about, body, more) = match OTHERS.iter().find(|other| other.name == name) {
        Some(other) if other.name == "mix" => (other.about, mix(other.body), other.thresholds.to_vec()),
        Some(other) => (other.about, other.body.to_owned(), other.thresholds.to_vec()),
        None => {
            let attack = attack::find(name)?;
            (attack.about, one(attack.name), vec!["overdue = 0", OF_TARGET[0], OF_TARGET[1]])
        }
    };
    let plan = file::parse(&body, name).ok()?;
    let promise = threshold::promise(&plan).into_iter().map(|threshold| threshold.text);
    let thresholds = promise.chain(more.into_iter().map(str::to_owned));
    let thresholds: String = thresholds.map(|text| format!("    {},\n", basic(&text))).collect();
    Some(format!("name = {}\nabout = {}\nthresholds = [\n{thresholds}]\n\n{body}", basic(name), basic(about)))
}

/// The body of a plan with one attack.
fn one(name: &str) -> String {
    let time = patience([name]).map(|during| format!("[time]\nduring = \"{during}\"\n\n")).unwrap_or_default();
    format!("{time}[crowd]\ncount = 200\n\n[[attack]]\nname = {}\ncount = 200\n", basic(name))
}

fn mix(body: &str) -> String {
    let there = MIX.iter().filter(|name| attack::find(name).is_some());
    let attacks: String = there.map(|name| format!("\n[[attack]]\nname = {}\ncount = 50\n", basic(name))).collect();
    format!("{body}{attacks}")
}

/// How long `during` must be for these attacks, if longer than usual.
fn patience<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    let longest = check::PATIENCE.iter().filter(|(name, _)| names.contains(name)).map(|(_, least)| *least).max();
    longest.filter(|least| *least > file::DURING).map(show_span)
}

/// A text as TOML writes it: what is a string of JSON is one of TOML too.
fn basic(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Takes out what a builtin, or the promise of a plan without thresholds, says of a target that has no metrics any more
/// and can't be measured without: of its process, if that is on another machine, and of false leaves, if nobody is told
/// of them. Where a file has such a threshold itself it stays, and is refused or broken.
pub(super) fn forget_unseen(plan: &mut Plan) {
    if plan.target.metrics.is_some() {
        return;
    }
    let promise = |plan: &Plan| {
        let mut seen = plan.clone();
        seen.target.metrics = Some(String::new());
        threshold::promise(&seen)
    };
    let is_builtin = find(&plan.name).is_some_and(|builtin| builtin.thresholds == plan.thresholds);
    if (is_builtin || plan.thresholds == promise(plan)) && check::lacks(plan, "false_leaves").is_some() {
        plan.thresholds.retain(|Threshold { text, .. }| text != "false_leaves = 0");
    }
    let is_near = match plan.target.address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => plan.target.address.starts_with("localhost:"),
    };
    if is_builtin && !is_near {
        plan.thresholds.retain(|Threshold { text, .. }| !OF_TARGET.contains(&text.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, check};

    fn texts(plan: &Plan) -> Vec<&str> {
        plan.thresholds.iter().map(|threshold| threshold.text.as_str()).collect()
    }

    #[test]
    fn every_builtin_is_a_plan_that_reads_as_a_file_does() {
        for (name, about) in list() {
            let text = text(name).unwrap();
            let plan = file::parse(&text, "file.toml").unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
            assert_eq!((plan.name.as_str(), plan.about.as_str()), (name, about));
            assert_eq!((check(&plan), find(name)), (Ok(()), Some(plan)));
        }
        let names: Vec<_> = list().into_iter().map(|(name, _)| name).collect();
        let once: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }

    #[test]
    fn each_attack_has_a_plan_with_a_verdict() {
        for row in ATTACKS {
            let plan = find(row.name).unwrap();
            assert_eq!(plan.crowd.as_ref().map(|crowd| crowd.count), Some(200), "{}", row.name);
            assert_eq!(
                plan.attacks.iter().map(|attack| (&*attack.name, attack.count)).collect::<Vec<_>>(),
                [(row.name, 200)]
            );
            assert_eq!(plan.attacks[0].size, row.size);
            for text in ["sessions_lost = 0", "false_leaves = 0", "p99_ratio <= 2", "tries > 0", "overdue = 0"] {
                assert!(texts(&plan).contains(&text), "{}: {text}", row.name);
            }
        }
    }

    #[test]
    fn attacks_whose_end_takes_time_get_it() {
        assert_eq!((patience(["garbage"]), patience(["sit"])), (None, None));
        assert_eq!(patience(["sit", "silent-death"]).as_deref(), Some("40s"));
        assert!(one("slow-reader").starts_with("[time]\nduring = \"40s\""));
    }

    #[test]
    fn searches_and_chat_are_what_they_say() {
        let sought = |name| find(name).unwrap().search.map(|search| (search.find, search.from, search.max));
        assert_eq!(sought("withstand"), Some((crate::plan::Sought::Attackers, 25, 10_000)));
        assert_eq!(sought("rate"), Some((crate::plan::Sought::Rate, 1000, 100_000)));
        let chat = find("chat").unwrap();
        assert!(texts(&chat).contains(&"messages_lost = 0") && texts(&chat).contains(&"unsaid = 0"));
        assert!(find("mix").unwrap().attacks.iter().any(|attack| attack.name == "garbage"));
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        let told = named("grabage").unwrap_err().0;
        assert!(told.contains("no plan `grabage`; did you mean `garbage`?"), "{told}");
        assert_eq!(find("grabage"), None);
    }

    #[test]
    fn what_nobody_can_see_of_a_far_target_is_not_asked() {
        let to = |name: &str, target: &str, metrics: Option<&str>| {
            let mut plan = named(name).unwrap();
            let (target, metrics) = (Some(target.to_owned()), metrics.map(str::to_owned));
            plan.apply(&Overrides { target, metrics, ..Overrides::default() }).unwrap();
            texts(&plan).contains(&OF_TARGET[0])
        };
        assert!(to("garbage", "127.0.0.1:9000", None));
        assert!(to("garbage", "192.0.2.1:9000", Some("http://192.0.2.1:14080/metrics")));
        assert!(!to("garbage", "192.0.2.1:9000", None));
        let mut own =
            file::parse("thresholds = [\"rss_growth < 50MiB\"]\n[[attack]]\nname = \"garbage\"", "garbage.toml")
                .unwrap();
        own.apply(&Overrides { target: Some("192.0.2.1:9000".to_owned()), ..Overrides::default() }).unwrap();
        assert_eq!(texts(&own), ["rss_growth < 50MiB"]);
    }
}
