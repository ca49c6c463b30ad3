//! Bodies as they come over the wire, each with what it means.

use super::*;
use crate::wire::legacy::{LegacyPid, LegacyStatus};
use proptest::prelude::*;

/// The 64 bytes of the tutorial's client: a JSON string that contains an object.
const TUTORIAL: &str = r#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;

fn check<R>(body: &str, look: impl FnOnce(Result<Body<'_>, BodyError>) -> R) -> R {
    look(parse(body.as_bytes(), &mut String::new()))
}

fn check_legacy(body: &str, ip: &str, status: LegacyStatus, pid: Option<LegacyPid<'static>>) {
    check(body, |read| match read {
        Ok(Body::Legacy(beat)) => {
            assert_eq!((&*beat.ip, beat.status, beat.pid), (ip, status, pid), "{body}");
        }
        other => panic!("{body}: {other:?}"),
    });
}

fn check_refused(body: &str, error: BodyError) {
    check(body, |read| assert_eq!(read.err(), Some(error), "{body}"));
}

fn check_refusal(body: &str, code: ErrorCode, names: &str) {
    check(body, |read| match read {
        Ok(Body::V1(Request { op: Err(refusal), .. })) => {
            assert_eq!(refusal.code, code.number, "{body}: {refusal:?}");
            assert!(refusal.message.contains(names), "{body}: {refusal:?}");
        }
        other => panic!("{body}: {other:?}"),
    });
}

#[test]
fn the_tutorials_client_is_understood_in_all_its_forms() {
    assert_eq!(TUTORIAL.len(), 64);
    let pid = Some(LegacyPid::Number(21243));
    check_legacy(TUTORIAL, "127.0.0.1", LegacyStatus::Alive, pid.clone());
    check_legacy(
        r#"{"ip": "127.0.0.1", "status": "alive", "pid": 21243}"#,
        "127.0.0.1",
        LegacyStatus::Alive,
        pid.clone(),
    );
    check_legacy("{'ip': '127.0.0.1', 'status': 'alive', 'pid': 21243}", "127.0.0.1", LegacyStatus::Alive, pid.clone());
    check_legacy(r#""{'ip': '127.0.0.1', 'status': 'alive', 'pid': 21243}""#, "127.0.0.1", LegacyStatus::Alive, pid);
    check_legacy(
        r#"  {"status":"leave","ip":"h","pid":"7"} "#,
        "h",
        LegacyStatus::Leave,
        Some(LegacyPid::Text("7".into())),
    );
    check_legacy(r#"{"ip":"h","status":"close"}"#, "h", LegacyStatus::Close, None);
    check_legacy(r#"{"ip":"h","status":"busy","pid":null,"more":[1,{"x":2}]}"#, "h", LegacyStatus::Alive, None);
}

#[test]
fn rare_escapes_take_the_long_way_to_the_same_place() {
    check_legacy(r#""{\u0022ip\u0022:\"a\\u00e9\",\"status\":\"alive\"}""#, "aé", LegacyStatus::Alive, None);
    check_legacy(r#"{'ip': "it's", 'status': 'alive', 'pid': None, 'x': True}"#, "it's", LegacyStatus::Alive, None);
    check_legacy(r"{'ip': 'say \'hi\' \x41', 'status': 'alive'}", "say 'hi' A", LegacyStatus::Alive, None);
    check_legacy(r#"{'ip': 'a"b', 'status': 'alive'}"#, "a\"b", LegacyStatus::Alive, None);
}

#[test]
fn what_is_neither_an_op_nor_a_beat_is_refused() {
    for body in ["[]", "1", "null", "true", "x", "{", "{}}", "\"\"", "\"x\"", "\"{", "{\"ip\"", "'", "{'", r#""a"b""#] {
        check_refused(body, BodyError::NotAnObject);
    }
    let twice = serde_json::to_string(TUTORIAL).unwrap();
    check_refused(&twice, BodyError::NotAnObject);
    check_refused(r#"{"ip":"a","ip":"b","status":"alive"}"#, BodyError::NotAnObject);
    for body in [
        "{}",
        r#"{"ip":"127.0.0.1"}"#,
        r#"{"status":"alive"}"#,
        r#"{"ip":"","status":"alive"}"#,
        r#"{"ip":"a","status":""}"#,
        r#"{"ip":1,"status":"alive"}"#,
        r#"{"ip":"a","status":true}"#,
        r#"{"ip":null,"status":"alive"}"#,
        r#"{"op":1}"#,
        r#"{"op":null,"ip":"a","status":"alive"}"#,
        r#""{\"op\":\"hello\",\"v\":1}""#,
    ] {
        check_refused(body, BodyError::NeitherOpNorBeat);
    }
    assert_eq!(parse(b"{\"ip\":\"\xff\",\"status\":\"alive\"}", &mut String::new()).err(), Some(BodyError::NotUtf8));
}

#[test]
fn depth_thirty_two_is_read_and_thirty_three_is_not() {
    let nested =
        |depth: usize| format!(r#"{{"ip":"a","status":"b","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    check_legacy(&nested(32), "a", LegacyStatus::Alive, None);
    check_refused(&nested(33), BodyError::TooDeep);
    check_refused(&nested(30_000), BodyError::TooDeep);
    check_refused(&serde_json::to_string(&nested(33)).unwrap(), BodyError::TooDeep);
    let brackets_in_text = format!(r#"{{"ip":"a","status":"{}\"["}}"#, "[".repeat(1000));
    check_legacy(&brackets_in_text, "a", LegacyStatus::Alive, None);
}

#[test]
fn an_empty_body_is_a_beat_of_no_mode() {
    check("", |read| assert!(matches!(read, Ok(Body::Empty))));
}

#[test]
fn a_hello_is_read_whole() {
    let body = r#"{"op":"hello","v":1,"id":"a1","ack":9,"client":"test","user":"ann","interval_ms":5000,
        "resume":{"session":"s","secret":"x","count":3,"more":{}}}"#;
    check(body, |read| {
        let Ok(Body::V1(Request { id, ack, op: Ok(Op::Hello(hello)) })) = read else { panic!("{read:?}") };
        assert_eq!((id, ack), (Some(RequestId::Text("a1".into())), Some(9)));
        assert_eq!((hello.client.as_deref(), hello.user.as_deref()), (Some("test"), Some("ann")));
        assert_eq!(hello.interval_ms, Some(5000));
        let resume = hello.resume.unwrap();
        assert_eq!((&*resume.session, &*resume.secret, resume.count), ("s", "x", 3));
    });
}

#[test]
fn a_wrong_field_is_named() {
    check_refusal(r#"{"op":"dance"}"#, ErrorCode::UNKNOWN_OP, "op");
    check_refusal(r#"{"op":"hello"}"#, ErrorCode::MISSING_FIELD, "`v`");
    check_refusal(r#"{"op":"hello","v":2}"#, ErrorCode::VERSION, "v:1");
    check_refusal(r#"{"op":"hello","v":"1"}"#, ErrorCode::MISTYPED_FIELD, "`v`");
    check_refusal(r#"{"op":"hello","v":1,"interval_ms":-1}"#, ErrorCode::MISTYPED_FIELD, "`interval_ms`");
    check_refusal(r#"{"op":"hello","v":1,"interval_ms":1.5}"#, ErrorCode::MISTYPED_FIELD, "`interval_ms`");
    check_refusal(r#"{"op":"hello","v":1,"user":""}"#, ErrorCode::MISTYPED_FIELD, "`user`");
    check_refusal(r#"{"op":"hello","v":1,"user":["a"]}"#, ErrorCode::MISTYPED_FIELD, "`user`");
    check_refusal(r#"{"op":"hello","v":1,"resume":true}"#, ErrorCode::MISTYPED_FIELD, "`resume`");
    check_refusal(
        r#"{"op":"hello","v":1,"resume":{"session":"s","secret":"x"}}"#,
        ErrorCode::MISSING_FIELD,
        "resume.count",
    );
    check_refusal(
        r#"{"op":"hello","v":1,"resume":{"session":1,"secret":"x","count":0}}"#,
        ErrorCode::MISTYPED_FIELD,
        "resume.session",
    );
    check_refusal(r#"{"op":"beat","t":"now"}"#, ErrorCode::MISTYPED_FIELD, "`t`");
    check_refusal(r#"{"op":"beat","ack":"1"}"#, ErrorCode::MISTYPED_FIELD, "`ack`");
    check_refusal(r#"{"op":"beat","id":{}}"#, ErrorCode::MISTYPED_FIELD, "`id`");
    check_refusal(r#"{"op":"status"}"#, ErrorCode::MISSING_FIELD, "`status`");
    check_refusal(r#"{"op":"status","status":"close"}"#, ErrorCode::MISTYPED_FIELD, "`status`");
}

#[test]
fn any_number_is_echoed_as_it_came() {
    for t in ["0", "-5", "18446744073709551615", "1.25", "1e300"] {
        check(&format!(r#"{{"op":"beat","t":{t}}}"#), |read| {
            let Ok(Body::V1(Request { op: Ok(Op::Beat { t: Some(number), .. }), .. })) = read else {
                panic!("{read:?}")
            };
            let echoed: f64 = serde_json::to_string(&number).unwrap().parse().unwrap();
            assert_eq!(echoed, t.parse::<f64>().unwrap());
        });
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body, &mut String::new());
    }

    #[test]
    fn no_text_that_looks_right_makes_the_parser_panic(body in r#"["'{}\[\]:,a-f\\ux0-9 opi]{0,80}"#) {
        let _ = parse(body.as_bytes(), &mut String::new());
    }

    #[test]
    fn encoding_twice_changes_nothing(ip in ".{1,40}", pid in any::<i64>()) {
        let object = serde_json::json!({"ip": ip, "status": "alive", "pid": pid}).to_string();
        let twice = serde_json::to_string(&object).unwrap();
        check_legacy(&twice, &ip, LegacyStatus::Alive, Some(LegacyPid::Number(pid)));
    }
}
