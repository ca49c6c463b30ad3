//! The file: older, newer, damaged, visited.

use rusqlite::Connection;
use stillhere_core::close::CloseCode;

use super::super::people::{self, Ban, BanKind};
use super::super::salvage;
use super::super::schema;
use super::super::sqlite::Database;
use super::*;

fn refusal(dir: &Dir) -> String {
    format!("{:#}", Database::open(&dir.0.join("stillhere.db")).err().expect("it is refused"))
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date_with_its_sessions() {
    let dir = Dir::new();
    let path = dir.0.join("stillhere.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(&format!("{} PRAGMA user_version = 1;", schema::STEPS[0])).unwrap();
    old.execute(
        "INSERT INTO session VALUES (zeroblob(16), zeroblob(32), NULL, 3, 'ann', NULL, 10000, 0, ?1)",
        [super::super::wall_ms() as i64],
    )
    .unwrap();
    drop(old);
    let mut bed = Bed::open(&dir.0, Rules::default());
    assert_eq!(bed.store.survivors.len(), 1);
    bed.enter("ann");
    bed.join("lobby", "ann");
    bed.close();
    let db = Connection::open(&path).unwrap();
    assert_eq!(db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), schema::VERSION);
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let dir = Dir::new();
    drop(Database::open(&dir.0.join("stillhere.db")).unwrap());
    let newer = Connection::open(dir.0.join("stillhere.db")).unwrap();
    newer.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(newer);
    let before = std::fs::read(dir.0.join("stillhere.db")).unwrap();
    let told = refusal(&dir);
    assert!(told.contains("newer stillhere") && told.contains("backup"), "{told}");
    assert_eq!(std::fs::read(dir.0.join("stillhere.db")).unwrap(), before);
}

#[test]
fn a_damaged_file_is_refused_with_the_command_that_repairs_it_and_kept() {
    let dir = Dir::new();
    let path = dir.0.join("stillhere.db");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    let told = refusal(&dir);
    let command = format!("stillhere repair --data-dir '{}'", dir.0.display());
    assert!(told.contains(&command), "{told}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![0x5a; 8192], "it was left as it is");
    // Damage in the middle of one that was fine.
    std::fs::remove_file(&path).unwrap();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    for _ in 0..200 {
        bed.say(stream, "ann", &"x".repeat(500), None);
    }
    bed.close();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    let told = refusal(&dir);
    assert!(told.contains("is damaged") && told.contains(&command), "{told}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was left as it is");
    // Only what stood on that page is lost.
    let saved = salvage::repair(&dir.0).unwrap();
    assert_eq!(std::fs::read(saved.kept.join("stillhere.db")).unwrap(), bytes, "it is kept");
    let (_, rows, is_partial) = saved.tables.iter().find(|(table, ..)| *table == "message").unwrap();
    assert!(*is_partial && (180..200).contains(rows), "{saved:?}");
    let mut bed = Bed::open(&dir.0, Rules::default());
    let joined = bed.join("lobby", "ann");
    assert_eq!((joined.stream, joined.head, joined.role), (stream, 200, Role::Owner));
    assert_eq!(bed.say(stream, "ann", "saved", None), 201);
    assert!(bed.page(stream, 100, 512).messages.iter().any(|(seq, _)| *seq == 150));
    bed.close();
}

#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    bed.join("lobby", "ann");
    let _ = bed.history(history("ann", room("lobby"), Some("x")));
    for entry in std::fs::read_dir(&dir.0).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    bed.close();
}

/// Runs `act` on the store's thread and returns what it made, once that is committed.
fn visit<T: Send + 'static>(bed: &Bed, act: impl FnOnce(&mut super::super::Desk<'_>) -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    bed.store.ledger.ask(Box::new(move |desk| {
        let made = act(desk);
        desk.then(move |committed| {
            assert!(committed);
            sender.send(made).unwrap();
        });
    }));
    receiver.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn who_is_disabled_banned_or_deleted_is_put_out_and_stays_out() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    for user in ["ann", "bob", "cid"] {
        bed.enter(user);
    }
    let stream = bed.join("lobby", "ann").stream;
    bed.join("lobby", "bob");
    bed.say(stream, "bob", "words of bob", None);
    bed.tell("bob", "ann", "more words of bob", None);
    bed.news(0);
    assert!(visit(&bed, |desk| desk.set_disabled(&name("ann"), true).unwrap()));
    assert!(!visit(&bed, |desk| desk.set_disabled(&name("nobody"), true).unwrap()));
    let news = bed.news(0);
    assert!(matches!(&news[..], [News::Ended { user, code: CloseCode::Disabled }] if *user == name("ann")), "{news:?}");
    let refused = bed.ask(claim("ann")).unwrap_err();
    assert_eq!((refused.refusal.code, refused.close), (1110, Some(CloseCode::Disabled)));
    assert_eq!(bed.refused(Order::Say { stream, user: name("ann"), draft: draft("hi", None) }), 1110);
    visit(&bed, |desk| desk.set_disabled(&name("ann"), false).unwrap());
    bed.enter("ann");

    let ban = |kind, subject: &str, until_ms| Ban {
        kind,
        subject: subject.to_owned(),
        until_ms,
        reason: "a test".to_owned(),
        created_ms: 1,
    };
    let later = super::super::wall_ms() + 60_000;
    let user_ban = ban(BanKind::User, "cid", Some(later));
    visit(&bed, move |desk| desk.ban(&user_ban).unwrap());
    let refused = bed.ask(claim("cid")).unwrap_err();
    assert_eq!((refused.refusal.code, refused.close), (1111, Some(CloseCode::Banned)));
    assert!(refused.retry.is_some_and(|retry| retry <= Duration::from_secs(60)));
    let address_ban = ban(BanKind::Address, "127.0.0.1", None);
    visit(&bed, move |desk| desk.ban(&address_ban).unwrap());
    assert_eq!(bed.ask(claim("dan")).unwrap_err().retry, None);
    assert!(visit(&bed, |desk| {
        let now_ms = desk.now_ms();
        assert_eq!(desk.people(|db| people::list_bans(db, now_ms)).unwrap().len(), 2);
        desk.people(|db| people::remove_ban(db, BanKind::Address, "127.0.0.1")).unwrap()
    }));
    bed.enter("dan");

    assert!(visit(&bed, |desk| desk.delete_user(&name("bob"), false).unwrap()));
    assert_eq!(bed.refused(claim("bob")), 1106, "the name rests");
    let message = body(&bed.page(stream, 0, 1).messages[0].1);
    assert_eq!((&message["from"], &message["text"]), (&"deleted".into(), &"words of bob".into()));
    assert_eq!(bed.refused(claim("deleted")), 1106, "nobody is called so");
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1401);
    bed.close();
}

