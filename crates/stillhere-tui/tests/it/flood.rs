//! Too much of everything.

use ratatui::crossterm::event::{Event as Input, KeyCode};
use serde_json::json;
use stillhere_tui::model::TABS_MAX;
use stillhere_tui::model::tab::{LINES_MAX, LINES_READING_MAX, TAB_BYTES_MAX};

use super::stage::{NOW_MS, Stage};

fn kept(stage: &mut Stage) -> (usize, usize) {
    let tab = stage.app.tab();
    (tab.lines.len(), tab.lines.iter().map(|line| line.text.len()).sum())
}

#[test]
fn a_flood_of_messages_is_kept_within_bounds_and_typing_goes_on() {
    let mut stage = Stage::in_the_lobby(80, 24);
    for seq in 1..=30_000 {
        stage.message("lobby", seq, "flood", &format!("message {seq}"));
        if seq % 5000 == 0 {
            stage.type_text("x");
            stage.screen();
        }
    }
    assert_eq!((kept(&mut stage).0, stage.app.input.text()), (LINES_MAX, "xxxxxx"));
    assert!(stage.app.tab().has_older, "older ones can be fetched again");
    assert!(stage.screen().contains("message 30000"));
}

#[test]
fn who_reads_above_isn_t_moved_by_a_flood_until_the_bound() {
    let mut stage = Stage::in_the_lobby(80, 24);
    (1..=100).for_each(|seq| stage.message("lobby", seq, "a", &format!("old {seq}")));
    stage.screen();
    stage.key(KeyCode::PageUp);
    let before: Vec<String> = stage.screen().lines().skip(1).take(20).map(str::to_owned).collect();
    (101..=3000).for_each(|seq| stage.message("lobby", seq, "a", "flood"));
    let after: Vec<String> = stage.screen().lines().skip(1).take(20).map(str::to_owned).collect();
    assert_eq!(before, after);
    (3001..=30_000).for_each(|seq| stage.message("lobby", seq, "a", "flood"));
    assert_eq!(kept(&mut stage).0, LINES_READING_MAX);
    stage.screen();
    stage.key(KeyCode::End);
    assert_eq!(kept(&mut stage).0, LINES_MAX);
}

#[test]
fn long_and_hostile_lines_are_clipped_and_stay_inside_the_screen() {
    for hostile in ["\u{1b}]0;x\u{7}", "\u{202e}", "宽", "e\u{301}\u{301}\u{301}\u{301}", "\n", "\u{200d}👩", "a"] {
        let mut stage = Stage::in_the_lobby(80, 24);
        let text = hostile.repeat(65_536 / hostile.len());
        (1..=600).for_each(|seq| stage.message("lobby", seq, &text, &text));
        let (_, bytes) = kept(&mut stage);
        assert!(bytes <= TAB_BYTES_MAX, "{hostile:?}: {bytes}");
        let screen = stage.screen();
        assert!(!screen.chars().any(|char| char != '\n' && (char.is_control() || "\u{202e}\u{200d}".contains(char))));
        assert!(screen.contains("4 here, 2 alive"), "{hostile:?}: the roster is where it was:\n{screen}");
        stage.key(KeyCode::PageUp);
        stage.screen();
    }
}

#[test]
fn tabs_are_bounded_and_strangers_can_t_push_rooms_out() {
    let mut stage = Stage::in_the_lobby(80, 24);
    (0..500).for_each(|nth| stage.told(&format!("stranger{nth}"), 1, "hi"));
    assert!(stage.app.tabs.len() <= TABS_MAX);
    assert!(stage.app.tabs.iter().any(|tab| tab.name == "lobby"));
    stage.screen();
}

#[test]
fn a_large_room_shows_numbers() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.type_line("/join plaza");
    stage.answer(json!({"room": "plaza", "head": 9, "members": 5000, "alive": 4000}));
    assert!(stage.screen().contains("5000 here, 4000 alive"), "{}", stage.screen());
    for nth in 0..5000 {
        let user = format!("u{nth}");
        stage.presence(
            json!({"room": "plaza", "user": user, "status": "alive", "since_ms": NOW_MS, "gen": 1, "ver": 1}),
        );
    }
    assert!(stage.app.tab().roster.len() <= 500);
}

#[test]
fn a_paste_is_bounded() {
    let mut stage = Stage::in_the_lobby(80, 24);
    stage.app.input(&Input::Paste("\u{1b}[31m宽\n".repeat(100_000)), &mut stage.server);
    assert!(stage.app.input.text().len() <= 16 * 1024);
    stage.screen();
}

#[test]
fn any_size_of_window_can_be_drawn() {
    for columns in (1..130).step_by(3) {
        for rows in (1..40).step_by(2) {
            let mut stage = Stage::in_the_lobby(columns, rows);
            stage.message("lobby", 1, "小明", "你好 and words");
            stage.type_text("/宽");
            stage.screen();
            stage.key(KeyCode::PageUp);
            Stage::new(columns, rows).screen();
        }
    }
}
