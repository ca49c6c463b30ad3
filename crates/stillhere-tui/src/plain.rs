//! Lines instead of a screen, for pipes: what is said comes out, what comes in is said.
//!
//! A thread reads standard input and hands lines over by a bounded channel; it ends with the process. At the end of the
//! input what is under way is waited for, so that `echo hi | stillhere chat --plain` says it before it ends.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use stillhere_client::{
    Answer, CallError, Client, Continuity, Event, Failed, Message, Place, Presence, Range, Recovery, Ticket,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::editor::INPUT_BYTES_MAX;
use crate::model::PAGE;
use crate::model::command::Command;
use crate::shell::terminated;
use crate::text::{NAME_BYTES_MAX, harmless_line};
use crate::{Options, Outcome, token};

/// Lines that are read ahead.
const LINES_AHEAD: usize = 64;
/// How long the first connect may take: after that nobody is there.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the end waits for what is under way.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The shortest and the longest wait before what was refused for now is said again.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(60);
/// `no_accounts`: names are claims on that server.
const NO_ACCOUNTS: u16 = 1101;
/// `bad_credentials`: no such user, or not with this password.
const BAD_CREDENTIALS: u16 = 1105;

pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let ended = runtime.block_on(talk(options));
    runtime.shutdown_background();
    ended
}

struct Plain {
    client: Client,
    zone: TimeZone,
    /// Where a line without a command goes.
    room: Option<String>,
    me: String,
    /// What was said last, until it is answered; the next line waits for that.
    under_way: Option<(Ticket, Said)>,
    /// What the server wants to hear later, and when.
    again: Option<(Instant, Said)>,
    is_unsaid: bool,
}

/// A message, and where it goes.
struct Said {
    room: Option<String>,
    user: Option<String>,
    text: String,
}

async fn talk(options: &Options) -> anyhow::Result<Outcome> {
    let Some(client) = connect(options, None).await? else { return Ok(Outcome::Unreached) };
    let room = None;
    let mut plain = Plain {
        client,
        zone: TimeZone::system(),
        room,
        me: String::new(),
        under_way: None,
        again: None,
        is_unsaid: false,
    };
    match plain.enter(options).await? {
        Entered::Yes => {}
        Entered::No => return Ok(Outcome::Refused),
        Entered::ByClaim(name) => {
            let Some(client) = connect(options, Some(name.clone())).await? else { return Ok(Outcome::Unreached) };
            plain.me = name;
            std::mem::replace(&mut plain.client, client).bye().await;
        }
    }
    let lobby = ["lobby".to_owned()];
    let rooms = if options.rooms.is_empty() { &lobby[..] } else { &options.rooms[..] };
    for room in rooms {
        plain.join(room).await?;
    }
    let mut lines = standard_input()?;
    let end = terminated();
    tokio::pin!(end);
    let outcome = loop {
        let again = plain.again.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            line = lines.recv(), if plain.is_free() => match line {
                Some(line) => if !plain.line(&line).await? { break None },
                None => break None,
            },
            event = plain.client.next_event() => match event {
                Some(event) => plain.hear(event)?,
                None => break Some(Outcome::Refused),
            },
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => plain.repeat(),
            () = &mut end => break None,
        }
    };
    if let Some(outcome) = outcome {
        return Ok(outcome);
    }
    plain.finish().await
}

/// Connects once; nobody there is told in a sentence.
async fn connect(options: &Options, claim: Option<String>) -> anyhow::Result<Option<Client>> {
    let builder = Client::builder().name(concat!("stillhere-chat/", env!("CARGO_PKG_VERSION")));
    let builder = match claim {
        Some(name) => builder.user(name),
        None => builder,
    };
    let target = options.target.as_str();
    let why = match timeout(PATIENCE, builder.connect(target)).await {
        Ok(Ok(client)) => return Ok(Some(client)),
        Ok(Err(why)) => harmless_line(&why.to_string(), 400),
        Err(_) => "no answer within 15 s".to_owned(),
    };
    let listen = target.strip_prefix("tls://").unwrap_or(target);
    // Only of this machine it is known what to start.
    let hint = match listen.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => format!("start a server with: stillhere serve --listen {listen}"),
        _ => "is that where the gateway listens?".to_owned(),
    };
    eprintln!("stillhere: {target}: {why}; {hint}");
    Ok(None)
}

