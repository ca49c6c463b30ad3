//! Answers that cross with what happens meanwhile.

use super::tables::{in_red, say};
use super::*;

/// The store works and its shards hear of it, but no shard of another, and no client reads.
fn store_only(cluster: &mut Cluster) {
    while !cluster.store.is_idle() {
        while cluster.store.step() {}
        for shard in 0..cluster.shards.len() {
            cluster.told(shard, usize::MAX);
        }
    }
}

fn seqs(cluster: &mut Cluster, client: usize) -> Vec<u64> {
    cluster.took(client, "message").iter().filter_map(|body| body["seq"].as_u64()).collect()
}

#[test]
fn a_page_from_before_a_gap_brings_nothing_and_loses_nothing() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    let tell = |cluster: &mut Cluster| {
        cluster.ask(0, json!({"op": "tell", "user": "bob", "text": "x"}));
    };
    (0..3).for_each(|_| tell(&mut cluster));
    store_only(&mut cluster);
    cluster.drop_link(1);
    (0..3).for_each(|_| tell(&mut cluster));
    store_only(&mut cluster);
    // The page behind the third is under way when the client turns out to have nothing.
    cluster.connect(1, 0, None);
    cluster.connect(1, 0, Some(1_000_000));
    cluster.settle();
    assert_eq!(cluster.clients[1].reasons.last().unwrap(), "gap");
    assert_eq!(seqs(&mut cluster, 1), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_was_missed_waits_for_a_shard_that_is_slow_to_answer() {
    let mut cluster = in_red(2, &["ann", "bob", "cid"], |_| {});
    (0..5).for_each(|n| say(&mut cluster, 0, &n.to_string()));
    cluster.part(1, "red");
    cluster.settle();
    cluster.clients[1].read.clear();
    cluster.join(1, "red", Some(1));
    store_only(&mut cluster);
    cluster.ask(0, json!({"op": "say", "room": "red", "text": "meanwhile"}));
    store_only(&mut cluster);
    assert!(seqs(&mut cluster, 1).is_empty(), "the join isn't answered yet");
    cluster.settle();
    assert_eq!(seqs(&mut cluster, 1), [2, 3, 4, 5, 6]);
}

#[test]
fn a_client_that_hasnt_got_the_welcome_after_a_gap_counts_as_before_and_has_a_gap() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    (0..3).for_each(|n| say(&mut cluster, 0, &n.to_string()));
    let count = cluster.clients[1].pushes;
    cluster.connect(1, 0, Some(1_000_000));
    for n in 0..10 {
        cluster.ask(0, json!({"op": "say", "room": "red", "text": n.to_string()}));
        store_only(&mut cluster);
    }
    assert!(count > 0, "as if it had the first of the ten, it would be given the others");
    cluster.drop_link(1);
    cluster.connect(1, 0, None);
    cluster.settle();
    assert_eq!(cluster.clients[1].reasons.last().unwrap(), "gap");
    assert_eq!(cluster.clients[1].rooms["red"], Standing::In(13));
}

#[test]
fn what_has_gathered_isnt_pushed_before_the_welcome() {
    let users: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut cluster = in_red(1, &names, |_| {});
    for n in 0..10 {
        cluster.ask(0, json!({"op": "say", "room": "red", "text": n.to_string()}));
        store_only(&mut cluster);
    }
    // The old link hangs, and the room's batch still waits.
    cluster.clients[1].lose_link();
    cluster.connect(1, 0, Some(1_000_000));
    cluster.settle();
    assert_eq!(cluster.clients[1].read.last().unwrap()["op"], "welcome");
    say(&mut cluster, 0, "after");
    assert_eq!(seqs(&mut cluster, 1), [11]);
}

#[test]
fn a_page_may_be_ahead_of_the_news() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    cluster.ask(1, json!({"op": "status", "status": "leave"}));
    (0..2).for_each(|n| say(&mut cluster, 0, &n.to_string()));
    cluster.ask(0, json!({"op": "say", "room": "red", "text": "2"}));
    cluster.ask(1, json!({"op": "status", "status": "alive"}));
    while cluster.store.step() {}
    // The page was read behind the commit, and overtakes the news of it.
    let told = cluster.store.outgoing.get_mut(&0).unwrap();
    let page = told.iter().position(|told| matches!(told, Told::Outcome(_, Ok(crate::ledger::Outcome::Page(_)))));
    let page = told.remove(page.unwrap()).unwrap();
    told.push_front(page);
    cluster.settle();
    cluster.pass(Duration::from_secs(1));
    cluster.settle();
    assert_eq!(seqs(&mut cluster, 1), [1, 2, 3]);
}
