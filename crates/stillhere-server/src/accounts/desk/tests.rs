use std::net::Ipv4Addr;

use stillhere_core::throttle::{ACCOUNT_FAILURES_MAX, ACCOUNT_FREE};

use super::super::hash::{Hasher, is_wrapped};
use super::super::memory::Memory;
use super::*;
use crate::store::people::TOKENS_PER_USER_MAX;

const GOOD: &str = "correct horse battery";
const OTHER: &str = "staple of another kind";
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A desk in virtual time with cheap hashes, whose pool works when the test says so.
struct Office {
    desk: Desk,
    people: Arc<Memory>,
    hasher: Hasher,
    now: Now,
    next_id: u64,
    /// What the pool was given and hasn't done yet.
    pool: VecDeque<(u64, Work)>,
    answers: HashMap<u64, Answer>,
    /// What a hash takes in virtual time.
    cost: Duration,
}

fn name(text: &str) -> Name {
    Name::of_store(text)
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn text(text: &str) -> Box<str> {
    text.into()
}

impl Office {
    fn new(threads: usize) -> Office {
        let people = Arc::<Memory>::default();
        let policy = Policy { open: false, register: true };
        Office {
            desk: Desk::new(policy, people.clone(), threads, [9; 32]),
            people,
            hasher: Hasher::with_cost(64, 1).unwrap(),
            now: Now { at: Time::from_millis(1000), wall_ms: 50 * 365 * DAY_MS },
            next_id: 0,
            pool: VecDeque::new(),
            answers: HashMap::new(),
            cost: COST_FIRST,
        }
    }

    /// With a user `ada` whose password is [`GOOD`].
    fn with_ada() -> Office {
        let office = Office::new(1);
        let stored = office.hasher.hash(GOOD).unwrap();
        office.people.add(&name("ada"), &stored, 0).unwrap();
        office
    }

    fn pass(&mut self, span: Duration) {
        self.now.at = self.now.at + span;
        self.now.wall_ms += span.as_millis() as u64;
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Hash(ticket, work) => self.pool.push_back((ticket, work)),
                Output::Answer(asker, answer) => {
                    let before = self.answers.insert(asker.id.0, answer);
                    assert!(before.is_none(), "order {:?} was answered twice", asker.id);
                }
            }
        }
    }

    /// Sends an order without letting the pool work.
    fn send(&mut self, order: Order) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut out = Vec::new();
        self.desk.order(self.now, Asker { shard: 0, id: OrderId(id) }, order, &mut out);
        self.take(out);
        id
    }

    /// Lets the pool do one piece of work; false if there is none.
    fn work_once(&mut self) -> bool {
        let Some((ticket, work)) = self.pool.pop_front() else { return false };
        let took = self.cost * work.hashes();
        self.pass(took);
        let worked = work.run(&self.hasher);
        let mut out = Vec::new();
        self.desk.worked(self.now, ticket, worked, took, &mut out);
        self.take(out);
        true
    }

    fn answer(&mut self, order: Order) -> Answer {
        let id = self.send(order);
        while !self.answers.contains_key(&id) {
            assert!(self.work_once(), "no answer and nothing to do");
        }
        self.answers.remove(&id).unwrap()
    }

    fn login(&mut self, user: &str, password: &str) -> Answer {
        self.answer(login(user, password, address(1), false))
    }

    fn token(&mut self, token: &str) -> Answer {
        self.answer(enter(None, Proof::Token { token: token.into() }, address(1), false))
    }

    /// A token of ada's.
    fn ada_s_token(&mut self) -> Box<str> {
        match self.answer(login("ada", GOOD, address(1), true)) {
            Answer::Admit(Entry { token: Some(token), .. }) => token,
            other => panic!("{other:?}"),
        }
    }
}

fn enter(user: Option<&str>, proof: Proof, address: IpAddr, remember: bool) -> Order {
    Order::Enter { user: user.map(name), proof, address, remember }
}

fn login(user: &str, password: &str, address: IpAddr, remember: bool) -> Order {
    enter(Some(user), Proof::Login { password: password.into() }, address, remember)
}

fn register(user: &str, password: &str) -> Order {
    enter(Some(user), Proof::Register { password: password.into() }, address(1), false)
}

fn change(old: &str, new: &str) -> Order {
    Order::Password { user: name("ada"), old: text(old), new: text(new), address: address(1) }
}

fn admitted(user: &str) -> Answer {
    Answer::Admit(Entry { user: name(user), token: None })
}

/// The refusal in an answer, which must have this code.
#[track_caller]
fn refused_with(answer: &Answer, code: ErrorCode) -> Refused {
    match answer {
        Answer::Refuse(refused) if refused.refusal.code == code.number => refused.clone(),
        other => panic!("expected {}, not {other:?}", code.name),
    }
}

