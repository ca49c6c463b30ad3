//! Shows who is in a room, and tells whenever somebody's status changes, with the cause.
//!
//! `cargo run -p stillhere-client --example presence -- 127.0.0.1:14000 lobby NAME PASSWORD`

use stillhere_client::{Client, Event, Presence};
use stillhere_core::text::Escaped;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, room, user, password] = &args[..] else { return Err("usage: HOST:PORT ROOM NAME PASSWORD".into()) };

    let mut client = Client::builder().name("presence").connect(target.as_str()).await?;
    client.login(user, password, false).await?;
    let joined = client.join(room, None).await?;
    println!("{} are in {}", joined.members.unwrap_or(0), Escaped(room));
    joined.users.iter().for_each(tell);
    loop {
        let event = tokio::select! {
            event = client.next_event() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(Event::Presence(presence)) => tell(&presence),
            // On leave the changes of a period come in one piece.
            Some(Event::Digest(rooms)) => rooms.iter().flat_map(|room| &room.presence).for_each(tell),
            Some(Event::Lost(loss)) => println!("{loss}; coming back"),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    client.bye().await;
    Ok(())
}

fn tell(presence: &Presence) {
    let cause = presence.cause.map_or("", |cause| cause.meaning());
    println!("{:>12}  {:<6} {cause}", Escaped(&presence.user).to_string(), presence.status.name());
}
