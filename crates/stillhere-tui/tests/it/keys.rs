//! What typing does.

use ratatui::crossterm::event::{Event as Input, KeyCode, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use serde_json::{Value, json};
use stillhere_client::{Continuity, Event, Failed, Recovery, Refused, Ticket};
use stillhere_tui::model::tab::Kind;
use stillhere_tui::model::{End, Link};

use super::stage::{NOW_MS, Stage};

/// Types a line in the lobby and looks at what is asked.
fn check(typed: &str, asked: &[Value]) {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.type_line(typed);
    assert_eq!(stage.server.asked, asked, "{typed}");
}

#[test]
fn every_command_asks_for_what_it_says() {
    check("hello", &[json!({"op": "say", "room": "lobby", "text": "hello"})]);
    check("//slash", &[json!({"op": "say", "room": "lobby", "text": "/slash"})]);
    check("/me waves", &[json!({"op": "say", "room": "lobby", "text": "* waves"})]);
    check("/join annex", &[json!({"op": "join", "room": "annex"})]);
    check("/part", &[json!({"op": "part", "room": "lobby"})]);
    check("/who", &[json!({"op": "who", "room": "lobby"})]);
    check("/who bob", &[json!({"op": "who", "user": "bob"})]);
    check(
        "/tell bob are you there?",
        &[
            json!({"op": "history", "user": "bob", "limit": 50}),
            json!({"op": "watch", "users": ["bob"]}),
            json!({"op": "tell", "user": "bob", "text": "are you there?"}),
        ],
    );
    check("/leave", &[json!("leave")]);
    check("/back", &[json!("back")]);
    check("/search 心跳", &[json!({"op": "history", "room": "lobby", "limit": 50, "query": "心跳"})]);
    check("/topic all that beats", &[json!({"op": "room", "room": "lobby", "topic": "all that beats"})]);
    check("/invite bob", &[json!({"op": "invite", "room": "lobby", "user": "bob"})]);
    check("/mute bob 2h", &[json!({"op": "mute", "room": "lobby", "user": "bob", "for_ms": 7_200_000})]);
    check("/mute bob soon", &[]);
    check("/remove bob", &[json!({"op": "remove", "room": "lobby", "user": "bob", "for_ms": 0})]);
    check("/delete 17", &[json!({"op": "delete", "room": "lobby", "seq": 17})]);
    check("/block bob", &[json!({"op": "block", "user": "bob"})]);
    check("/help", &[]);
    check("/join", &[]);
    check("/nonsense", &[]);
    check("   ", &[]);
}

#[test]
fn logging_in_says_what_is_wrong_and_where_to_go() {
    let mut stage = Stage::new(80, 24);
    stage.type_line("ada");
    stage.type_line("secret");
    assert!(stage.screen().contains("no connection yet"), "{}", stage.screen());
    stage.welcome(Continuity::Fresh);
    stage.key(KeyCode::Enter);
    assert_eq!(stage.server.asked, [json!({"op": "login", "user": "ada", "password": "secret"})]);
    let refused = |code| {
        let (name, message) = (String::new(), "a \u{1b}message".to_owned());
        Err(Box::new(Failed::Refused(Refused { code, name, message, temporary: false, retry: None })))
    };
    stage.hear(Event::Replied { ticket: Ticket(1), result: refused(1105) });
    assert!(stage.screen().contains("F2 makes a new account instead"));
    assert!(!stage.screen().contains("secret"), "a password is never drawn");
    stage.key(KeyCode::F(2));
    stage.type_line("short");
    assert!(stage.screen().contains("at least 8 characters; this one has 5"), "{}", stage.screen());
    stage.type_line(" but longer");
    assert_eq!(stage.server.asked[1]["op"], "register");
    stage.hear(Event::Replied { ticket: Ticket(2), result: refused(1203) });
    assert!(stage.screen().contains(r"a \u{1b}message"), "{}", stage.screen());
    stage.key(KeyCode::Enter);
    stage.hear(Event::Replied { ticket: Ticket(3), result: refused(1101) });
    assert_eq!(stage.app.claim.as_deref(), Some("ada"), "where names are claims it says hello with one");
}

#[test]
fn what_one_says_is_seen_at_once_and_stands_where_the_server_put_it() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.type_line("mine");
    stage.message("lobby", 1, "bob", "before");
    stage.message("lobby", 3, "bob", "after");
    let texts = |stage: &mut Stage| stage.app.tab().lines.iter().map(|line| line.text.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(&mut stage)[..], ["before", "after", "mine"]);
    stage.answer(json!({"seq": 2, "time_ms": NOW_MS}));
    assert_eq!(texts(&mut stage), ["before", "mine", "after"]);
    stage.message("lobby", 2, "ada", "mine");
    assert_eq!(texts(&mut stage).len(), 3, "history brings it once more");
    stage.type_line("unheard");
    let ticket = Ticket(stage.server.tickets);
    stage.hear(Event::Replied { ticket, result: Err(Box::new(Failed::Expired)) });
    assert!(
        stage.screen().contains("✗ ada") && stage.screen().contains("not said: no answer came in time"),
        "{}",
        stage.screen()
    );
}