enum Entered {
    Yes,
    No,
    /// Names are claims: a new link has to say hello with it.
    ByClaim(String),
}

impl Plain {
    async fn enter(&mut self, options: &Options) -> anyhow::Result<Entered> {
        let remember = options.token_file.is_some();
        let kept = options.token_file.as_deref().map(token::load).transpose()?.flatten();
        let name = options.user.clone().unwrap_or_default();
        let called = match (kept, options.register) {
            (Some(token), false) => self.client.token(&token).await,
            _ if name.is_empty() => anyhow::bail!("who are you? say it with --user NAME"),
            (_, true) => self.client.register(&name, &password(options)?, remember).await,
            (None, false) => self.client.login(&name, &password(options)?, remember).await,
        };
        match called {
            Ok(answer) => {
                self.me = answer.user.clone().unwrap_or(name);
                if let (Some(path), Some(token)) = (&options.token_file, &answer.token) {
                    token::keep(path, token)?;
                }
                Ok(Entered::Yes)
            }
            Err(why) => {
                if refusal(&why) == Some(NO_ACCOUNTS) && !name.is_empty() {
                    return Ok(Entered::ByClaim(name));
                }
                let hint = match refusal(&why) {
                    Some(BAD_CREDENTIALS) if !options.register => "; --register makes an account",
                    _ => "",
                };
                eprintln!("stillhere: not logged in: {why}{hint}");
                Ok(Entered::No)
            }
        }
    }

    async fn join(&mut self, room: &str) -> anyhow::Result<()> {
        match self.client.join(room, None).await {
            Ok(answer) => {
                let room = answer.room.clone().unwrap_or_else(|| room.to_owned());
                self.info(&room, &format!("joined, {} here", answer.members.unwrap_or(0)))?;
                self.room = Some(room);
            }
            Err(why) => self.unsaid(&format!("not joined: {why}")),
        }
        Ok(())
    }

    fn unsaid(&mut self, why: &str) {
        self.is_unsaid = true;
        eprintln!("stillhere: {why}");
    }

