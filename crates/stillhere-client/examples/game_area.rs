//! A player who walks in circles through an area room, and sees who moves around it.
//!
//! `cargo run -p stillhere-client --example game_area -- 127.0.0.1:14000 NAME PASSWORD`
//!
//! The first player makes the room `meadow` and gives it a radius: signals reach whoever is within 50 of the sender.

use std::time::Duration;

use serde_json::json;
use serde_json::value::to_raw_value;
use stillhere_client::{Client, Event, Role};
use stillhere_core::text::Escaped;

const ROOM: &str = "meadow";
const RADIUS: f64 = 50.0;
/// Steps a second; a player on leave gets only the latest of each other player.
const STEPS: u32 = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, user, password] = &args[..] else { return Err("usage: HOST:PORT NAME PASSWORD".into()) };

    let mut client = Client::builder().name("game_area").connect(target.as_str()).await?;
    client.login(user, password, false).await?;
    let joined = client.join_at(ROOM, position(0)).await?;
    if joined.radius.is_none() && joined.role == Some(Role::Owner) {
        client.set_room(ROOM, None, None, Some(RADIUS)).await?;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1) / STEPS);
    let mut step = 0;
    loop {
        let event = tokio::select! {
            event = client.next_event() => event,
            _ = clock.tick() => {
                step += 1;
                let data = to_raw_value(&json!({ "step": step }))?;
                client.signal(ROOM, &data, Some("walk"), Some(position(step)));
                continue;
            }
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(Event::Signal(signal)) => {
                let [x, y] = signal.at.unwrap_or_default();
                println!("{} is at {x:.1}, {y:.1}", Escaped(&signal.from));
            }
            Some(Event::Lost(loss)) => println!("{loss}; coming back"),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    client.bye().await;
    Ok(())
}

fn position(step: u32) -> [f64; 2] {
    let angle = f64::from(step) / 20.0;
    [30.0 * angle.cos(), 30.0 * angle.sin()]
}