#[test]
fn unread_messages_are_counted_until_one_looks() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.message("annex", 1, "bob", "one");
    stage.message("annex", 2, "bob", "two");
    assert!(stage.screen().contains(" annex 2"));
    let (row, from, ..) = stage.app.areas.tabs[2];
    let click = MouseEvent {
        kind: MouseEventKind::Down(MouseButton::Left),
        column: from + 1,
        row,
        modifiers: KeyModifiers::NONE,
    };
    assert!(stage.app.input(&Input::Mouse(click), &mut stage.server));
    assert_eq!((stage.app.active, stage.app.tab().unread), (2, 0));
    stage.key(KeyCode::Tab);
    assert_eq!(stage.app.active, 0, "behind the last comes the first");
    stage.key_with(KeyCode::Char('2'), KeyModifiers::ALT);
    assert_eq!(stage.app.tab().name, "lobby");
}

#[test]
fn names_and_commands_are_completed() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.type_text("hi E");
    stage.key(KeyCode::Tab);
    assert_eq!(stage.app.input.text(), "hi eve ");
    stage.key_with(KeyCode::Char('u'), KeyModifiers::CONTROL);
    stage.type_text("/b");
    for wanted in ["/back ", "/block ", "/back "] {
        stage.key(KeyCode::Tab);
        assert_eq!(stage.app.input.text(), wanted);
    }
}

#[test]
fn a_search_shows_what_it_found_and_enter_goes_there() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.message("lobby", 900, "bob", "newest");
    stage.type_line("/search beat");
    let found = |seq: u64| json!({"seq": seq, "from": "bob", "text": format!("beat {seq}"), "time_ms": NOW_MS});
    stage.answer(json!({"messages": [found(17), found(400)]}));
    assert!(matches!(stage.app.tab().kind, Kind::Found(_)));
    assert!(stage.screen().contains("#17"), "{}", stage.screen());
    stage.key(KeyCode::Up);
    stage.key(KeyCode::Enter);
    assert_eq!(stage.server.asked.last().unwrap()["before"], 42);
    stage.answer(json!({"messages": [found(16), found(17), found(18)]}));
    assert_eq!(stage.app.tab().name, "lobby");
    assert!(stage.screen().contains("beat 17"), "{}", stage.screen());
}

#[test]
fn scrolling_to_the_top_fetches_what_was_before_and_stays_where_one_reads() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.app.tab().has_older = true;
    (100..150).for_each(|seq| stage.message("lobby", seq, "bob", &format!("line {seq}")));
    stage.screen();
    stage.server.asked.clear();
    (0..3).for_each(|_| stage.key(KeyCode::PageUp));
    assert!(stage.screen().contains("line 100"), "{}", stage.screen());
    assert_eq!(stage.server.asked, [json!({"op": "history", "room": "lobby", "before": 100, "limit": 50})], "once");
    let older = |seq: u64| json!({"seq": seq, "from": "bob", "text": format!("line {seq}"), "time_ms": NOW_MS});
    let before = stage.screen();
    stage.answer(json!({"messages": (50..100).map(older).collect::<Vec<_>>(), "more": false}));
    assert_eq!(stage.screen().lines().nth(5), before.lines().nth(5), "what was seen is still seen");
    stage.message("lobby", 150, "bob", "new");
    assert_eq!(stage.screen().lines().nth(5), before.lines().nth(5), "also when more is said");
    stage.key(KeyCode::PageUp);
    assert!(stage.screen().contains("line 85"), "{}", stage.screen());
    stage.key(KeyCode::End);
    assert!(stage.screen().contains("new"));
}

#[test]
fn reconnecting_is_seen_and_so_is_what_was_missed() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.hear(Event::Lost(stillhere_client::Loss::Zombie));
    stage.hear(Event::Reconnecting { after: std::time::Duration::from_secs(4) });
    assert!(stage.screen().contains("nothing heard for 2.5 intervals; trying again in 4 s"), "{}", stage.screen());
    stage.welcome(Continuity::Resumed);
    assert!(stage.screen().contains("reconnected, nothing missed"));
    stage.welcome(Continuity::Broken { reason: "gap".to_owned() });
    let reply = r#"{"op":"ok","re":-2,"room":"lobby","head":8,"topic":"t"}"#.into();
    stage.hear(Event::Recovery(Box::new(Recovery::Rejoined { room: "lobby".into(), after: 5, reply })));
    assert!(stage.screen().contains("reconnected, 3 messages fetched"), "{}", stage.screen());
    stage.app.tick(NOW_MS + 60_000, &mut stage.server);
    assert!(!stage.screen().contains("fetched"), "it passes");
    stage.hear(Event::Closed { code: 4504, reason: "kicked\u{1b}".into() });
    stage.hear(Event::Stopped(stillhere_client::Stop::Told(4504)));
    assert_eq!(stage.app.end, Some(End::Told(r"closed by the server: kicked\u{1b} (4504)".to_owned())));
    assert!(matches!(stage.app.link, Link::Down { .. }));
}

#[test]
fn a_roster_follows_presence_and_drops_what_is_late() {
    let mut stage = Stage::in_the_lobby(80, 24);
    let presence = |status: &str, version: u64| json!({"room": "lobby", "user": "bob", "status": status, "cause": "lossy", "since_ms": NOW_MS, "gen": 1, "ver": version});
    stage.presence(presence("alive", 3));
    stage.presence(presence("leave", 2));
    assert!(stage.screen().contains("● bob"), "{}", stage.screen());
    stage.presence(presence("close", 4));
    assert!(!stage.screen().contains("bob"), "{}", stage.screen());
}

#[test]
fn what_is_read_is_told_once_in_a_while() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.message("lobby", 7, "bob", "x");
    stage.app.tick(NOW_MS + 2000, &mut stage.server);
    stage.app.tick(NOW_MS + 9000, &mut stage.server);
    assert_eq!(stage.server.asked, [json!({"op": "read", "room": "lobby", "seq": 7})]);
}
