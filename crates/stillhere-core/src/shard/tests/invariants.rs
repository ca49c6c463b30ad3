//! What must hold after every input, and a property that throws anything at a shard.

use super::*;
use crate::event::{Mode, Transport};
use proptest::prelude::*;

impl Shard {
    /// Counts everything again and compares.
    pub(super) fn check_invariants(&self) {
        let links = self.links.iter().map(|(_, link)| link);
        let partial: usize = links.clone().map(Link::kept_bytes).sum();
        assert_eq!(self.stats.partial_bytes, partial as u64, "partial bytes");
        for transport in Transport::ALL {
            for mode in Mode::ALL {
                let those = links.clone().filter(|link| (link.traits.transport(), link.mode) == (transport, mode));
                let count = self.stats.links[transport as usize][mode as usize];
                assert_eq!(count, those.count() as u64, "{transport:?} {mode:?} links");
            }
        }
        for status in [Status::Alive, Status::Leave] {
            let count = self.sessions.iter().filter(|(_, session)| session.status() == status).count() as u64;
            assert_eq!(self.stats.sessions[status as usize], count, "{status:?} sessions");
        }
        let retained = self.sessions.iter().filter(|(_, session)| session.link().is_none()).count() as u64;
        assert_eq!(self.stats.retained, retained, "retained");
        assert_eq!(self.retained_by_address.values().map(|count| u64::from(*count)).sum::<u64>(), retained);
        assert_eq!(self.by_peer.len() + self.by_id.len(), self.sessions.len(), "indexes");
        self.check_unlinked();
        for (key, session) in self.sessions.iter() {
            if let Some(link) = session.link() {
                assert_eq!(self.link(link).map(|link| link.session), Some(key as u32), "link and session agree");
            }
            assert_ne!(session.armed, DISARMED, "every session is looked at");
        }
        for (index, link) in self.links.iter() {
            if let Some(session) = self.sessions.get(link.session as usize) {
                assert_eq!(session.link(), Some(LinkId(index as u32)), "session and link agree");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u16),
    Send(usize, usize),
    Bytes(usize, Vec<u8>),
    End(usize),
    Pass(u64),
    Stall(u64),
    Kick(usize),
    Resume(usize, u64),
    Configure(usize),
    Upgrade(usize, usize),
    Heard(usize),
    Garbled(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u16..6).prop_map(Step::Open),
        8 => (0usize..12, 0usize..BODIES.len()).prop_map(|(link, body)| Step::Send(link, body)),
        1 => (0usize..12, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(link, bytes)| Step::Bytes(link, bytes)),
        2 => (0usize..12).prop_map(Step::End),
        6 => (0u64..60_000).prop_map(Step::Pass),
        1 => (0u64..400_000).prop_map(Step::Pass),
        1 => (1_000u64..100_000).prop_map(Step::Stall),
        1 => (0usize..6).prop_map(Step::Kick),
        4 => (0usize..8, 0u64..2).prop_map(|(welcome, count)| Step::Resume(welcome, count)),
        1 => (0usize..5).prop_map(Step::Configure),
        2 => (0usize..12, 0usize..4).prop_map(|(link, transport)| Step::Upgrade(link, transport)),
        2 => (0usize..12).prop_map(Step::Heard),
        1 => (0usize..12).prop_map(Step::Garbled),
    ]
}

const BODIES: [&str; 12] = [
    BEAT,
    r#"{"ip":"x","status":"leave"}"#,
    r#"{"ip":"x","status":"close"}"#,
    r#"{"op":"hello","v":1}"#,
    r#"{"op":"hello","v":1,"user":"ann","interval_ms":1000}"#,
    r#"{"op":"beat","t":1}"#,
    r#"{"op":"status","status":"leave"}"#,
    r#"{"op":"status","status":"alive","id":1}"#,
    r#"{"op":"bye"}"#,
    "",
    "{",
    r#"{"op":"nonsense","id":1}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens_the_books_are_right(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut world = World::new();
        let mut welcomes: Vec<Value> = Vec::new();
        for step in steps {
            let opened: Vec<LinkId> =
                (0..world.next_link).map(LinkId).filter(|link| world.shard.link(*link).is_some()).collect();
            let link = |n: usize| opened.get(n % opened.len().max(1)).copied();
            match step {
                Step::Open(port) => drop(world.open(port)),
                Step::Send(n, body) => if let Some(link) = link(n) { world.send(link, BODIES[body]) },
                Step::Bytes(n, bytes) => if let Some(link) = link(n) { world.send_bytes(link, &bytes) },
                Step::End(n) => if let Some(link) = link(n) { world.end(link) },
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Stall(ms) => {
                    world.now = world.now + Duration::from_millis(ms);
                    world.input(Input::Tick { wall_ms: 0 });
                }
                Step::Kick(n) => {
                    let page = world.shard.page(&Filter::default(), 0, usize::MAX, 6);
                    if let Some(view) = page.sessions.get(n) {
                        world.input(Input::Kick { identity: view.identity });
                    }
                }
                Step::Resume(n, count) => if let Some(welcome) = welcomes.get(n) {
                    let mut hello = json!({"op": "hello", "v": 1});
                    hello.as_object_mut().unwrap().extend(resume(welcome, count).as_object().unwrap().clone());
                    let link = world.open(7);
                    world.send(link, &hello.to_string());
                },
                Step::Upgrade(n, transport) => if let Some(link) = link(n) {
                    world.input(Input::Upgraded { link, transport: Transport::ALL[transport] });
                },
                Step::Heard(n) => if let Some(link) = link(n) { world.input(Input::Heard { link }) },
                Step::Garbled(n) => if let Some(link) = link(n) { world.input(Input::Garbled { link }) },
                Step::Configure(n) => {
                    let profile = crate::profile::PROFILES[n].name;
                    world.input(Input::Configure(Box::new(terms(profile))));
                }
            }
            world.shard.check_invariants();
            let written: Vec<LinkId> = world.written.keys().copied().collect();
            for link in written {
                welcomes.extend(world.said(link).into_iter().filter(|said| said["op"] == "welcome"));
            }
            welcomes.truncate(8);
        }
        // In the end everybody is gone, whatever they were doing.
        let end = world.now + Duration::from_secs(3700);
        while world.now < end {
            // As late as may be without an excuse; exactness is others' concern.
            world.now = world.shard.next_deadline() + SECOND;
            world.input(Input::Tick { wall_ms: 0 });
        }
        world.shard.check_invariants();
        prop_assert_eq!(world.shard.session_count(), 0);
        prop_assert_eq!(world.stats().links_open(), 0);
    }
}