#[test]
fn who_registers_is_that_user_and_can_log_in() {
    let mut office = Office::new(1);
    assert_eq!(office.answer(register("ada", GOOD)), admitted("ada"));
    assert_eq!(office.login("ada", GOOD), admitted("ada"));
    refused_with(&office.login("ada", OTHER), ErrorCode::BAD_CREDENTIALS);
    refused_with(&office.answer(register("ada", OTHER)), ErrorCode::NAME_TAKEN);
    assert_eq!(office.login("ada", GOOD), admitted("ada"), "a taken name changes nothing");
}

#[test]
fn registering_obeys_the_operator_and_the_rules() {
    let mut office = Office::new(1);
    refused_with(&office.answer(register("ada", "short")), ErrorCode::WEAK_PASSWORD);
    let told = refused_with(&office.answer(register("ada", "password1")), ErrorCode::WEAK_PASSWORD);
    assert!(told.refusal.message.contains("tried first"), "{told:?}");
    refused_with(&office.answer(register("guest-7f3a", GOOD)), ErrorCode::BAD_NAME);
    office.desk.configure(Policy { open: false, register: false });
    refused_with(&office.answer(register("ada", GOOD)), ErrorCode::REGISTER_CLOSED);
    assert_eq!((office.hasher.count(), office.people.tables().writes), (0, 0));
}

#[test]
fn where_names_are_claims_there_is_nothing_to_log_in_to() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    office.desk.configure(Policy { open: true, register: true });
    for answer in [
        office.login("ada", GOOD),
        office.token(&token),
        office.answer(register("bob", GOOD)),
        office.answer(change(GOOD, OTHER)),
    ] {
        refused_with(&answer, ErrorCode::NO_ACCOUNTS);
    }
}

#[test]
fn an_unknown_user_a_wrong_password_and_a_disabled_account_get_the_same_answer_at_the_same_cost() {
    let mut office = Office::with_ada();
    let stored = office.hasher.hash(GOOD).unwrap();
    let off = Account { password: Some(stored.into()), disabled: true };
    office.people.tables().accounts.insert(name("off"), off);
    office.people.tables().accounts.insert(name("claim"), Account { password: None, disabled: false });
    let mut answers = Vec::new();
    for user in ["ada", "nobody", "off", "claim"] {
        let before = office.hasher.count();
        answers.push(office.login(user, OTHER));
        assert_eq!(office.hasher.count() - before, 1, "{user}");
    }
    refused_with(&answers[0], ErrorCode::BAD_CREDENTIALS);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // The waits are the same as well, and so is the end of all patience.
    for user in ["ada", "nobody", "off", "claim"] {
        let waits: Vec<_> = (0..6)
            .map(|_| match office.login(user, OTHER) {
                Answer::Refuse(refused) => (refused.refusal.code, refused.retry),
                other => panic!("{other:?}"),
            })
            .collect();
        answers.push(Answer::Refuse(Refused {
            refusal: ErrorCode::LOGIN_DELAY.because(format!("{waits:?}")),
            retry: None,
            close: None,
        }));
    }
    assert!(answers[5..].iter().all(|answer| *answer == answers[4]), "{answers:?}");
}

#[test]
fn only_the_right_password_learns_that_the_account_is_disabled() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    office.people.tables().accounts.get_mut("ada").unwrap().disabled = true;
    refused_with(&office.login("ada", OTHER), ErrorCode::BAD_CREDENTIALS);
    for answer in [office.login("ada", GOOD), office.token(&token), office.answer(change(GOOD, OTHER))] {
        assert_eq!(refused_with(&answer, ErrorCode::DISABLED).close, Some(CloseCode::Disabled));
    }
}

#[test]
fn a_ban_is_told_with_its_end_to_its_user_and_to_its_address() {
    let mut office = Office::with_ada();
    let ban = Ban { until_ms: Some(office.now.wall_ms + 60_000) };
    office.people.tables().banned.insert("ada".to_owned(), ban);
    refused_with(&office.login("ada", OTHER), ErrorCode::BAD_CREDENTIALS);
    let told = refused_with(&office.login("ada", GOOD), ErrorCode::BANNED);
    assert_eq!(told.close, Some(CloseCode::Banned));
    assert_eq!(told.retry, Some(Duration::from_secs(60) - 2 * office.cost));
    office.pass(Duration::from_secs(60));
    assert_eq!(office.login("ada", GOOD), admitted("ada"), "a ban ends");

    office.people.tables().banned.insert(address(1).to_string(), Ban { until_ms: None });
    let before = office.hasher.count();
    let told = refused_with(&office.login("ada", GOOD), ErrorCode::BANNED);
    assert_eq!((told.retry, office.hasher.count()), (None, before), "an address isn't worth a hash");
    assert_eq!(office.answer(login("ada", GOOD, address(2), false)), admitted("ada"));
}

