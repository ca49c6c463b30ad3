use rand::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::fake::run;
use super::*;
use crate::frame::Framing;
use crate::plan;

fn ground(listener: &TcpListener) -> Rc<Ground> {
    let (size, interval) = (20_000, Duration::from_secs(1));
    let plan = plan::Attack { name: "ws-abuse".to_owned(), count: 1, rate: None, size, interval };
    Ground::new(listener.local_addr().unwrap(), plan, Framing::STILLHERE, 1, std::sync::Arc::default(), Rc::default())
}

/// What an attacker puts on the wire that does the thing of this number, when the server answers so and closes.
async fn said(nth: usize, answer: &[u8]) -> (Vec<u8>, AttackSecond) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ground = ground(&listener);
    let link = ground.connect().await.unwrap();
    let mut talk = Talk { ground: ground.clone(), link, ear: Ear::default() };
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let life = tokio::task::spawn_local(async move { talk.be_wrong(nth, &mut rng).await });
    let mut bytes = Vec::new();
    read_all(&mut stream, &mut bytes).await;
    stream.write_all(answer).await.unwrap();
    drop(stream);
    life.await.unwrap();
    let counts = ground.count().clone();
    (bytes, counts)
}

/// Reads until nothing more comes for a moment.
async fn read_all(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let moment = Duration::from_millis(50);
    while let Ok(Ok(1..)) = tokio::time::timeout(moment, stream.read_buf(bytes)).await {}
}

#[test]
fn every_head_is_sent_with_what_is_wrong_with_it_and_its_status_is_counted() {
    run(async {
        let mut heads = std::collections::BTreeSet::new();
        for (nth, head) in HEADS.iter().enumerate() {
            let (bytes, counts) = said(nth, b"HTTP/1.1 431 No\r\nConnection: close\r\n\r\nno\n").await;
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.starts_with(&head.begin.replace("BYTES", &"b".repeat(20_000))), "{text:.80}");
            assert!(head.without.is_empty() || text.matches(head.without).count() <= 1, "{text}");
            assert_eq!(
                text.contains(&"b".repeat(20_000)),
                head.begin.contains("BYTES") || head.besides.contains("BYTES")
            );
            assert_eq!((counts.errors.get(&431), counts.ended), (Some(&1), 1), "{text:.80}");
            assert!(heads.insert(text.clone()), "twice: {text:.80}");
        }
        let smuggled = heads.iter().find(|head| head.contains("chunked")).unwrap();
        assert_eq!(smuggled.matches("GET /ws").count(), 2);
    });
}

#[test]
fn every_frame_follows_a_right_request_and_its_close_code_is_counted() {
    run(async {
        let answer = b"HTTP/1.1 101 Yes\r\n\r\n\x81\x02{}\x88\x04\x0f\xa2no";
        for (nth, (hello, _)) in FRAMES.iter().enumerate() {
            let (bytes, counts) = said(HEADS.len() + nth, answer).await;
            let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
            let (head, mut frames) = bytes.split_at(end);
            assert!(RIGHT[1..].iter().all(|line| str::from_utf8(head).unwrap().contains(line)));
            if *hello {
                assert_eq!((frames[0], frames[1]), (0x81, 0x80 | HELLO.len() as u8));
                let unmasked: Vec<u8> = (0..HELLO.len()).map(|at| frames[6 + at] ^ frames[2 + at % 4]).collect();
                assert_eq!(unmasked, HELLO);
                frames = &frames[6 + HELLO.len()..];
            }
            assert!(frames.len() >= 4, "{nth}: {frames:?}");
            assert_eq!((counts.answered, counts.closes.get(&4002), counts.ended), (1, Some(&1), 1), "{nth}");
        }
    });
}

#[test]
fn pings_are_sent_in_bulk_while_what_comes_is_read() {
    run(async {
        let (bytes, counts) = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let ground = ground(&listener);
            let life = tokio::task::spawn_local(attacker(ground.clone(), (HEADS.len() + FRAMES.len()) as u32));
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 1 << 20];
            stream.read_exact(&mut bytes).await.unwrap();
            // Pongs without end are read, too, or this would never end.
            let pongs = [b"HTTP/1.1 101 Yes\r\n\r\n".to_vec(), [0x8a, 0x00].repeat(1 << 20)].concat();
            let (mut reader, mut writer) = stream.split();
            let drain = async { while let Ok(1..) = reader.read(&mut [0; 65_536]).await {} };
            let heard = async {
                writer.write_all(&pongs).await.unwrap();
                while ground.count().received_bytes < pongs.len() as u64 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = heard => {}
                () = drain => panic!("it ended"),
            }
            life.abort();
            (bytes, ground.count().clone())
        };
        let pings = bytes.windows(2).filter(|pair| *pair == [0x89, 0x80 | 125]).count();
        assert!(pings > 7_000, "{pings}");
        assert_eq!(counts.answered, 1);
    });
}

#[test]
fn an_ear_understands_answers_that_come_byte_by_byte_and_keeps_little() {
    let mut counts = AttackSecond::default();
    let mut ear = Ear::default();
    let long = [&[0x81, 126, 0x30, 0x00][..], &[0x88; 0x3000]].concat();
    let all = [b"HTTP/1.1 101 Yes\r\nA: b\r\n\r\n".to_vec(), long, vec![0x8a, 0], vec![0x88, 2, 0x0f, 0xa2]].concat();
    for byte in &all {
        ear.hear(&[*byte], &mut counts);
        assert!(ear.kept.len() <= 64);
    }
    assert_eq!((counts.answered, counts.closes.len(), counts.closes.get(&4002)), (1, 1, Some(&1)));
    let mut ear = Ear::default();
    for _ in 0..100 {
        ear.hear(&[b'x'; 1000], &mut counts);
        assert!(ear.kept.len() <= KEPT_MAX);
    }
}
