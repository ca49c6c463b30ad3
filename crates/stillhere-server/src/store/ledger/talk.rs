//! Conversations of two: one row of messages, and a mailbox for each of them that refers to it.
//!
//! Who may write to whom: nobody to one who has blocked them. With `rooms.strangers = refuse` only those whom the
//! other has allowed, to whom it has written, or with whom it is a member (invited or more) of a room; mere presence in a
//! public room isn't kept here and doesn't count. A block and a stranger get the same answer, so that nobody learns of a
//! block; where strangers are refused, so does a name that nobody has.

use std::time::Duration;

use stillhere_core::ledger::{Draft, News, Outcome, Refused};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;
use stillhere_core::wire::push::Notice;

use super::super::base::{Kept, Kind, Rows, Talk, User};
use super::room::message;
use super::{Decided, Ledger, refuse};

/// When to try again to write to somebody whose mailbox is full: it takes a login and some reading.
const MAILBOX_RETRY: Duration = Duration::from_secs(60);

/// Both ends of a pair in their order, and the bit of the first.
fn pair(one: i64, other: i64) -> ((i64, i64), u8) {
    if one <= other { ((one, other), 0b01) } else { ((other, one), 0b10) }
}

impl Ledger {
    /// The conversation of two, with its newest seq.
    pub(super) fn find_talk(&mut self, rows: &mut dyn Rows, one: i64, other: i64) -> Kept<Option<(Talk, u64)>> {
        let (pair, _) = pair(one, other);
        if let Some(found) = self.talks.get(&pair, self.turn) {
            return Ok(Some(*found));
        }
        let Some(talk) = rows.talk(pair.0, pair.1)? else { return Ok(None) };
        let found = (talk, rows.ends(talk.stream)?.head);
        self.remember_tail(rows, talk.stream)?;
        self.talks.put(pair, found, self.turn);
        Ok(Some(found))
    }

    pub(super) fn tell_user(&mut self, rows: &mut dyn Rows, user: &Name, to: &Name, draft: &Draft) -> Decided<Outcome> {
        let sender = self.user(rows, user)?;
        let nobody = if self.rules.strangers_may_write { ErrorCode::NO_SUCH_USER } else { ErrorCode::STRANGER };
        let receiver = self.find_user(rows, to)?.filter(|receiver| !receiver.disabled).ok_or_else(|| refuse(nobody))?;
        let known = self.find_talk(rows, sender.id, receiver.id)?;
        // Before anything that may have changed meanwhile: what was acknowledged stays so.
        if let Some((talk, _)) = known
            && let Some(earlier) = self.look(self.print(talk.stream, sender.id, draft))?
        {
            return Ok(earlier);
        }
        self.may_write(rows, sender, receiver, known)?;
        let is_own = sender.id == receiver.id;
        let cap = self.rules.mailbox_max;
        if !is_own && self.letters(rows, receiver.mailbox)?.waiting >= cap {
            return Err(Refused { retry: Some(MAILBOX_RETRY), ..refuse(ErrorCode::MAILBOX_FULL) }.into());
        }
        let (pair, bit) = pair(sender.id, receiver.id);
        let (mut talk, head) = match known {
            Some(known) => known,
            None => (rows.add_talk(pair.0, pair.1)?, 0),
        };
        let (seq, time_ms) = (head + 1, self.now_ms);
        rows.post(talk.stream, seq, sender.id, time_ms, draft)?;
        if talk.wrote & bit == 0 {
            talk.wrote |= bit;
            rows.set_wrote(talk.stream, talk.wrote)?;
        }
        self.talks.put(pair, (talk, seq), self.turn);
        self.note(talk.stream, seq, self.print(talk.stream, sender.id, draft));
        self.check_length(talk.stream, Kind::Conversation, seq, 0);
        let frame = self.frame(&message(draft, None, Some(to), seq, user, time_ms));
        for (mailbox, incoming) in [(receiver.mailbox, true), (sender.mailbox, false)] {
            if is_own && incoming {
                continue;
            }
            let letters = self.letters(rows, mailbox)?;
            letters.ends.head += 1;
            letters.waiting += u64::from(incoming);
            let (position, trimmed) = (letters.ends.head, letters.ends.trimmed);
            rows.mail(mailbox, position, talk.stream, seq, incoming)?;
            self.check_length(mailbox, Kind::Mailbox, position, trimmed);
            self.spread(mailbox, News::Message { stream: mailbox, position, by: draft.by, frame: frame.clone() });
        }
        Ok(Outcome::Posted { seq, time_ms })
    }

    fn may_write(
        &mut self,
        rows: &mut dyn Rows,
        sender: User,
        receiver: User,
        known: Option<(Talk, u64)>,
    ) -> Decided<()> {
        if sender.id == receiver.id {
            return Ok(());
        }
        let (_, bit) = pair(receiver.id, sender.id);
        let is_welcome = match rows.relation(receiver.id, sender.id)? {
            Some(allowed) => allowed,
            None => {
                self.rules.strangers_may_write
                    || known.is_some_and(|(talk, _)| talk.wrote & bit != 0)
                    || rows.share_room(sender.id, receiver.id)?
            }
        };
        if is_welcome { Ok(()) } else { Err(refuse(ErrorCode::STRANGER).into()) }
    }

    /// Takes back one's own message to another user.
    pub(super) fn unsay(&mut self, rows: &mut dyn Rows, by: &Name, other: &Name, seq: u64) -> Decided<()> {
        let user = self.user(rows, by)?;
        let gone = || refuse(ErrorCode::NO_SUCH_MESSAGE);
        let receiver = self.find_user(rows, other)?.ok_or_else(gone)?;
        let (talk, _) = self.find_talk(rows, user.id, receiver.id)?.ok_or_else(gone)?;
        if rows.sender(talk.stream, seq)?.ok_or_else(gone)? != user.id {
            return Err(refuse(ErrorCode::NOT_ALLOWED).into());
        }
        rows.erase(talk.stream, seq)?;
        self.erased = true;
        self.touched.insert(talk.stream);
        for (mailbox, with) in [(user.mailbox, other), (receiver.mailbox, by)] {
            let notice = Notice {
                op: "notice".into(),
                kind: "deleted".into(),
                by: Some(by.as_str().into()),
                user: Some(with.as_str().into()),
                seq: Some(seq),
                ..Notice::default()
            };
            let frame = self.frame(&notice);
            self.spread(mailbox, News::Notice { stream: mailbox, frame });
            if user.id == receiver.id {
                break;
            }
        }
        Ok(())
    }
}