#[test]
fn a_full_queue_says_busy_at_once_and_for_how_long_and_hashes_nothing() {
    let mut office = Office::with_ada();
    // Each from an address of its own, so that only the queue is full.
    let mut admitted_to_queue = 0;
    let (mut busy, mut id) = (None, 0);
    while busy.is_none() {
        id = office.send(login(&format!("user{admitted_to_queue}"), OTHER, address(admitted_to_queue as u8), false));
        busy = office.answers.remove(&id);
        admitted_to_queue += usize::from(busy.is_none());
    }
    let told = refused_with(&busy.unwrap(), ErrorCode::BUSY);
    let retry = told.retry.unwrap();
    assert!(retry > QUEUE_TIME && retry <= QUEUE_TIME + 2 * COST_FIRST, "{retry:?}");
    assert_eq!((admitted_to_queue, office.hasher.count()), (51, 1), "2 s at 40 ms each");
    assert_eq!(office.pool.len(), 1, "the pool isn't given more than it has threads");
    // Being busy is nobody's failure, and the queue empties.
    while office.work_once() {}
    assert_eq!(office.answers.len(), admitted_to_queue);
    assert_eq!(office.desk.throttle.failures(&name(&format!("user{id}"))), 0);
    assert_eq!(office.login("ada", GOOD), admitted("ada"));
}

#[test]
fn the_queue_is_measured_in_the_time_that_hashes_take() {
    let mut office = Office::with_ada();
    office.cost = Duration::from_millis(400);
    for _ in 0..40 {
        assert_eq!(office.login("ada", GOOD), admitted("ada"));
    }
    let ids: Vec<_> = (0..10).map(|n| office.send(login(&format!("user{n}"), OTHER, address(n), false))).collect();
    let busy = ids.iter().filter(|id| office.answers.contains_key(id)).count();
    assert!((3..=5).contains(&busy), "{busy} of 10 at 400 ms each don't fit");
}

#[test]
fn guesses_at_the_same_time_are_no_more_than_guesses_one_by_one() {
    let mut office = Office::with_ada();
    let ids: Vec<_> = (0..20).map(|_| office.send(login("ada", OTHER, address(1), false))).collect();
    let before = office.hasher.count();
    while office.work_once() {}
    assert_eq!(office.hasher.count() - before, u64::from(ACCOUNT_FREE));
    let delayed = ids.iter().filter(|id| {
        matches!(&office.answers[id], Answer::Refuse(refused) if refused.refusal.code == ErrorCode::LOGIN_DELAY.number)
    });
    assert_eq!(delayed.count(), 20 - ACCOUNT_FREE as usize);
}

#[test]
fn after_a_hundred_failures_only_a_token_or_the_operator_helps() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    let lock = |office: &mut Office| {
        let mut failures = 0;
        while failures < ACCOUNT_FAILURES_MAX {
            match office.login("ada", OTHER) {
                Answer::Refuse(Refused { retry: Some(wait), .. }) => office.pass(wait),
                answer => {
                    refused_with(&answer, ErrorCode::BAD_CREDENTIALS);
                    failures += 1;
                }
            }
        }
        office.pass(Duration::from_secs(3600));
        let told = refused_with(&office.login("ada", GOOD), ErrorCode::LOGIN_DELAY);
        assert!(told.retry.is_none() && told.refusal.message.contains("operator"), "{told:?}");
    };
    lock(&mut office);
    assert_eq!(office.token(&token), admitted("ada"));
    assert_eq!(office.login("ada", GOOD), admitted("ada"), "who has a token has unlocked the account");
    lock(&mut office);
    office.desk.unlock(&name("ada"));
    assert_eq!(office.login("ada", GOOD), admitted("ada"));
}

#[test]
fn a_token_is_kept_hashed_lives_while_it_is_used_and_belongs_to_its_user() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    let writes = office.people.tables().writes;
    assert_eq!(office.token(&token), admitted("ada"));
    assert_eq!(office.people.tables().writes, writes, "a herd that returns doesn't wait for the disk");
    for _ in 0..3 {
        office.pass(Duration::from_millis(29 * DAY_MS));
        assert_eq!(office.token(&token), admitted("ada"));
    }
    let proof = || Proof::Token { token: token.clone() };
    assert_eq!(office.answer(enter(Some("ada"), proof(), address(1), false)), admitted("ada"));
    refused_with(&office.answer(enter(Some("bob"), proof(), address(1), false)), ErrorCode::BAD_CREDENTIALS);
    for nonsense in ["", "x", &"A".repeat(43)] {
        refused_with(&office.token(nonsense), ErrorCode::BAD_CREDENTIALS);
    }
    assert_eq!(office.hasher.count(), 2, "tokens aren't hashed slowly");
    office.pass(Duration::from_millis(30 * DAY_MS));
    refused_with(&office.token(&token), ErrorCode::BAD_CREDENTIALS);
}

