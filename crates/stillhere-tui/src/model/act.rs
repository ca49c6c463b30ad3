//! What a typed line does.

use stillhere_client::{Request, Ticket};

use super::command::{Command, span_ms};
use super::tab::{Kind, Line, Said};
use super::{App, End, PAGE, Purpose, Server};
use crate::text::harmless;

impl App {
    /// Enter was pressed on the input line.
    pub(super) fn submit(&mut self, server: &mut impl Server) {
        if let Kind::Found(_) = self.tab().kind
            && self.input.text().is_empty()
        {
            return self.jump(server);
        }
        let typed = self.input.take();
        if typed.trim().is_empty() {
            return;
        }
        match typed.strip_prefix('/') {
            // Two slashes say one.
            Some(said) if said.starts_with('/') => self.say(said, server),
            Some(typed) => match Command::parse(typed) {
                Ok((command, rest)) => self.run(command, rest, server),
                Err(why) => self.trouble(&why),
            },
            None => self.say(&typed, server),
        }
    }

    fn say(&mut self, text: &str, server: &mut impl Server) {
        let tab = self.tab();
        let (kind, name) = (tab.kind.clone(), tab.name.clone());
        let ticket = match kind {
            Kind::Room => server.say(&name, text),
            Kind::User => server.tell(&name, text),
            Kind::Home | Kind::Found(_) => {
                return self.trouble("nobody is here to hear it; /join a room or /tell a user");
            }
        };
        self.under_way(kind, &name, ticket, text);
    }

    /// Shows an own message at once; the answer gives it its place.
    fn under_way(&mut self, kind: Kind, name: &str, ticket: Ticket, text: &str) {
        let from = self.me.as_deref().unwrap_or("me").into();
        let said = Said::Message { from, seq: 0, under_way: Some(ticket), failed: false };
        let line = Line { time_ms: self.now_ms, said, text: harmless(text) };
        if let Some(tab) = self.tab_of(&kind, name) {
            tab.follow();
            tab.add(line);
        }
        self.await_answer(ticket, Purpose::Say { kind, name: name.to_owned() });
    }

    fn run(&mut self, command: Command, rest: &str, server: &mut impl Server) {
        let row = command.row();
        let needs_more = !row.args.is_empty() && !row.args.starts_with('[') && rest.is_empty();
        if needs_more {
            return self.trouble(&format!("/{} needs more: /{} {}", row.name, row.name, row.args));
        }
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        match command {
            Command::Help => self.help(),
            Command::Quit => self.end = Some(End::Quit),
            Command::Leave => {
                self.is_away = true;
                server.leave();
                self.info("you are away; messages gather and come when you are /back");
            }
            Command::Back => {
                self.is_away = false;
                server.back();
                self.info("you are back");
            }
            Command::Join => self.ask_join(first, server),
            Command::Part => self.part(server),
            Command::Tell => self.tell(first, more.trim(), server),
            Command::Me => self.say(&format!("* {rest}"), server),
            Command::Search => self.search(rest, server),
            Command::Who => self.ask_who(first, server),
            Command::Block => self.act(&Request::Block { user: first }, "blocked; /unblock ends that", server),
            Command::Unblock => self.act(&Request::Unblock { user: first }, "no longer blocked", server),
            Command::Delete => self.delete(first, server),
            Command::Topic | Command::Invite | Command::Mute | Command::Remove => self.govern(command, rest, server),
        }
    }

    fn act(&mut self, request: &Request<'_>, done: &'static str, server: &mut impl Server) {
        let ticket = server.ask(request);
        self.await_answer(ticket, Purpose::Act(done));
    }

    /// What concerns the room of this tab.
    fn govern(&mut self, command: Command, rest: &str, server: &mut impl Server) {
        if self.tab().kind != Kind::Room {
            return self.trouble("that is for rooms; go to a room's tab first");
        }
        let room = &self.tab().name.clone();
        let (user, span) = rest.split_once(' ').unwrap_or((rest, ""));
        let for_ms = match span.trim() {
            "" => None,
            span => match span_ms(span) {
                Some(span) => Some(span),
                None if command == Command::Topic => None,
                None => return self.trouble("for how long? write 30s, 10m, 2h or 1d"),
            },
        };
        match command {
            Command::Topic => {
                let request = Request::Room { room, topic: Some(rest), public: None, radius: None };
                self.act(&request, "the topic is set", server);
            }
            Command::Invite => self.act(&Request::Invite { room, user }, "invited", server),
            Command::Mute => {
                self.act(&Request::Mute { room, user, for_ms: for_ms.unwrap_or(600_000) }, "muted", server);
            }
            _ => self.act(&Request::Remove { room, user, for_ms: for_ms.unwrap_or(0) }, "removed", server),
        }
    }

