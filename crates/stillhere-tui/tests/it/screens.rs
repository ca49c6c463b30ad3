//! Screens as text.

use stillhere_client::Loss;

use super::stage::*;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use serde_json::json;
use stillhere_client::{Continuity, Event};

fn busy(columns: u16, rows: u16) -> Stage {
    let mut stage = Stage::in_the_lobby(columns, rows);
    stage.message("lobby", 1, "bob", "hello, is anybody still here?");
    stage.message("lobby", 2, "小明", "你好！我在这里。心跳正常，延迟十二毫秒，一切都很好，欢迎来到大厅，请随意聊天。");
    stage.message("lobby", 3, "mallory", "\u{1b}[2Jcleared\u{202e} <b>your</b> screen\u{7}");
    stage.type_line("welcome both");
    stage.answer(json!({"seq": 4, "time_ms": NOW_MS}));
    stage.message("lobby", 5, "bob", "a rather long line that does not fit into one row of any usual terminal, so that it is broken between its words");
    stage.message("annex", 9, "eve", "psst");
    stage.message("annex", 10, "eve", "over here");
    stage.told("bob", 3, "a word in private");
    stage.hear(Event::BeatAnswered { rtt: std::time::Duration::from_micros(12_340), detect: None });
    stage.type_text("typing 宽 words");
    stage
}

/// Compares with the screen that is written down. `STILLHERE_BLESS=1` writes it anew, to be looked at in the diff.
fn check(name: &str, mut stage: Stage) {
    let path = format!("{}/tests/it/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let screen = stage.screen();
    if std::env::var_os("STILLHERE_BLESS").is_some() {
        std::fs::write(&path, &screen).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert!(screen == wanted, "{name} is\n{screen}\nand should be\n{wanted}");
}

#[test]
fn talking_in_wide_usual_and_narrow_windows() {
    for (columns, rows) in [(100, 30), (80, 24), (40, 10), (20, 5)] {
        check(&format!("{columns}x{rows}"), busy(columns, rows));
    }
}

#[test]
fn commands_are_listed_while_one_is_typed() {
    let mut stage = busy(80, 24);
    stage.key_with(KeyCode::Char('u'), KeyModifiers::CONTROL);
    stage.type_text("/");
    check("commands", stage);
}

#[test]
fn help_and_a_resumed_session() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.type_line("/help");
    stage.welcome(Continuity::Resumed);
    check("help", stage);
}

#[test]
fn many_tabs_collapse() {
    let mut stage = busy(40, 10);
    for nth in 0..5 {
        stage.told(&format!("stranger{nth}"), 1, "hi");
    }
    check("tabs", stage);
}

#[test]
fn logging_in_and_a_server_that_is_not_there() {
    check("login", Stage::new(80, 24));
    for (columns, rows) in [(80, 24), (40, 10)] {
        let mut stage = Stage::new(columns, rows);
        stage.hear(Event::Lost(Loss::Unreachable("Connection refused".into())));
        stage.hear(Event::Reconnecting { after: std::time::Duration::from_secs(3) });
        check(&format!("unreachable-{columns}x{rows}"), stage);
    }
    let mut stage = Stage::new(80, 24);
    stage.welcome(Continuity::Fresh);
    stage.key(KeyCode::F(2));
    stage.type_line("小明");
    stage.type_text("secret");
    check("register", stage);
}
