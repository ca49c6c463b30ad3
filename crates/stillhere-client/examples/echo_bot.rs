//! Says back whatever is said in a room or told to it.
//!
//! `cargo run -p stillhere-client --example echo_bot -- 127.0.0.1:14000 lobby`
//!
//! It registers as `echo` with a password from ECHO_PASSWORD, or logs in if it is known already.

use stillhere_client::{CallError, Client, Event, Failed};

/// There is a user of this name: the server's `name_taken`.
const NAME_TAKEN: u16 = 1106;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().unwrap_or_else(|| "127.0.0.1:14000".to_owned());
    let room = args.next().unwrap_or_else(|| "lobby".to_owned());
    let password = std::env::var("ECHO_PASSWORD").map_err(|_| "set ECHO_PASSWORD, at least 8 characters")?;

    let mut client = Client::builder().name("echo_bot").connect(target).await?;
    enter(&mut client, &password).await?;
    client.join(&room, None).await?;
    println!("echoing in {room}; ctrl-c ends it");
    loop {
        let event = tokio::select! {
            event = client.next_event() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            // What this session says isn't pushed to it, but another session of the same user may be talking.
            Some(Event::Message(message)) if message.from != "echo" => match &message.room {
                Some(room) => drop(client.say(room, &message.text)),
                None => drop(client.tell(&message.from, &message.text)),
            },
            Some(Event::Replied { result: Err(why), .. }) => eprintln!("not said: {why}"),
            Some(Event::Lost(loss)) => eprintln!("{loss}; coming back"),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    client.bye().await;
    Ok(())
}

async fn enter(client: &mut Client, password: &str) -> Result<(), CallError> {
    match client.register("echo", password, false).await {
        Err(CallError::Failed(why)) if matches!(&*why, Failed::Refused(refused) if refused.code == NAME_TAKEN) => {
            client.login("echo", password, false).await.map(drop)
        }
        entered => entered.map(drop),
    }
}