    fn delete(&mut self, seq: &str, server: &mut impl Server) {
        let Ok(seq) = seq.trim_start_matches('#').parse() else {
            return self.trouble("which one? /search shows the numbers of messages");
        };
        let Some((room, user)) = self.tab().place().map(|place| place.parts()) else {
            return self.trouble("go to the tab that has the message first");
        };
        let ticket = server.ask(&Request::Delete { room, user, seq });
        self.await_answer(ticket, Purpose::Act("deleted"));
    }

    fn part(&mut self, server: &mut impl Server) {
        let tab = self.tab();
        match tab.kind {
            Kind::Room => {
                let room = tab.name.clone();
                let ticket = server.ask(&Request::Part { room: &room });
                self.await_answer(ticket, Purpose::Part { room });
            }
            Kind::User | Kind::Found(_) => self.close(self.active),
            Kind::Home => self.trouble("this tab stays; /quit ends the program"),
        }
    }

    fn tell(&mut self, user: &str, text: &str, server: &mut impl Server) {
        let user = user.trim_start_matches('@');
        let (index, is_new) = self.open(Kind::User, user);
        self.show(index);
        if is_new {
            self.ask_older(index, server);
            let ticket = server.ask(&Request::Watch { users: &[user] });
            self.await_answer(ticket, Purpose::Quiet);
        }
        if !text.is_empty() {
            let ticket = server.tell(user, text);
            self.under_way(Kind::User, user, ticket, text);
        }
    }

    fn ask_who(&mut self, user: &str, server: &mut impl Server) {
        let ticket = if user.is_empty() {
            let (room, user) = self.tab().place().map_or((None, None), |place| place.parts());
            server.ask(&Request::Who { room, user })
        } else {
            server.ask(&Request::Who { room: None, user: Some(user.trim_start_matches('@')) })
        };
        self.await_answer(ticket, Purpose::Who);
    }

    fn search(&mut self, query: &str, server: &mut impl Server) {
        let (kind, name) = match &self.tab().kind {
            Kind::Found(place) => (**place).clone(),
            kind => (kind.clone(), self.tab().name.clone()),
        };
        let (room, user) = match kind {
            Kind::Room => (Some(&*name), None),
            Kind::User => (None, Some(&*name)),
            Kind::Home | Kind::Found(_) => {
                return self.trouble("go to a room or conversation first: that is what is searched");
            }
        };
        let request = Request::History { room, user, before: None, after: None, limit: Some(PAGE), query: Some(query) };
        let ticket = server.ask(&request);
        let tab = Kind::Found(Box::new((kind, name.clone())));
        self.await_answer(ticket, Purpose::Found { tab, query: query.to_owned() });
    }

    /// From a found message to where it stands.
    fn jump(&mut self, server: &mut impl Server) {
        let tab = self.tab();
        let Kind::Found(place) = &tab.kind else { return };
        let (kind, name) = (**place).clone();
        let Some(Line { said: Said::Message { seq, .. }, .. }) = tab.lines.get(tab.chosen) else { return };
        let seq = *seq;
        let (room, user) = match kind {
            Kind::Room => (Some(&*name), None),
            _ => (None, Some(&*name)),
        };
        let (before, after) = (Some(seq + PAGE / 2), Some(seq.saturating_sub(PAGE / 2)));
        let ticket = server.ask(&Request::History { room, user, before, after, limit: Some(PAGE), query: None });
        self.await_answer(ticket, Purpose::Around { kind, name, seq });
    }

    fn help(&mut self) {
        let mut page = String::new();
        for command in Command::ALL {
            let row = command.row();
            let gap = if row.args.is_empty() { "" } else { " " };
            page.push_str(&format!("/{}{gap}{}: {}\n", row.name, row.args, row.help));
        }
        page.push_str("\nTab completes names, or shows the next tab; Alt-1 to Alt-9 and a click choose one.\n");
        page.push_str("PgUp, PgDn and the wheel scroll; End shows the newest; Up brings back what you typed.");
        self.info(&page);
    }
}
