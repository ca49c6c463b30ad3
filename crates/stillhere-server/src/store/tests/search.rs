//! The search: found at once, kept up to date, made again.

use super::*;
use stillhere_core::ledger::Act;

#[test]
fn chinese_of_any_length_is_found_and_what_was_deleted_is_not() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    bed.join("other", "ann");
    for text in ["今天天气很好", "the weather is fine", "明天下雨", "好"] {
        bed.say(stream, "ann", text, None);
    }
    let find = |bed: &mut Bed, query: &str| {
        let (messages, _) = bed.history(history("ann", room("lobby"), Some(query)));
        messages.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
    };
    assert_eq!(find(&mut bed, "天"), [1, 3]);
    assert_eq!(find(&mut bed, "天气"), [1]);
    assert_eq!(find(&mut bed, "天气很好"), [1]);
    assert_eq!(find(&mut bed, "好"), [1, 4]);
    assert_eq!(find(&mut bed, "WEATH"), [2]);
    assert_eq!(find(&mut bed, "sunshine"), [0; 0]);
    let (messages, _) = bed.history(history("ann", room("other"), Some("天")));
    assert_eq!(messages, []);
    bed.ask(Order::Govern { by: name("ann"), room: name("lobby"), act: Act::Delete { seq: 1 } }).unwrap();
    assert_eq!(find(&mut bed, "天"), [3]);
    bed.close();
    // Lost, damaged or another's: it is made again.
    for breakage in ["", "no database at all, but long enough to look like a page"] {
        for file in ["search.db-wal", "search.db-shm"] {
            let _ = std::fs::remove_file(dir.0.join(file));
        }
        std::fs::write(dir.0.join("search.db"), breakage.repeat(100)).unwrap();
        let mut bed = Bed::open(&dir.0, Rules::default());
        assert_eq!(find(&mut bed, "天"), [3]);
        bed.close();
    }
    let other = Dir::new();
    std::fs::copy(dir.0.join("search.db"), other.0.join("search.db")).unwrap();
    let mut bed = Bed::open(&other.0, Rules::default());
    bed.enter("ann");
    bed.join("lobby", "ann");
    assert_eq!(find(&mut bed, "天"), [0; 0]);
    bed.close();
}

#[test]
fn a_conversation_is_searched_by_both_and_by_nobody_else() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    for user in ["ann", "bob", "cid"] {
        bed.enter(user);
    }
    bed.tell("ann", "bob", "the treasure lies north", None);
    for (user, with, count) in [("ann", "bob", 1), ("bob", "ann", 1), ("cid", "ann", 0), ("ann", "cid", 0)] {
        let (found, _) = bed.history(history(user, Place::User(name(with)), Some("treasure")));
        assert_eq!(found.len(), count, "{user} with {with}");
    }
    bed.close();
}

#[test]
fn an_index_of_another_past_is_not_believed() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    bed.say(stream, "ann", "before the backup", None);
    bed.close();
    let backup = std::fs::read(dir.0.join("stillhere.db")).unwrap();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    bed.say(stream, "ann", "lost words", None);
    let (found, _) = bed.history(history("ann", room("lobby"), Some("lost")));
    assert_eq!(found.len(), 1);
    bed.close();
    std::fs::write(dir.0.join("stillhere.db"), backup).unwrap();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    assert_eq!(bed.say(stream, "ann", "other words", None), 2);
    let (found, _) = bed.history(history("ann", room("lobby"), Some("words")));
    assert_eq!(found, [(2, "other words".to_owned())]);
    let (found, _) = bed.history(history("ann", room("lobby"), Some("lost")));
    assert_eq!(found, []);
    bed.close();
}
