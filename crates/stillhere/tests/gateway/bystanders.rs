//! Two honest clients that must not notice what others do to the gateway.

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::peer::{Peer, TUTORIAL};

/// A client of the tutorial and one of v1.
pub(crate) struct Bystanders {
    legacy: Peer,
    v1: Peer,
    session: Value,
    beats: u64,
}

/// How many links they have.
pub(crate) const LINKS: usize = 2;

impl Bystanders {
    pub(crate) fn join(gateway: &Gateway) -> Bystanders {
        let (v1, welcome) = Peer::v1(gateway, json!({"user": "bystander"}));
        let legacy = Peer::connect(gateway);
        let mut bystanders = Bystanders { legacy, v1, session: welcome["session"].clone(), beats: 0 };
        bystanders.expect_unharmed(gateway);
        bystanders
    }

    /// Each beats once more; both must be as healthy as ever and every beat counted.
    pub(crate) fn expect_unharmed(&mut self, gateway: &Gateway) {
        self.expect_unharmed_by(gateway, |path| gateway.get(path).json());
    }

    /// The same through an admin connection that is there already.
    pub(crate) fn expect_unharmed_by(&mut self, gateway: &Gateway, mut get: impl FnMut(&str) -> Value) {
        self.beats += 1;
        let beats = self.beats;
        self.legacy.send_frame(TUTORIAL);
        self.v1.beat(beats);
        self.legacy.expect_nothing_heard();
        let get = std::cell::RefCell::new(&mut get);
        for (peer, mode) in [(&self.legacy, "legacy"), (&self.v1, "v1")] {
            let path = format!("/api/v1/sessions?peer={}", peer.address);
            let row = gateway.wait(&format!("beat {beats} of {mode}"), || {
                let row = (get.borrow_mut())(&path)["sessions"][0].take();
                (row["beats"] == beats).then_some(row)
            });
            assert_eq!(row["mode"], mode, "{row}");
            assert_eq!((&row["status"], &row["linked"]), (&json!("alive"), &json!(true)), "{row}");
            assert_eq!((&row["cause"], &row["history"]), (&Value::Null, &json!([])), "{row}");
            match mode {
                "legacy" => assert_eq!(row["bytes_out"], 0, "{row}"),
                _ => assert_eq!((&row["id"], &row["gen"]), (&self.session, &json!(1)), "{row}"),
            }
        }
    }
}
