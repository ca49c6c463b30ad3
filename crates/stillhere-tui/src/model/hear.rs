//! What events do to the state.

use stillhere_client::{
    Answer, Continuity, Event, Failed, Message, Notice, Presence, Recovery, Request, RoomDigest, Ticket,
};
use stillhere_core::wire::push::Reply;

use super::tab::{Kind, Line, Tab};
use super::{App, End, Entry, Link, PAGE, Purpose, Server};
use crate::text::{NAME_BYTES_MAX, harmless_line};

/// What is shown of a reason or notice.
const WORDS_BYTES_MAX: usize = 400;

/// Users that `/who` lists, so that it stays one message.
const WHO_MAX: usize = 30;

impl App {
    /// Something happened.
    pub fn hear(&mut self, event: Event, server: &mut impl Server) {
        match event {
            Event::Welcomed(welcomed) => {
                self.node = harmless_line(&welcomed.node, NAME_BYTES_MAX);
                self.link = Link::Live;
                self.was_live = true;
                match welcomed.continuity {
                    Continuity::Fresh => {}
                    Continuity::Resumed => self.note("reconnected, nothing missed"),
                    Continuity::Broken { .. } => {
                        self.fetched = 0;
                        self.note("reconnected with a new session; fetching what was missed");
                    }
                }
                match &welcomed.user {
                    Some(user) => self.entered(user, server),
                    None => self.enter_by_token(server),
                }
            }
            Event::Recovery(step) => self.recovered(*step),
            Event::Message(message) => self.heard(&message, server),
            Event::Digest(rooms) => rooms.iter().for_each(|room| self.digest(room)),
            Event::Presence(presence) => self.presence(&presence),
            Event::Notice(notice) => self.noticed(&notice),
            Event::Replied { ticket, result } => self.replied(ticket, result.map_err(|why| *why), server),
            Event::Refused(refused) => self.trouble(&refused.to_string()),
            Event::BeatAnswered { rtt, .. } => self.rtt = Some(rtt),
            Event::Closed { code, reason } => {
                let reason = harmless_line(&reason, WORDS_BYTES_MAX);
                self.link =
                    Link::Down { why: format!("closed by the server: {reason} ({code})"), retry_at_ms: self.now_ms };
            }
            Event::Lost(loss) => {
                self.link =
                    Link::Down { why: harmless_line(&loss.to_string(), WORDS_BYTES_MAX), retry_at_ms: self.now_ms };
            }
            Event::Reconnecting { after } => {
                if let Link::Down { retry_at_ms, .. } = &mut self.link {
                    *retry_at_ms = self.now_ms + after.as_millis() as u64;
                }
                self.rtt = None;
            }
            Event::Stopped(stop) => {
                let why = match &self.link {
                    Link::Down { why, .. } => why.clone(),
                    Link::Connecting | Link::Live => format!("{stop:?}"),
                };
                self.end.get_or_insert(End::Told(why));
            }
            Event::Linked { .. }
            | Event::Signal(_)
            | Event::Unknown { .. }
            | Event::BeatSent { .. }
            | Event::IntervalChanged(_) => {}
        }
    }

    fn recovered(&mut self, step: Recovery) {
        match step {
            Recovery::Entered { .. } => {}
            Recovery::NotEntered { refused } => {
                let mut entry = Entry::new(self.me.as_deref().unwrap_or_default());
                entry.trouble = Some(refused.to_string());
                self.entry = Some(entry);
            }
            Recovery::Rejoined { room, after, reply } => {
                let head = serde_json::from_str::<Reply<'_>>(&reply).ok().and_then(|reply| reply.head).unwrap_or(after);
                let answer: Answer = serde_json::from_str(&reply).unwrap_or_default();
                if let Some(tab) = self.tab_of(&Kind::Room, &room) {
                    describe(tab, &answer);
                }
                self.fetched += head.saturating_sub(after);
                self.note(match self.fetched {
                    0 => "reconnected, nothing missed".to_owned(),
                    1 => "reconnected, 1 message fetched".to_owned(),
                    count => format!("reconnected, {count} messages fetched"),
                });
            }
            Recovery::NotRejoined { room, refused } => {
                self.trouble(&format!("no longer in {room}: {refused}"));
            }
        }
    }

    /// Which tab a message belongs into.
    fn place_of(&self, message: &Message) -> (Kind, String) {
        match (&message.room, &message.to) {
            (Some(room), _) => (Kind::Room, room.clone()),
            (None, Some(to)) if self.me.as_deref() == Some(&message.from) => (Kind::User, to.clone()),
            (None, _) => (Kind::User, message.from.clone()),
        }
    }

