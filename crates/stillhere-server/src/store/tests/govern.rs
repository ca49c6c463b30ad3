//! Rights in rooms, as rows and news.

use super::*;
use stillhere_core::ledger::Act;

fn govern(by: &str, act: Act) -> Order {
    Order::Govern { by: name(by), room: name("lobby"), act }
}

fn role(user: &str, role: Role) -> Act {
    Act::Role { user: name(user), role }
}

fn bed(dir: &Dir) -> (Bed, StreamId) {
    let mut bed = Bed::open(&dir.0, Rules::default());
    for user in ["ann", "bob", "cid"] {
        bed.enter(user);
    }
    let stream = bed.join("lobby", "ann").stream;
    bed.join("lobby", "bob");
    bed.join("lobby", "cid");
    (bed, stream)
}

#[test]
fn a_room_keeps_its_last_owner() {
    let dir = Dir::new();
    let (mut bed, _) = bed(&dir);
    assert_eq!(bed.refused(govern("bob", role("cid", Role::Owner))), 1302);
    assert_eq!(bed.refused(govern("ann", role("ann", Role::Member))), 1302);
    bed.ask(govern("ann", role("bob", Role::Owner))).unwrap();
    bed.ask(govern("ann", role("ann", Role::Moderator))).unwrap();
    assert_eq!(bed.join("lobby", "ann").role, Role::Moderator);
    assert_eq!(bed.refused(govern("ann", role("bob", Role::Guest))), 1302);
    assert_eq!(bed.refused(govern("ann", role("nobody", Role::Guest))), 1401);
    assert_eq!(bed.refused(govern("cid", role("nobody", Role::Guest))), 1302, "guests learn of no names");
    bed.close();
}

#[test]
fn who_is_muted_only_listens_until_the_span_is_over_also_after_a_restart() {
    let dir = Dir::new();
    let (mut bed, stream) = bed(&dir);
    let mute = |span| Act::Mute { user: name("cid"), span };
    let hour = Duration::from_secs(3600);
    bed.news(0);
    bed.ask(govern("ann", mute(hour))).unwrap();
    let news = bed.news(0);
    assert!(matches!(&news[0], News::Muted { user, span, .. } if *user == name("cid") && *span == hour), "{news:?}");
    assert!(matches!(&news[1], News::Notice { frame, .. } if body(frame)["for_ms"] == 3_600_000), "{news:?}");
    let say = || Order::Say { stream, user: name("cid"), draft: draft("hi", None) };
    let refused = bed.ask(say()).unwrap_err();
    assert_eq!(refused.refusal.code, 1303);
    assert!(refused.retry.is_some_and(|retry| retry > hour - PATIENCE && retry <= hour));
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules::default());
    assert!(!bed.join("lobby", "cid").muted.is_zero());
    assert_eq!(bed.refused(say()), 1303);
    bed.ask(govern("ann", mute(Duration::ZERO))).unwrap();
    assert_eq!(bed.say(stream, "cid", "hi", None), 1);
    bed.ask(govern("ann", role("bob", Role::Moderator))).unwrap();
    assert_eq!(bed.refused(govern("bob", Act::Mute { user: name("ann"), span: hour })), 1302);
    bed.close();
}

#[test]
fn who_is_removed_and_who_is_not_invited_stay_out() {
    let dir = Dir::new();
    let (mut bed, stream) = bed(&dir);
    bed.news(0);
    let remove = |span| Act::Remove { user: name("cid"), span };
    bed.ask(govern("ann", remove(Duration::from_secs(60)))).unwrap();
    let news = bed.news(0);
    assert!(matches!(&news[..], [News::Removed { user, .. }] if *user == name("cid")), "{news:?}");
    let join = |user: &str| Order::Join { room: name("lobby"), user: name(user) };
    assert_eq!(bed.refused(join("cid")), 1304);
    assert_eq!(bed.refused(Order::Say { stream, user: name("cid"), draft: draft("hi", None) }), 1304);
    bed.ask(govern("ann", remove(Duration::ZERO))).unwrap();
    bed.join("lobby", "cid");
    let set = Act::Set { topic: Some("secrets".into()), public: Some(false), radius: Some(5.0) };
    bed.news(0);
    assert_eq!(bed.refused(govern("cid", set.clone())), 1302);
    bed.ask(govern("ann", set)).unwrap();
    let news = bed.news(0);
    assert!(matches!(&news[0], News::Room { state, .. } if !state.public && state.radius == Some(5.0)), "{news:?}");
    assert!(matches!(&news[1], News::Notice { frame, .. } if body(frame)["topic"] == "secrets"), "{news:?}");
    assert_eq!(bed.refused(join("bob")), 1305);
    bed.ask(govern("ann", Act::Invite { user: name("bob") })).unwrap();
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules::default());
    let joined = bed.join("lobby", "bob");
    assert_eq!((joined.role, &*joined.state.topic, joined.state.radius), (Role::Member, "secrets", Some(5.0)));
    assert_eq!(bed.refused(join("cid")), 1305);
    bed.close();
}

#[test]
fn a_deleted_message_leaves_a_tombstone_and_not_a_byte_of_its_text() {
    let dir = Dir::new();
    let (mut bed, stream) = bed(&dir);
    let long = "unforgettable-words ".repeat(1000);
    bed.say(stream, "cid", &long, None);
    bed.say(stream, "bob", "unforgettable-words", None);
    assert_eq!(bed.refused(govern("bob", Act::Delete { seq: 1 })), 1302);
    assert_eq!(bed.refused(govern("bob", Act::Delete { seq: 7 })), 1302, "which messages there are isn't told");
    assert_eq!(bed.refused(govern("ann", Act::Delete { seq: 7 })), 1403);
    bed.news(0);
    bed.ask(govern("ann", Act::Delete { seq: 1 })).unwrap();
    bed.ask(govern("bob", Act::Delete { seq: 2 })).unwrap();
    let news = bed.news(0);
    assert!(matches!(&news[0], News::Notice { frame, .. } if body(frame)["seq"] == 1), "{news:?}");
    let page = bed.page(stream, 0, 10);
    assert!(page.messages.iter().all(|(_, frame)| body(frame)["deleted"] == true));
    bed.close();
    let file = std::fs::read(dir.0.join("stillhere.db")).unwrap();
    let needle = b"unforgettable-words";
    assert!(!file.windows(needle.len()).any(|window| window == needle), "the text is still in the file");
}
