//! A plan with a few things changed: by the command line, or by the trials of a search.

use std::time::Duration;

use stillhere_core::amount::show_span;

use super::value::quoted;
use super::{Plan, PlanError, Search, Sought, builtin, check, file};

/// What the command line says instead of the plan; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--target HOST:PORT`. What else is known of the plan's target (its metrics, its process) isn't of this one.
    pub target: Option<String>,
    /// `--metrics URL`, or `none` for a target without.
    pub metrics: Option<String>,
    /// `--for 30s`: the phase `during`. A load's steps keep their shape and become shorter or longer with it.
    pub during: Option<Duration>,
    /// `--count N`: attackers of the first attack, and of others in proportion; without attacks the crowd's clients.
    pub count: Option<u32>,
    /// `--crowd N`: honest clients. Rooms keep their size.
    pub crowd: Option<u32>,
    /// `--seed N`.
    pub seed: Option<u64>,
}

impl Overrides {
    /// The flag that decided a key of the plan, as it was typed.
    fn flag(&self, key: &str, has_attacks: bool) -> Option<String> {
        let part = key.rsplit('.').next().unwrap_or_default();
        let of_attack = key.starts_with("attack.") && matches!(part, "count" | "size");
        match key {
            "target.address" => self.target.as_ref().map(|target| format!("--target {}", quoted(target))),
            "target.metrics" => self.metrics.as_ref().map(|url| format!("--metrics {}", quoted(url))),
            "time.during" => self.during.map(|during| format!("--for {}", show_span(during))),
            _ if of_attack => self.count.map(|count| format!("--count {count}")),
            "crowd.count" | "crowd.rooms" => {
                let count = self.count.filter(|_| !has_attacks).map(|count| format!("--count {count}"));
                self.crowd.map(|crowd| format!("--crowd {crowd}")).or(count)
            }
            _ => None,
        }
    }
}

