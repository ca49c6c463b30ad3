use serde_json::json;

use super::*;
use crate::attack::stand::{self, Stand};

/// Long enough for anything that comes.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn answers_are_told_from_pushes_and_codes_are_counted() {
    let stand = Stand::new(stand::record).await;
    stand.answers(vec![
        stand::frame(&json!({ "op": "presence", "user": "error" })),
        stand::frame(&json!({ "op": "error", "code": 1203 })),
        stand::frame(&json!({ "op": "ok" })),
        stand::frame(&json!({ "op": "bye", "code": 4006 })),
    ]);
    let mut link = stand.ground("garbage").connect().await.unwrap();
    assert!(link.send(b"x").await);
    assert!(link.answered(2, LONG).await);
    assert!(matches!(link.hear(LONG).await, Heard::Frame(body) if body.starts_with(b"{\"op\":\"bye\"")));
    let counts = stand.counts();
    assert_eq!((counts.answered, link.answers()), (2, 2));
    assert_eq!((counts.errors, counts.closes), ([(1203, 1)].into(), [(4006, 1)].into()));
}

#[tokio::test]
async fn a_length_that_nobody_believes_is_no_end() {
    let stand = Stand::new(stand::record).await;
    stand.answers(vec![b"\x7f\xff\xff\xffx".to_vec()]);
    let mut link = stand.ground("garbage").connect().await.unwrap();
    assert!(link.send(b"x").await);
    assert_eq!(link.hear(LONG).await, Heard::Frame(b"\x7f\xff\xff\xffx".to_vec()));
    assert!(!link.wait_end(Duration::from_millis(1)).await);
    assert_eq!(stand.counts().ended, 0);
    stand.end_all();
    assert!(link.wait_end(LONG).await && link.has_ended());
    link.end();
    drop(link);
    assert_eq!((stand.counts().ended, stand.counts().open), (1, 0));
}

#[tokio::test]
async fn a_target_that_never_reads_holds_nobody_beyond_the_time() {
    let stand = Stand::new(stand::ignore).await;
    let mut link = stand.ground("garbage").connect().await.unwrap();
    let end = Instant::now() + Duration::from_millis(50);
    while link.pour(&[b'x'; 64 * 1024], end).await {}
    assert!(Instant::now() >= end && !link.has_ended());
    link.overdue();
    link.overdue();
    assert_eq!((stand.counts().overdue, stand.counts().open), (1, 1));
    link.reset();
    assert_eq!((stand.counts().overdue, stand.counts().open, stand.counts().ended), (0, 0, 0));
}

#[tokio::test]
async fn what_a_target_says_before_it_ends_is_heard_by_who_only_sends() {
    let stand = Stand::new(stand::speak_v1).await;
    let mut link = stand.ground("garbage").connect().await.unwrap();
    let mut bytes = stand::frame(&json!({ "op": "hello" }));
    bytes.extend(stand::frame(&json!({ "op": "beat" })).repeat(1000));
    bytes.extend(stand::frame(&json!({ "op": "bye" })));
    let end = Instant::now() + LONG;
    while link.pour(&bytes, end).await {}
    assert!(link.has_ended());
    assert!(stand.counts().answered > 0, "{:?}", stand.counts());
    link.overdue();
    assert_eq!((stand.counts().overdue, stand.counts().ended), (0, 1));
}

#[tokio::test]
async fn long_fillers_are_sent_to_the_byte() {
    let stand = Stand::new(stand::record).await;
    let mut link = stand.ground("garbage").connect().await.unwrap();
    assert!(link.fill(0).await && link.fill(3 * READ_BYTES + 5).await);
    stand.heard(|links| links.first().is_some_and(|link| link.bytes.len() == 3 * READ_BYTES + 5)).await;
    assert_eq!(stand.counts().sent_bytes as usize, 3 * READ_BYTES + 5);
}

#[test]
fn a_target_with_ever_new_codes_fills_nothing() {
    let mut codes = BTreeMap::from([(7, 1)]);
    (1000..2000).for_each(|code| count_code(&mut codes, code));
    count_code(&mut codes, 7);
    assert_eq!((codes.len(), codes[&7], codes.values().sum::<u64>()), (CODES_MAX + 1, 2, 1002));
}
