//! Says hello to a gateway, tells each round trip, and says goodbye on ctrl-c.
//!
//! `cargo run -p stillhere-client --example hello -- 127.0.0.1:14000`

use std::time::Duration;

use stillhere_client::{Client, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:14000".to_owned());
    let mut client = Client::builder().name("hello").interval(Duration::from_secs(1)).connect(target).await?;
    loop {
        let event = tokio::select! {
            event = client.next_event() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(Event::Welcomed(welcomed)) => println!("session {} on {}", welcomed.session, welcomed.node),
            Some(Event::BeatAnswered { rtt, .. }) => println!("still here, {rtt:?} away"),
            Some(Event::Lost(loss)) => println!("{loss}; coming back"),
            Some(Event::Stopped(why)) => println!("stopped: {why:?}"),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    client.bye().await;
    Ok(())
}