    fn heard(&mut self, message: &Message, server: &mut impl Server) {
        let (kind, name) = self.place_of(message);
        let (index, is_new) = self.open(kind, &name);
        let is_seen = index == self.active && self.entry.is_none();
        let is_own = self.me.as_deref() == Some(&message.from);
        let tab = &mut self.tabs[index];
        tab.waiting = tab.waiting.saturating_sub(1);
        if tab.add(Line::message(message)) && !(is_seen && tab.is_following()) && !is_own {
            tab.unread += 1;
        }
        if is_new {
            self.ask_older(index, server);
        }
    }

    fn digest(&mut self, room: &RoomDigest) {
        let Some(tab) = self.tab_of(&Kind::Room, &room.room) else { return };
        tab.waiting += room.count;
        room.presence.iter().for_each(|presence| tab.presence(presence));
    }

    fn presence(&mut self, presence: &Presence) {
        for tab in &mut self.tabs {
            let is_here = match &presence.room {
                Some(room) => tab.kind == Kind::Room && tab.name == *room,
                None => tab.kind == Kind::User && tab.name == presence.user,
            };
            if is_here {
                tab.presence(presence);
            }
        }
    }

    fn noticed(&mut self, notice: &Notice) {
        let shown = |text: &Option<String>| {
            text.as_deref().map_or_else(String::new, |text| harmless_line(text, WORDS_BYTES_MAX))
        };
        let (by, user) = (shown(&notice.by), shown(&notice.user));
        let minutes = notice.for_ms.unwrap_or(0).div_ceil(60_000);
        let text = match notice.kind.as_str() {
            "text" => format!("the operator says: {}", shown(&notice.text)),
            "room" => format!("{by} changed the room: {}", shown(&notice.topic)),
            "role" => format!("{user} is now {}", notice.role.map_or("something else", |role| role.name())),
            "muted" if notice.for_ms == Some(0) => format!("{user} may talk again"),
            "muted" => format!("{by} muted {user} for {minutes} min"),
            "removed" => format!("{by} put {user} out of the room"),
            "deleted" => {
                let place = match (&notice.room, &notice.user) {
                    (Some(room), _) => Some((Kind::Room, room.clone())),
                    (None, Some(user)) => Some((Kind::User, user.clone())),
                    (None, None) => None,
                };
                if let (Some((kind, name)), Some(seq)) = (place, notice.seq)
                    && let Some(tab) = self.tab_of(&kind, &name)
                {
                    tab.delete(seq);
                }
                return;
            }
            _ => return,
        };
        let index = notice.room.as_ref().and_then(|room| self.index_of(&Kind::Room, room)).unwrap_or(self.active);
        let line = Line { time_ms: self.now_ms, said: super::Said::Info, text: text.into() };
        self.tabs[index].add(line);
        if let (Some(topic), "room") = (&notice.topic, notice.kind.as_str()) {
            self.tabs[index].topic = harmless_line(topic, WORDS_BYTES_MAX);
        }
    }

    fn replied(&mut self, ticket: Ticket, result: Result<Box<Answer>, Failed>, server: &mut impl Server) {
        let Some(purpose) = self.asked.remove(&ticket) else { return };
        match (purpose, result) {
            (Purpose::Enter { name }, Ok(answer)) => {
                self.new_token = answer.token;
                let user = answer.user.unwrap_or(name);
                self.entered(&user, server);
            }
            (Purpose::Enter { name }, Err(why)) => self.not_entered(&name, &why),
            (Purpose::Join, Ok(answer)) => self.joined(&answer, server),
            (Purpose::Part { room }, Ok(_)) => {
                if let Some(index) = self.index_of(&Kind::Room, &room) {
                    self.close(index);
                }
            }
            (Purpose::Say { kind, name }, Ok(answer)) => {
                let outcome = answer.seq.map(|seq| (seq, answer.time_ms.unwrap_or(self.now_ms)));
                self.settle(&kind, &name, ticket, outcome);
            }
            (Purpose::Say { kind, name }, Err(why)) => {
                self.settle(&kind, &name, ticket, None);
                self.trouble(&format!("not said: {why}"));
            }
            (Purpose::Older { kind, name }, result) => self.older(&kind, &name, result.ok().as_deref()),
            (Purpose::Found { tab, query }, Ok(answer)) => self.found(&tab, &query, &answer),
            (Purpose::Around { kind, name, seq }, Ok(answer)) => self.around(&kind, &name, seq, &answer),
            (Purpose::Who, Ok(answer)) => self.who(&answer),
            (Purpose::Act(done), Ok(_)) => self.info(done),
            (Purpose::Quiet, _) => {}
            (_, Err(why)) => self.trouble(&why.to_string()),
        }
    }

