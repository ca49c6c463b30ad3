//! Users, bans, rooms and the audit log over the operators' API, on the disk.

use serde_json::{Value, json};

use crate::admin::Request;
use crate::gateway::{Gateway, Setup};
use crate::peer::Peer;

const PASSWORD: &str = "correct horse battery";

fn send(gateway: &Gateway, method: &str, path: &str, body: &Value) -> crate::admin::Answer {
    Request::with(method, path, &body.to_string()).token(&gateway.token).send(gateway.admin)
}

fn users(gateway: &Gateway) -> Vec<Value> {
    gateway.get("/api/v1/users").json()["users"].as_array().expect("users").clone()
}

#[test]
fn an_account_is_made_changed_and_deleted_and_each_step_is_written_down() {
    let gateway = Gateway::start(&[]);
    let done = gateway.post("/api/v1/users", &json!({"name": "Ada", "password": PASSWORD})).json();
    assert_eq!(done, json!({"done": "added", "subject": "ada"}));
    gateway.post("/api/v1/users", &json!({"name": "ADA", "password": PASSWORD})).error(409, "taken");
    let told =
        gateway.post("/api/v1/users", &json!({"name": "bob", "password": "password1"})).error(400, "bad_request");
    assert!(told.contains("tried first"), "{told}");
    assert_eq!(send(&gateway, "PATCH", "/api/v1/users/ada", &json!({"disabled": true})).json()["done"], "disabled");
    let listed = users(&gateway);
    assert_eq!((listed.len(), &listed[0]["disabled"], &listed[0]["password"]), (1, &json!(true), &json!("argon2id")));
    assert!(!listed[0].to_string().contains('$'), "no hash is shown: {listed:?}");
    for (change, done) in [
        (json!({"disabled": false}), "enabled"),
        (json!({"unlock": true}), "unlocked"),
        (json!({"password": "another long sentence"}), "password set"),
    ] {
        assert_eq!(send(&gateway, "PATCH", "/api/v1/users/ada", &change).json()["done"], done);
    }
    for wrong in [json!({}), json!({"unlock": false}), json!({"disabled": true, "unlock": true}), json!({"name": "x"})]
    {
        let answer = send(&gateway, "PATCH", "/api/v1/users/ada", &wrong);
        assert!(answer.status == 400 || answer.status == 422, "{wrong}: {answer:?}");
        answer.error(answer.status, "bad_request");
    }
    send(&gateway, "PATCH", "/api/v1/users/eve", &json!({"disabled": true})).error(404, "not_found");
    assert_eq!(send(&gateway, "DELETE", "/api/v1/users/ada", &json!({})).json()["done"], "deleted");
    send(&gateway, "DELETE", "/api/v1/users/ada", &json!({})).error(404, "not_found");
    gateway.post("/api/v1/users", &json!({"name": "ada", "password": PASSWORD})).error(409, "taken");

    let audit = gateway.get("/api/v1/audit").json();
    let actions: Vec<_> = audit["audit"].as_array().expect("lines").iter().map(|line| &line["action"]).collect();
    let wanted = ["users.delete", "users.passwd", "users.unlock", "users.enable", "users.disable", "users.add"];
    assert_eq!(actions, wanted, "what was refused isn't written down");
    let page = gateway.get("/api/v1/audit?limit=4").json();
    let rest = gateway.get(&format!("/api/v1/audit?after={}", page["next"].as_str().expect("more"))).json();
    assert_eq!(rest["audit"][0]["action"], "users.disable");
}

#[test]
fn what_was_decided_survives_a_crash() {
    let gateway = Gateway::start(&[]);
    gateway.post("/api/v1/users", &json!({"name": "ada", "password": PASSWORD})).json();
    gateway.post("/api/v1/bans", &json!({"user": "eve", "reason": "spam"})).json();
    let scratch = gateway.kill();
    let gateway = Setup::new().scratch(&scratch).start();
    assert_eq!(users(&gateway)[0]["name"], "ada");
    assert_eq!(gateway.get("/api/v1/bans").json()["bans"][0]["user"], "eve");
}

