//! The terminal and the socket around the model.
//!
//! One thread reads the keyboard and hands what is typed over by a bounded channel; it ends with the process. All else
//! happens in one loop on the main thread: first what was typed, then the network in bounded turns, then the screen,
//! at most thirty times a second.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::crossterm::event::{Event as Input, read};
use stillhere_client::Client;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::model::{App, End};
use crate::terminal::Screen;
use crate::view::{Palette, draw};
use crate::{Options, Outcome, token};

/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(33);
/// Events of the network that are dealt with before the keyboard is looked at again. One is a few microseconds.
const EVENTS_A_TURN: usize = 512;
/// Keys that are typed ahead.
const INPUTS_AHEAD: usize = 256;
/// A clock on the screen moves at least so often.
const TICK: Duration = Duration::from_secs(1);

pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        anyhow::bail!("this is no terminal; use --plain to talk through pipes");
    }
    let token = options.token_file.as_deref().map(token::load).transpose()?.flatten();
    let mut app = App::new(&options.target, options.user.as_deref().unwrap_or_default(), TimeZone::system());
    app.rooms = if options.rooms.is_empty() { vec!["lobby".to_owned()] } else { options.rooms.clone() };
    (app.token, app.remember) = (token, options.token_file.is_some());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let ended = runtime.block_on(talk(&mut app, options));
    // The keyboard's thread waits for a key; the process needn't.
    runtime.shutdown_background();
    ended?;
    match app.end {
        Some(End::Told(why)) => {
            eprintln!("stillhere: the server ended it: {why}");
            Ok(Outcome::Refused)
        }
        _ if !app.was_live => {
            eprintln!("stillhere: {} was never reached; start a server with: stillhere serve", options.target);
            Ok(Outcome::Unreached)
        }
        _ => Ok(Outcome::Well),
    }
}

fn connect(options: &Options, claim: Option<String>) -> anyhow::Result<Client> {
    let builder = Client::builder().name(concat!("stillhere-chat/", env!("CARGO_PKG_VERSION")));
    let builder = match claim {
        Some(name) => builder.user(name),
        None => builder,
    };
    Ok(builder.start(options.target.as_str())?)
}

async fn talk(app: &mut App, options: &Options) -> anyhow::Result<()> {
    let mut client = connect(options, None)?;
    let mut screen = Screen::open().context("can't take over this terminal; try --plain")?;
    let mut inputs = keyboard()?;
    let palette = Palette { coloured: options.coloured };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_frame = Instant::now();
    let (mut is_stale, mut is_open) = (true, true);
    let end = terminated();
    tokio::pin!(end);
    while app.end.is_none() && is_open {
        app.tick(Timestamp::now().as_millisecond().unsigned_abs(), &mut client);
        if is_stale && Instant::now() >= next_frame {
            screen.0.draw(|frame| app.areas = draw(frame, app, palette)).context("can't draw")?;
            is_stale = false;
            next_frame = Instant::now() + FRAME;
        }
        tokio::select! {
            biased;
            input = inputs.recv() => match input {
                Some(input) => is_stale |= app.input(&input, &mut client),
                None => is_open = false,
            },
            () = sleep_until(next_frame), if is_stale => {}
            event = client.next_event() => is_stale |= turn(app, &mut client, event),
            _ = ticks.tick() => is_stale = true,
            () = &mut end => app.end = Some(End::Quit),
        }
        // While the network always has more, nothing here waits, and timers and signals would never get their turn.
        yield_now().await;
        if let (Some(token), Some(path)) = (app.new_token.take(), &options.token_file) {
            token::keep(path, &token)?;
        }
        if let Some(name) = app.claim.take() {
            client.bye().await;
            client = connect(options, Some(name))?;
        }
    }
    drop(screen);
    client.bye().await;
    Ok(())
}

/// Deals with an event and with those that came together with it.
fn turn(app: &mut App, client: &mut Client, first: Option<stillhere_client::Event>) -> bool {
    let began = Instant::now();
    let mut next = first;
    for _ in 0..EVENTS_A_TURN {
        let Some(event) = next else { break };
        app.hear(event, client);
        if began.elapsed() > FRAME {
            break;
        }
        next = client.take_event();
    }
    true
}

/// Waits for the request to terminate or the terminal's end; for ever if the system can't tell.
pub(crate) async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            return;
        }
    }
    std::future::pending().await
}

fn keyboard() -> anyhow::Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(INPUTS_AHEAD);
    let reading = move || {
        while let Ok(input) = read() {
            if sender.blocking_send(input).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(reading).context("can't read the keyboard")?;
    Ok(receiver)
}