    /// A typed line; tells whether to go on.
    async fn line(&mut self, line: &str) -> anyhow::Result<bool> {
        if line.trim().is_empty() {
            return Ok(true);
        }
        let typed = match line.strip_prefix('/') {
            Some(typed) if !typed.starts_with('/') => typed,
            said => {
                self.say(said.unwrap_or(line));
                return Ok(true);
            }
        };
        let (command, rest) = match Command::parse(typed) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.unsaid(&why);
                return Ok(true);
            }
        };
        self.run(command, rest).await
    }

    async fn run(&mut self, command: Command, rest: &str) -> anyhow::Result<bool> {
        match command {
            Command::Quit => return Ok(false),
            Command::Help => {
                for command in [
                    Command::Join,
                    Command::Part,
                    Command::Tell,
                    Command::Who,
                    Command::Search,
                    Command::Leave,
                    Command::Back,
                    Command::Quit,
                ] {
                    let row = command.row();
                    self.info("help", &format!("/{} {}: {}", row.name, row.args, row.help))?;
                }
            }
            Command::Leave => self.client.leave(),
            Command::Back => self.client.back(),
            Command::Join => self.join(rest).await?,
            Command::Part => {
                let room = if rest.is_empty() { self.room.clone().unwrap_or_default() } else { rest.to_owned() };
                match self.client.part(&room).await {
                    Ok(_) => self.room = self.room.take().filter(|current| *current != room),
                    Err(why) => self.unsaid(&format!("not left: {why}")),
                }
            }
            Command::Me => self.say(&format!("* {rest}")),
            Command::Tell => match rest.split_once(' ') {
                Some((user, text)) => {
                    let user = Some(user.trim_start_matches('@').to_owned());
                    self.send(Said { room: None, user, text: text.to_owned() });
                }
                None => self.unsaid("/tell USER TEXT"),
            },
            Command::Who => {
                let here = self.room.clone().unwrap_or_default();
                let place =
                    if rest.is_empty() { Place::Room(&here) } else { Place::User(rest.trim_start_matches('@')) };
                let called = self.client.who(place).await;
                self.listed(called, |plain, answer| {
                    answer.users.iter().try_for_each(|user| plain.presence(&here, user))
                })?;
            }
            Command::Search => {
                let here = self.room.clone().unwrap_or_default();
                let range = Range { query: Some(rest), limit: Some(PAGE), ..Range::default() };
                let called = self.client.history(Place::Room(&here), range).await;
                self.listed(called, |plain, answer| {
                    answer.messages.iter().try_for_each(|found| plain.message(&here, found))
                })?;
            }
            Command::Topic
            | Command::Invite
            | Command::Mute
            | Command::Remove
            | Command::Delete
            | Command::Block
            | Command::Unblock => self.unsaid("that command isn't for --plain; use the screen"),
        }
        Ok(true)
    }

    fn listed(
        &mut self,
        called: Result<Box<Answer>, CallError>,
        print: impl Fn(&Plain, &Answer) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match called {
            Ok(answer) => print(self, &answer),
            Err(why) => {
                self.unsaid(&why.to_string());
                Ok(())
            }
        }
    }

    fn say(&mut self, text: &str) {
        match &self.room {
            Some(room) => {
                let room = Some(room.clone());
                self.send(Said { room, user: None, text: text.to_owned() });
            }
            None => self.unsaid("nobody is here to hear it; /join a room first"),
        }
    }

    fn send(&mut self, said: Said) {
        let ticket = match (&said.room, &said.user) {
            (Some(room), _) => self.client.say(room, &said.text),
            (None, user) => self.client.tell(user.as_deref().unwrap_or_default(), &said.text),
        };
        self.under_way = Some((ticket, said));
    }

    fn is_free(&self) -> bool {
        self.under_way.is_none() && self.again.is_none()
    }

    fn repeat(&mut self) {
        if let Some((_, said)) = self.again.take() {
            self.send(said);
        }
    }

    fn hear(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Message(message) => self.message("", &message)?,
            Event::Presence(presence) => self.presence("-", &presence)?,
            Event::Notice(notice) => {
                let room = notice.room.as_deref().unwrap_or("server");
                let text = notice.text.or(notice.topic).unwrap_or_default();
                self.info(room, &format!("{} {}", notice.kind, text))?;
            }
            Event::Replied { ticket, result } => {
                let Some((_, said)) = self.under_way.take_if(|(it, _)| *it == ticket) else { return Ok(()) };
                match result.map_err(|why| *why) {
                    Ok(_) => {}
                    // Too fast, or too much to do there: it is said again, before anything else.
                    Err(Failed::Refused(refused)) if refused.temporary && !(1300..1400).contains(&refused.code) => {
                        let wait = refused.retry.unwrap_or_default().clamp(RETRY_MIN, RETRY_MAX);
                        self.again = Some((Instant::now() + wait, said));
                    }
                    Err(why) => self.unsaid(&format!("not said: {why}: {}", harmless_line(&said.text, 80))),
                }
            }
            Event::Welcomed(welcomed) => match welcomed.continuity {
                Continuity::Fresh => {}
                Continuity::Resumed => eprintln!("stillhere: reconnected, nothing missed"),
                Continuity::Broken { .. } => eprintln!("stillhere: reconnected with a new session"),
            },
            Event::Recovery(step) => match *step {
                Recovery::NotRejoined { room, refused } => {
                    self.unsaid(&format!("no longer in {}: {refused}", harmless_line(&room, NAME_BYTES_MAX)));
                }
                Recovery::NotEntered { refused } => self.unsaid(&format!("not logged in again: {refused}")),
                Recovery::Entered { .. } | Recovery::Rejoined { .. } => {}
            },
            Event::Lost(loss) => eprintln!("stillhere: {}; coming back", harmless_line(&loss.to_string(), 400)),
            Event::Closed { code, reason } => {
                eprintln!("stillhere: closed by the server: {} ({code})", harmless_line(&reason, 400));
            }
            _ => {}
        }
        Ok(())
    }

    /// A message; inside a list it doesn't tell where it was said.
    fn message(&self, here: &str, message: &Message) -> anyhow::Result<()> {
        let to = message.to.as_deref().map(|to| format!("@{to}"));
        let place = message.room.clone().or(to).unwrap_or_else(|| here.to_owned());
        let text = if message.deleted { "(deleted)" } else { &message.text };
        self.print(message.time_ms, &place, &message.from, text)
    }

    fn presence(&self, here: &str, presence: &Presence) -> anyhow::Result<()> {
        let cause = presence.cause.map_or(String::new(), |cause| format!(" {}", cause.name()));
        let place = presence.room.as_deref().unwrap_or(here);
        let name = harmless_line(&presence.user, NAME_BYTES_MAX);
        self.print(presence.since_ms, place, "*", &format!("{name} {}{cause}", presence.status.name()))
    }

    fn info(&self, place: &str, text: &str) -> anyhow::Result<()> {
        self.print(Timestamp::now().as_millisecond().unsigned_abs(), place, "*", text)
    }

    /// One line, whatever is in it.
    fn print(&self, time_ms: u64, place: &str, from: &str, text: &str) -> anyhow::Result<()> {
        let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = time.map_or_else(
            || "--:--:--".to_owned(),
            |time| time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string(),
        );
        let (place, from) = (harmless_line(place, NAME_BYTES_MAX + 1), harmless_line(from, NAME_BYTES_MAX));
        let text = harmless_line(text, crate::text::TEXT_BYTES_MAX);
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{time} {place} <{from}> {text}")
            .and_then(|()| stdout.flush())
            .context("can't write to standard output")
    }

    /// Waits for what is under way, within bounds, and says goodbye.
    async fn finish(mut self) -> anyhow::Result<Outcome> {
        let until = Instant::now() + LAST_WORDS;
        while !self.is_free() {
            tokio::select! {
                event = self.client.next_event() => match event {
                    Some(event) => self.hear(event)?,
                    None => break,
                },
                () = sleep_until(self.again.as_ref().map_or(until, |(at, _)| *at).min(until)) => match Instant::now() < until {
                    true => self.repeat(),
                    false => break,
                },
            }
        }
        if !self.is_free() {
            self.unsaid("the last message wasn't acknowledged in time");
        }
        self.client.bye().await;
        Ok(if self.is_unsaid { Outcome::Unsaid } else { Outcome::Well })
    }
}

/// The code with which the server refused a call.
fn refusal(why: &CallError) -> Option<u16> {
    match why {
        CallError::Failed(failed) => match &**failed {
            Failed::Refused(refused) => Some(refused.code),
            _ => None,
        },
        CallError::Behind(_) => None,
    }
}

/// From the environment, or asked for without an echo if somebody sits there.
fn password(options: &Options) -> anyhow::Result<String> {
    if let Some(password) = &options.password {
        return Ok(password.clone());
    }
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("set STILLHERE_PASSWORD, or give a --token-file that has a token");
    }
    eprint!("password: ");
    let password = crate::terminal::read_secret().context("can't read a password")?;
    eprintln!();
    Ok(password)
}

fn standard_input() -> anyhow::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let reading = move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            // A line without an end is cut into messages.
            match stdin.by_ref().take(INPUT_BYTES_MAX as u64).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(reading).context("can't read standard input")?;
    Ok(receiver)
}