    fn settle(&mut self, kind: &Kind, name: &str, ticket: Ticket, outcome: Option<(u64, u64)>) {
        if let Some(tab) = self.tab_of(kind, name) {
            tab.settle(ticket, outcome);
        }
    }

    fn joined(&mut self, answer: &Answer, server: &mut impl Server) {
        let Some(room) = &answer.room else { return };
        let (index, is_new) = self.open(Kind::Room, room);
        describe(&mut self.tabs[index], answer);
        self.show(index);
        if is_new {
            self.ask_older(index, server);
        }
    }

    /// Asks for the messages before the first one here.
    pub(super) fn ask_older(&mut self, index: usize, server: &mut impl Server) {
        let tab = &mut self.tabs[index];
        if tab.is_loading || !tab.has_older || tab.lines.len() >= super::tab::LINES_READING_MAX {
            return;
        }
        let before = tab.first_seq();
        let Some((room, user)) = tab.place().map(stillhere_client::Place::parts) else { return };
        let ticket = server.ask(&Request::History { room, user, before, after: None, limit: Some(PAGE), query: None });
        let (kind, name) = (tab.kind.clone(), tab.name.clone());
        tab.is_loading = true;
        self.await_answer(ticket, Purpose::Older { kind, name });
    }

    fn older(&mut self, kind: &Kind, name: &str, answer: Option<&Answer>) {
        let Some(tab) = self.tab_of(kind, name) else { return };
        tab.is_loading = false;
        let Some(answer) = answer else { return };
        tab.has_older = answer.more.unwrap_or(answer.messages.len() as u64 >= PAGE);
        for message in &answer.messages {
            tab.add(Line::message(message));
        }
    }

    fn found(&mut self, kind: &Kind, query: &str, answer: &Answer) {
        let (index, _) = self.open(kind.clone(), query);
        let tab = &mut self.tabs[index];
        *tab = Tab::new(kind.clone(), query);
        for message in &answer.messages {
            tab.add(Line::message(message));
        }
        tab.chosen = tab.lines.len().saturating_sub(1);
        self.show(index);
        if answer.messages.is_empty() {
            self.info("nothing found; try fewer or other words");
        }
    }

    fn around(&mut self, kind: &Kind, name: &str, seq: u64, answer: &Answer) {
        let Some(index) = self.index_of(kind, name) else { return };
        let tab = &mut self.tabs[index];
        for message in &answer.messages {
            tab.add(Line::message(message));
        }
        // Between what was fetched and what was here there may be a hole, which closes as one scrolls through it.
        if let Some(at) = tab.find(seq) {
            tab.scroll.lines = (tab.lines.len() - 1 - at).saturating_sub(3);
            tab.scroll.rows = 0;
        }
        self.show(index);
    }

    fn who(&mut self, answer: &Answer) {
        let mut users: Vec<String> = answer.users.iter().map(|user| self.described(user)).collect();
        users.sort();
        let count = match (answer.members, answer.alive) {
            (Some(members), Some(alive)) => format!("{members} are here, {alive} of them alive"),
            _ => format!("{} known", users.len()),
        };
        let more = users.len().saturating_sub(WHO_MAX);
        users.truncate(WHO_MAX);
        let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
        self.info(&format!("{count}\n{}{more}", users.join("\n")));
    }

    fn described(&self, presence: &Presence) -> String {
        let name = harmless_line(&presence.user, NAME_BYTES_MAX);
        let cause = presence.cause.map_or(String::new(), |cause| format!(", {}: {}", cause.name(), cause.meaning()));
        let since = crate::view::span(self.now_ms.saturating_sub(presence.since_ms));
        format!("{name} is {} for {since}{cause}", presence.status.name())
    }
}

/// What the answer to `join` tells of a room.
fn describe(tab: &mut Tab, answer: &Answer) {
    tab.roster.clear();
    answer.users.iter().for_each(|presence| tab.presence(presence));
    tab.counts = answer.members.map(|members| (members, answer.alive.unwrap_or(0)));
    tab.topic = answer.topic.as_deref().map_or_else(String::new, |topic| harmless_line(topic, WORDS_BYTES_MAX));
}
