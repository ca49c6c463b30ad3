//! The threads around the desk, with real hashes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::memory::Memory;
use super::people::Entry;
use super::*;
use stillhere_core::ledger::Proof;

struct Told(Mutex<Sender<(usize, OrderId, Answer)>>);

impl Told {
    fn tell(&self, shard: usize, id: OrderId, answer: Answer) {
        self.0.lock().unwrap().send((shard, id, answer)).unwrap();
    }
}

impl Answers for Told {
    fn admit(&self, shard: usize, id: OrderId, entry: Entry) {
        self.tell(shard, id, Answer::Admit(entry));
    }

    fn done(&self, shard: usize, id: OrderId) {
        self.tell(shard, id, Answer::Done);
    }

    fn refuse(&self, shard: usize, id: OrderId, refused: Refused) {
        self.tell(shard, id, Answer::Refuse(refused));
    }
}

fn start() -> (Accounts, Receiver<(usize, OrderId, Answer)>) {
    let (sender, told) = channel();
    let answers = Arc::new(Told(Mutex::new(sender)));
    let policy = Policy { open: false, register: true };
    (Accounts::start(policy, Arc::<Memory>::default(), answers, Clock::new()).unwrap(), told)
}

fn enter(user: &str, proof: Proof, remember: bool) -> Order {
    let user = Some(Name::of_store(user));
    Order::Enter { user, proof, address: IpAddr::V4(Ipv4Addr::LOCALHOST), remember }
}

const PASSWORD: &str = "correct horse battery";

#[test]
fn who_registers_can_log_in_and_the_answer_finds_its_way_back() {
    let (accounts, told) = start();
    accounts.order(3, OrderId(7), enter("ada", Proof::Register { password: PASSWORD.into() }, false));
    let registered = Answer::Admit(Entry { user: Name::of_store("ada"), token: None });
    assert_eq!(told.recv().unwrap(), (3, OrderId(7), registered));
    accounts.order(1, OrderId(8), enter("ada", Proof::Login { password: PASSWORD.into() }, true));
    let (shard, id, Answer::Admit(entry)) = told.recv().unwrap() else { panic!("refused") };
    assert_eq!((shard, id), (1, OrderId(8)));
    let token = entry.token.unwrap();
    accounts.order(0, OrderId(9), enter("ada", Proof::Token { token }, false));
    assert!(matches!(told.recv().unwrap(), (0, OrderId(9), Answer::Admit(_))));
    accounts.order(0, OrderId(10), enter("ada", Proof::Login { password: "wrong horse".into() }, false));
    assert!(matches!(told.recv().unwrap(), (0, OrderId(10), Answer::Refuse(_))));
}

#[test]
fn an_operator_s_password_obeys_the_same_rules() {
    let (accounts, _told) = start();
    let ada = Name::of_store("ada");
    let refused = accounts.hash(&ada, "password1").unwrap().unwrap_err();
    assert!(refused.contains("tried first"), "{refused}");
    let stored = accounts.hash(&ada, PASSWORD).unwrap().unwrap();
    assert_eq!(accounts.hasher.verify(Some(&stored), PASSWORD), hash::Verdict::Right);
}