impl Plan {
    /// Changes what the command line says, and checks the whole again.
    ///
    /// # Errors
    /// When the plan can't be carried out so; it is then half changed and of no use.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), PlanError> {
        let has_attacks = !self.attacks.is_empty();
        if let Some(address) = overrides.target.as_ref().filter(|address| **address != self.target.address) {
            self.target.address.clone_from(address);
            self.target.metrics = file::metrics_of(address);
            self.target.pid = None;
        }
        match overrides.metrics.as_deref() {
            Some("none") => self.target.metrics = None,
            Some(url) => self.target.metrics = Some(url.to_owned()),
            None => {}
        }
        builtin::forget_unseen(self);
        if let Some(during) = overrides.during {
            self.stretch(during);
        }
        if let Some(count) = overrides.count {
            self.set_count(count)?;
        }
        if let Some(crowd) = overrides.crowd {
            if self.crowd.is_none() {
                return Err(PlanError(format!("--crowd {crowd}: this plan has no crowd; leave --crowd out")));
            }
            self.searched(Sought::Crowd, "--crowd")?;
            self.set_crowd(crowd);
        }
        self.seed = overrides.seed.unwrap_or(self.seed);
        let place = |fault: check::Fault| match overrides.flag(&fault.key, has_attacks) {
            Some(flag) => format!("{flag}: {}", fault.says),
            None => format!("{}: {}", check::label(&fault.key), fault.says),
        };
        check::told(check::faults(self).into_iter().map(place).collect())
    }

    /// The plan of one trial of its search: with this number, and no search.
    pub fn trial(&self, number: u64) -> Plan {
        let mut plan = self.clone();
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        match (plan.search.take().map(|search| search.find), plan.attacks.first_mut(), &mut plan.load) {
            (Some(Sought::Attackers), Some(attack), _) => attack.count = count,
            (Some(Sought::Rate), _, Some(load)) => load.steps = file::steady(number as f64, plan.time.during),
            (Some(Sought::Crowd), _, _) => plan.set_crowd(count),
            (Some(_) | None, _, _) => {}
        }
        plan
    }

    fn set_count(&mut self, count: u32) -> Result<(), PlanError> {
        let Some(first) = self.attacks.first().map(|attack| attack.count.max(1)) else {
            self.searched(Sought::Crowd, "--count")?;
            self.set_crowd(count);
            return Ok(());
        };
        self.searched(Sought::Attackers, "--count")?;
        for attack in &mut self.attacks {
            attack.count = scaled(attack.count, count, first).max(u32::from(count > 0));
        }
        Ok(())
    }

    /// Refuses to set what a search is for.
    fn searched(&self, what: Sought, flag: &str) -> Result<(), PlanError> {
        match self.search {
            Some(Search { find, .. }) if find == what => Err(PlanError(format!(
                "{flag}: this plan searches for just that number; leave {flag} out, or set `from` and `max` of [search]"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn set_crowd(&mut self, count: u32) {
        let Some(crowd) = &mut self.crowd else { return };
        if crowd.rooms > 0 {
            crowd.rooms = scaled(crowd.rooms, count, crowd.count.max(1)).max(1);
        }
        crowd.count = count;
        // Whoever asks for ten times the clients doesn't ask for ten times as many at once.
        self.time.ramp = self.time.ramp.max(file::ramp_of(count));
    }

    /// Sets how long `during` is, and makes the load's steps fit.
    fn stretch(&mut self, during: Duration) {
        let old = self.time.during.as_secs_f64();
        self.time.during = during;
        let Some(load) = &mut self.load else { return };
        let ratio = if old > 0.0 { during.as_secs_f64() / old } else { 1.0 };
        let mut rest = during;
        let last = load.steps.len().saturating_sub(1);
        for (nth, step) in load.steps.iter_mut().enumerate() {
            let lasts = Duration::try_from_secs_f64(step.lasts.as_secs_f64() * ratio).unwrap_or(during);
            // The last takes what is left, so that rounding adds nothing up.
            step.lasts = if nth == last { rest } else { lasts.min(rest) };
            rest -= step.lasts;
        }
    }
}

/// `number` × `new` / `old`, rounded down.
fn scaled(number: u32, new: u32, old: u32) -> u32 {
    let scaled = u64::from(number) * u64::from(new) / u64::from(old.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::file::parse;

    fn plan(text: &str) -> Plan {
        parse(text, "test.toml").unwrap()
    }

    fn applied(text: &str, overrides: Overrides) -> Result<Plan, String> {
        let mut plan = plan(text);
        plan.apply(&overrides).map(|()| plan).map_err(|error| error.0)
    }

    #[test]
    fn another_target_keeps_nothing_of_the_first() {
        let text = "[target]\nmetrics = \"http://127.0.0.1:9/metrics\"\npid = 7\n[[attack]]\nname = \"garbage\"";
        let to = |target: &str, metrics: Option<&str>| {
            let (target, metrics) = (Some(target.to_owned()), metrics.map(str::to_owned));
            applied(text, Overrides { target, metrics, ..Overrides::default() }).unwrap().target
        };
        let target = to("127.0.0.1:9000", None);
        assert_eq!((target.metrics, target.pid), (None, None));
        let target = to("127.0.0.1:9000", Some("http://[::1]:8/m"));
        assert_eq!(target.metrics.as_deref(), Some("http://[::1]:8/m"));
        let target = to(file::ADDRESS, None);
        assert_eq!((target.metrics.as_deref(), target.pid), (Some("http://127.0.0.1:9/metrics"), Some(7)));
        assert_eq!(to(file::ADDRESS, Some("none")).metrics, None);
    }

    #[test]
    fn a_count_is_of_the_first_attack_and_scales_the_others() {
        let text = "[[attack]]\nname = \"garbage\"\ncount = 100\n";
        let mut two = plan(text);
        two.attacks.push(crate::plan::Attack { name: "other".to_owned(), count: 50, ..two.attacks[0].clone() });
        two.set_count(1000).unwrap();
        assert_eq!(two.attacks.iter().map(|attack| attack.count).collect::<Vec<_>>(), [1000, 500]);
        two.set_count(1).unwrap();
        assert_eq!(two.attacks.iter().map(|attack| attack.count).collect::<Vec<_>>(), [1, 1]);
        let calm = applied("name = \"calm\"", Overrides { count: Some(3000), ..Overrides::default() }).unwrap();
        assert_eq!(calm.crowd.map(|crowd| crowd.count), Some(3000));
        assert_eq!(calm.time.ramp, Duration::from_secs(6));
    }

    #[test]
    fn a_larger_crowd_has_more_rooms_of_the_same_size() {
        let crowd =
            applied("[crowd]\nrooms = 20", Overrides { crowd: Some(1000), ..Overrides::default() }).unwrap().crowd;
        assert_eq!(crowd.map(|crowd| (crowd.count, crowd.rooms)), Some((1000, 100)));
    }

    #[test]
    fn a_loads_steps_keep_their_shape() {
        let text = "[time]\nduring = \"30s\"\n[load]\nsteps = [\"0/s to 9/s for 10s\", \"9/s for 20s\"]";
        for seconds in [3, 7, 300] {
            let during = Duration::from_secs(seconds);
            let load = applied(text, Overrides { during: Some(during), ..Overrides::default() }).unwrap().load.unwrap();
            let lasts: Vec<Duration> = load.steps.iter().map(|step| step.lasts).collect();
            assert_eq!(lasts.iter().sum::<Duration>(), during);
            assert_eq!(lasts[0].as_millis(), u128::from(seconds) * 1000 / 3);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_flag() {
        let attack = "[[attack]]\nname = \"garbage\"\n";
        let search = format!("{attack}[search]\nfind = \"attackers\"");
        let none = Overrides::default;
        for (text, overrides, says) in [
            (attack, Overrides { count: Some(0), ..none() }, "--count 0: write a number from 1 to 19000"),
            (
                attack,
                Overrides { count: Some(18_900), ..none() },
                "--count 18900: attackers, crowd and load make 19100",
            ),
            (attack, Overrides { crowd: Some(20_000), ..none() }, "--crowd 20000: write a number from 1 to 19000"),
            ("", Overrides { count: Some(20_000), ..none() }, "--count 20000: write a number from 1 to 19000"),
            (
                attack,
                Overrides { during: Some(Duration::from_secs(7200)), ..none() },
                "--for 2h: write \"1s\" to \"1h\"",
            ),
            (attack, Overrides { target: Some("host".to_owned()), ..none() }, "--target host: write HOST:PORT"),
            (attack, Overrides { metrics: Some("host".to_owned()), ..none() }, "--metrics host: write a URL"),
            (&search, Overrides { count: Some(5), ..none() }, "--count: this plan searches for just that number"),
            ("crowd = false\n[load]", Overrides { crowd: Some(5), ..none() }, "--crowd 5: this plan has no crowd"),
        ] {
            let told = applied(text, overrides).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn a_trial_has_the_searched_number() {
        let attack = plan("[[attack]]\nname = \"garbage\"\n[search]\nfind = \"attackers\"").trial(77);
        assert_eq!((attack.attacks[0].count, attack.search), (77, None));
        let crowd = plan("[search]\nfind = \"crowd\"").trial(88).crowd.map(|crowd| crowd.count);
        assert_eq!(crowd, Some(88));
        let load = plan("[load]\nrate = 5\n[search]\nfind = \"rate\"").trial(1234);
        assert_eq!(load.load.unwrap().steps, file::steady(1234.0, load.time.during));
    }
}