#[test]
fn an_imported_list_is_taken_over_row_by_row() {
    let gateway = Gateway::start(&[]);
    let md5 = "5d7845ac6ee7cfffafc5fe5f35cf666d";
    let rows = json!([{"name": "ada", "md5": md5}, {"name": "a b", "md5": md5}, {"name": "bob", "md5": "secret"}]);
    let results = gateway.post("/api/v1/import", &json!({"rows": rows})).json();
    let done: Vec<_> = results["results"].as_array().expect("rows").iter().map(|row| &row["done"]).collect();
    assert_eq!(done, ["added", "skipped", "skipped"]);
    assert_eq!(users(&gateway)[0]["password"], "md5");
    let again = gateway.post("/api/v1/import", &json!({"rows": [rows[0]]})).json();
    assert!(again["results"][0]["why"].as_str().is_some_and(|why| why.contains("--replace")), "{again}");
    let replaced = gateway.post("/api/v1/import", &json!({"rows": [rows[0]], "replace": true})).json();
    assert_eq!(replaced["results"][0]["done"], "replaced");
    let many: Vec<_> = (0..101).map(|n| json!({"name": format!("u{n}"), "md5": md5})).collect();
    gateway.post("/api/v1/import", &json!({"rows": many})).error(400, "bad_request");
}

#[test]
fn a_banned_address_loses_its_sessions_and_others_stay() {
    let gateway = Gateway::start(&[]);
    let from = |address: &str| Peer::from(&gateway, address.parse().expect("an address")).expect("the clients' port");
    let (mut banned, mut stays) = (from("127.0.0.9:0"), from("127.0.1.9:0"));
    for peer in [&mut banned, &mut stays] {
        peer.say(&json!({"ip": "127.0.0.1", "status": "alive"}));
    }
    gateway.wait_until("two sessions", || gateway.sessions().len() == 2);
    let ban = json!({"address": "127.0.0.0/24", "for_ms": 3_600_000, "reason": "noise"});
    assert_eq!(gateway.post("/api/v1/bans", &ban).json()["subject"], "127.0.0.0/24");
    assert_eq!(gateway.closed_row(banned.address)["code"], 4504);
    assert_eq!(gateway.sessions().len(), 1);
    let listed = gateway.get("/api/v1/bans").json();
    assert!(listed["bans"][0]["until"].is_string() && listed["bans"][0]["reason"] == "noise", "{listed}");
    for wrong in [json!({}), json!({"user": "a", "address": "::1"}), json!({"address": "127.0.0.1/8"})] {
        gateway.post("/api/v1/bans", &wrong).error(400, "bad_request");
    }
    let unban = |query: &str| send(&gateway, "DELETE", &format!("/api/v1/bans?{query}"), &json!({}));
    unban("user=eve").error(404, "not_found");
    assert_eq!(unban("address=127.0.0.0/24").json()["done"], "unbanned");
    assert_eq!(gateway.get("/api/v1/bans").json()["bans"], json!([]));
}

#[test]
fn rooms_are_made_listed_page_by_page_and_deleted() {
    let gateway = Gateway::start(&[]);
    gateway.post("/api/v1/users", &json!({"name": "ada", "password": PASSWORD})).json();
    let lobby = json!({"name": "lobby", "owner": "ada", "topic": "all of us", "public": false});
    assert_eq!(gateway.post("/api/v1/rooms", &lobby).json()["done"], "created");
    gateway.post("/api/v1/rooms", &lobby).error(409, "taken");
    gateway.post("/api/v1/rooms", &json!({"name": "den", "owner": "nobody"})).error(404, "not_found");
    gateway.post("/api/v1/rooms", &json!({"name": "den"})).json();
    let page = gateway.get("/api/v1/rooms?limit=1").json();
    assert_eq!((&page["rooms"][0]["name"], &page["rooms"][0]["public"]), (&json!("den"), &json!(true)));
    let page = gateway.get(&format!("/api/v1/rooms?after={}", page["next"].as_str().expect("more"))).json();
    let row =
        json!({"name": "lobby", "topic": "all of us", "public": false, "owner": "ada", "messages": 0, "bytes": 0});
    assert_eq!((&page["rooms"], &page["next"]), (&json!([row]), &Value::Null));
    assert_eq!(send(&gateway, "DELETE", "/api/v1/rooms/lobby", &json!({})).json()["done"], "deleted");
    send(&gateway, "DELETE", "/api/v1/rooms/lobby", &json!({})).error(404, "not_found");
}

#[test]
fn wrong_questions_about_people_are_told_what_is_wrong() {
    let gateway = Gateway::start(&[]);
    for (query, named) in [
        ("users?limit=0", "limit"),
        ("users?limit=1000", "999"),
        ("users?color=blue", "color"),
        ("audit?after=x", "next"),
        ("rooms?limit=many", "limit"),
        ("who?room=a&user=b", "not both"),
    ] {
        let told = gateway.get(&format!("/api/v1/{query}")).error(400, "bad_request");
        assert!(told.contains(named), "{query}: {told}");
    }
    gateway.post("/api/v1/notice", &json!({"text": " "})).error(400, "bad_request");
    gateway.post("/api/v1/notice", &json!({"text": "x".repeat(5000)})).error(400, "bad_request");
}