#[test]
fn accounts_tokens_and_the_audit_log_are_bounded_and_expire() {
    let dir = Dir::new();
    let bed = Bed::open(&dir.0, Rules::default());
    visit(&bed, |desk| {
        let now_ms = desk.now_ms();
        let id = desk.change_people(|db| people::add_user(db, &name("ann"), Some("phc"), None, now_ms)).unwrap();
        let id = id.expect("the name is free");
        assert_eq!(desk.change_people(|db| people::add_user(db, &name("ann"), None, None, now_ms)).unwrap(), None);
        desk.people(|db| {
            for number in 0..40_u8 {
                people::add_token(db, &[number; 32], id, now_ms + u64::from(number), now_ms + 1000)?;
            }
            assert!(people::find_token(db, &[23; 32], now_ms)?.is_none(), "the oldest have gone");
            assert_eq!(people::find_token(db, &[24; 32], now_ms)?.map(|user| user.id), Some(id));
            assert!(people::find_token(db, &[24; 32], now_ms + 1000)?.is_none(), "it has expired");
            people::set_password(db, id, "next", true)?;
            assert!(people::find_token(db, &[24; 32], now_ms)?.is_none(), "a new password ends them");
            let user = people::get_user(db, &name("ann"))?.unwrap();
            assert_eq!((user.password.as_deref(), user.account), (Some("next"), true));
            assert!(!format!("{user:?}").contains("next"), "no hash is shown");
            for number in 0..5 {
                people::audit(db, now_ms, "operator", "kick", &format!("user{number}"), "")?;
            }
            let newest = people::list_audit(db, None, 2)?;
            assert_eq!(newest.iter().map(|row| &*row.subject).collect::<Vec<_>>(), ["user4", "user3"]);
            assert_eq!(people::list_audit(db, Some(newest[1].id), 10)?.len(), 3);
            assert_eq!(people::list_users(db, "nn", None, 10)?.len(), 1);
            Ok(())
        })
        .unwrap();
    });
    bed.close();
}