#[test]
fn of_too_many_tokens_the_oldest_goes() {
    let mut office = Office::with_ada();
    let tokens: Vec<_> = (0..=TOKENS_PER_USER_MAX).map(|_| office.ada_s_token()).collect();
    refused_with(&office.token(&tokens[0]), ErrorCode::BAD_CREDENTIALS);
    for token in &tokens[1..] {
        assert_eq!(office.token(token), admitted("ada"));
    }
}

#[test]
fn a_changed_password_takes_the_tokens_with_it() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    refused_with(&office.answer(change(OTHER, "something else again")), ErrorCode::BAD_CREDENTIALS);
    refused_with(&office.answer(change(GOOD, "short")), ErrorCode::WEAK_PASSWORD);
    refused_with(&office.answer(change(GOOD, "qwertyuiop")), ErrorCode::WEAK_PASSWORD);
    assert_eq!(office.token(&token), admitted("ada"), "nothing has changed yet");
    assert_eq!(office.answer(change(GOOD, OTHER)), Answer::Done);
    refused_with(&office.token(&token), ErrorCode::BAD_CREDENTIALS);
    refused_with(&office.login("ada", GOOD), ErrorCode::BAD_CREDENTIALS);
    assert_eq!(office.login("ada", OTHER), admitted("ada"));
}

#[test]
fn a_password_changed_while_another_was_hashed_lets_nobody_in_with_the_old_one() {
    let mut office = Office::with_ada();
    let id = office.send(login("ada", GOOD, address(1), false));
    let stored = office.hasher.hash(OTHER).unwrap();
    office.people.set_password(&name("ada"), &stored, true).unwrap();
    assert!(office.work_once());
    refused_with(&office.answers[&id], ErrorCode::BAD_CREDENTIALS);
}

#[test]
fn an_imported_md5_is_upgraded_at_the_first_login_and_so_is_an_old_hash() {
    let mut office = Office::new(1);
    // `printf 'correct horse battery' | md5sum`
    let wrapped = office.hasher.wrap("88e4ddd2402d92d50e1879d6ecd9ffd4").unwrap();
    office.people.add(&name("ada"), &wrapped, 0).unwrap();
    let old = Hasher::with_cost(32, 1).unwrap().hash(GOOD).unwrap();
    office.people.add(&name("bob"), &old, 0).unwrap();
    let stored = |office: &Office, user| office.people.tables().accounts[user].password.clone().unwrap();
    for user in ["ada", "bob"] {
        let before = stored(&office, user);
        refused_with(&office.login(user, OTHER), ErrorCode::BAD_CREDENTIALS);
        assert_eq!(stored(&office, user), before, "{user}");
        assert_eq!(office.login(user, GOOD), admitted(user));
        let after = stored(&office, user);
        assert!(after != before && !is_wrapped(&after), "{user}: {after}");
        assert_eq!(office.login(user, GOOD), admitted(user));
        assert_eq!(stored(&office, user), after, "once is enough");
    }
}

#[test]
fn of_two_who_register_a_name_at_the_same_time_one_gets_it() {
    let mut office = Office::new(2);
    let ids = [office.send(register("ada", GOOD)), office.send(register("ada", OTHER))];
    while office.work_once() {}
    assert_eq!(office.answers[&ids[0]], admitted("ada"));
    refused_with(&office.answers[&ids[1]], ErrorCode::NAME_TAKEN);
}

#[test]
fn a_broken_disk_is_told_and_is_nobody_s_failure() {
    let mut office = Office::with_ada();
    let token = office.ada_s_token();
    office.people.tables().broken = true;
    for answer in [office.login("ada", GOOD), office.token(&token), office.answer(register("bob", GOOD))] {
        refused_with(&answer, ErrorCode::STORAGE);
    }
    assert_eq!(office.desk.throttle.failures(&name("ada")), 0);
    office.people.tables().broken = false;
    let id = office.send(login("ada", GOOD, address(1), false));
    office.people.tables().broken = true;
    assert!(office.work_once());
    refused_with(&office.answers[&id], ErrorCode::STORAGE);
}

#[test]
fn what_isn_t_an_entry_is_refused() {
    let mut office = Office::with_ada();
    let claim = enter(Some("ada"), Proof::Claim, address(1), false);
    refused_with(&office.answer(claim), ErrorCode::LOGIN_FIRST);
    let nameless = enter(None, Proof::Login { password: text(GOOD) }, address(1), false);
    refused_with(&office.answer(nameless), ErrorCode::MISSING_FIELD);
    refused_with(&office.answer(Order::MaySee { by: name("ada"), users: Vec::new() }), ErrorCode::INTERNAL);
}
