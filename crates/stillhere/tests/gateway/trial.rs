//! An offender, and everything that must stay as it was.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bystanders::{Bystanders, LINKS};
use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer};

/// A gateway with two bystanders, at which links offend one after the other.
pub(crate) struct Trial {
    pub(crate) gateway: Gateway,
    bystanders: Bystanders,
    /// How many links may have ended by now, by the label of their code.
    ended: Vec<(String, u64)>,
}

impl Trial {
    pub(crate) fn begin(settings: &[(&str, &str)]) -> Trial {
        let gateway = Gateway::start(settings);
        let bystanders = Bystanders::join(&gateway);
        Trial { gateway, bystanders, ended: Vec::new() }
    }

    /// Each of these as the first bytes of a link: it is closed at once with this code, and never written to.
    pub(crate) fn check<B: AsRef<[u8]>>(code: u16, offences: impl IntoIterator<Item = B>) {
        let mut trial = Trial::begin(&[]);
        for bytes in offences {
            trial.offend(code, (Duration::ZERO, AT_ONCE), |peer| peer.send(bytes.as_ref()));
        }
        trial.end();
    }

    /// A link that never had a session offends. It must be closed, with this code and without a byte, between these
    /// times after its connect.
    pub(crate) fn offend(&mut self, code: u16, between: (Duration, Duration), offence: impl FnOnce(&mut Peer)) {
        let mut peer = Peer::connect(&self.gateway);
        offence(&mut peer);
        peer.expect_closed_between(between.0, between.1);
        let row = self.expect_closed(&peer, Some(code));
        assert_eq!(
            (&row["mode"], &row["id"], &row["bytes_out"]),
            (&json!("unknown"), &Value::Null, &json!(0)),
            "{row}"
        );
        self.bystanders.expect_unharmed(&self.gateway);
    }

    /// A link has ended and is listed so; `None` if the peer left.
    pub(crate) fn expect_closed(&mut self, peer: &Peer, code: Option<u16>) -> Value {
        self.expect_closed_at(peer.address, code)
    }

    /// The same for a link of whatever kind.
    pub(crate) fn expect_closed_at(&mut self, address: SocketAddr, code: Option<u16>) -> Value {
        let row = self.gateway.closed_row(address);
        assert_eq!(row["code"].as_u64(), code.map(u64::from), "{row}");
        assert_eq!(row["name"].is_null(), code.is_none(), "{row}");
        self.count(code, 1);
        row
    }

    /// So many more links may end with this code.
    pub(crate) fn count(&mut self, code: Option<u16>, count: u64) {
        let label = code.map_or("\"none\"".to_owned(), |code| format!("\"{code}\""));
        match self.ended.iter_mut().find(|(known, _)| *known == label) {
            Some((_, known)) => *known += count,
            None => self.ended.push((label, count)),
        }
    }

    /// Nobody else was closed, nothing is left, and the bystanders are as healthy as ever.
    pub(crate) fn end(mut self) {
        for (label, count) in &self.ended {
            self.gateway.wait_for_metric("closes_total", label, *count);
        }
        let all = self.ended.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(self.gateway.metric("closes_total", ""), all, "only offenders are closed");
        self.gateway.wait_until_calm(LINKS);
        self.bystanders.expect_unharmed(&self.gateway);
    }
}