#[test]
fn a_visit_that_fails_leaves_nothing_behind() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let (sender, receiver) = channel();
    bed.store.ledger.ask(Box::new(move |desk| {
        assert!(desk.make_room(&name("secret"), Some(&name("ann"))).unwrap());
        desk.end_sessions(&name("ann"), CloseCode::Kicked);
        desk.abandon("it was a mistake");
        desk.then(move |committed| sender.send(committed).unwrap());
    }));
    assert!(!receiver.recv_timeout(PATIENCE).unwrap());
    assert_eq!(bed.news(0).len(), 0);
    assert_eq!(visit(&bed, |desk| desk.rooms(None, 10).unwrap().len()), 0);
    assert!(visit(&bed, |desk| desk.make_room(&name("real"), Some(&name("ann"))).unwrap()));
    let stream = bed.join("real", "ann").stream;
    bed.say(stream, "ann", "hello", None);
    let rooms = visit(&bed, |desk| desk.rooms(None, 10).unwrap());
    assert_eq!((rooms[0].owner.as_ref(), rooms[0].messages), (Some(&name("ann")), 1));
    assert!(visit(&bed, |desk| desk.delete_room(&name("real")).unwrap()));
    assert_eq!(bed.refused(Order::Say { stream, user: name("ann"), draft: draft("hi", None) }), 1402);
    assert_ne!(bed.join("real", "ann").stream, stream, "a new room of the same name is another");
    bed.close();
}

#[test]
fn passwords_go_to_the_accounts_and_come_back_as_users() {
    let dir = Dir::new();
    let (sender, doors) = channel();
    let taker: Doors = Box::new(move |shard, id, order| sender.send((shard, id, order)).unwrap());
    let mut bed = Bed::with_doors(&dir.0, Rules::default(), taker);
    let Order::Enter { user, address, remember, .. } = claim("ann") else { unreachable!() };
    let proof = Proof::Register { password: "correct horse".into() };
    let id = bed.send(0, Order::Enter { user, proof, address, remember });
    let (shard, known, order) = doors.recv_timeout(PATIENCE).unwrap();
    assert_eq!((shard, known), (0, id));
    assert!(matches!(order, Order::Enter { proof: Proof::Register { .. }, .. }));
    visit(&bed, |desk| {
        let now_ms = desk.now_ms();
        desk.change_people(|db| people::add_user(db, &name("ann"), Some("phc"), None, now_ms)).unwrap();
    });
    bed.store.ledger.admit(shard, known, name("ann"), true, Some("token".into()));
    match bed.wait(0, id) {
        Ok(Outcome::Entered { user, verified: true, token: Some(token), .. }) => {
            assert_eq!((user, &*token), (name("ann"), "token"));
        }
        other => panic!("{other:?}"),
    }
    // A session that proves it by its secret is the account.
    let Ok(Outcome::Entered { verified, .. }) = bed.ask(claim("ann")) else { panic!() };
    assert!(verified);
    let id = OrderId(77);
    bed.store.ledger.answer(0, id, Err(super::super::ledger::refuse(stillhere_core::wire::error::ErrorCode::BUSY)));
    assert_eq!(bed.wait(0, id).unwrap_err().refusal.code, 1202);
    bed.close();
}
