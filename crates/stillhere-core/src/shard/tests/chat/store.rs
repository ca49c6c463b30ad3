//! A store in memory that answers when it is told to, and sometimes doesn't want to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde_json::json;

use crate::ledger::{
    Act, Draft, Mailbox, News, Order, OrderId, Outcome, Page, Refused, Role, RoomState, StreamId, Told,
};
use crate::name::Name;
use crate::secret::SessionId;
use crate::shard::tests::frame;
use crate::wire::error::ErrorCode;

/// A message as it was committed.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) by: SessionId,
    frame: Bytes,
}

#[derive(Default)]
pub(super) struct Stream {
    pub(super) messages: Vec<Kept>,
    /// A room's name.
    room: Option<Name>,
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) rooms: BTreeMap<Name, StreamId>,
    pub(super) mailboxes: BTreeMap<Name, StreamId>,
    handled: BTreeMap<Name, u64>,
    pub(super) subscriptions: BTreeMap<(usize, StreamId), i64>,
    pub(super) disabled: BTreeSet<Name>,
    pub(super) allows: bool,
    pub(super) radius: Option<f64>,
    incoming: VecDeque<(usize, OrderId, Order)>,
    pub(super) outgoing: BTreeMap<usize, VecDeque<Told>>,
    /// So many of the next orders are refused.
    pub(super) refuses: usize,
}

impl Store {
    pub(super) fn take(&mut self, shard: usize, id: OrderId, order: Order) {
        self.incoming.push_back((shard, id, order));
    }

    /// Carries out the next order; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let Some((shard, id, order)) = self.incoming.pop_front() else { return false };
        let must = matches!(order, Order::Release { .. } | Order::Handled { .. });
        let outcome = if self.refuses > 0 && !must {
            self.refuses -= 1;
            let retry = Some(std::time::Duration::from_millis(100));
            Err(Refused { refusal: ErrorCode::BUSY.because("no time"), retry, close: None })
        } else {
            self.carry_out(shard, order)
        };
        self.outgoing.entry(shard).or_default().push_back(Told::Outcome(id, outcome));
        true
    }

    pub(super) fn is_idle(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.values().all(VecDeque::is_empty)
    }

    fn carry_out(&mut self, shard: usize, order: Order) -> Result<Outcome, Refused> {
        match order {
            Order::Enter { user, .. } => {
                let user = user.expect("tokens aren't known here");
                if self.disabled.contains(&user) {
                    let refusal = ErrorCode::LOGIN_FIRST.because("disabled");
                    let close = Some(crate::close::CloseCode::Disabled);
                    return Err(Refused { refusal, retry: None, close });
                }
                let mailbox = self.mailbox(&user);
                *self.subscriptions.entry((shard, mailbox.stream)).or_default() += 1;
                Ok(Outcome::Entered { user, verified: true, token: None, mailbox })
            }
            Order::Join { room, .. } => {
                let stream = self.room(&room);
                *self.subscriptions.entry((shard, stream)).or_default() += 1;
                Ok(Outcome::Joined {
                    stream,
                    head: self.streams[&stream].messages.len() as u64,
                    trimmed: 0,
                    role: Role::Member,
                    muted: std::time::Duration::ZERO,
                    state: RoomState { topic: "".into(), public: true, radius: self.radius },
                })
            }
            Order::Release { stream } => {
                let count = self.subscriptions.entry((shard, stream)).or_default();
                *count -= 1;
                assert!(*count >= 0, "nothing is released that wasn't subscribed");
                Ok(Outcome::Done)
            }
            Order::Say { stream, user, draft } => Ok(self.post(&[stream], &user, None, &draft)),
            Order::Tell { user, to, draft } => {
                let both = [self.mailbox(&user).stream, self.mailbox(&to).stream];
                let both = if both[0] == both[1] { &both[..1] } else { &both[..] };
                Ok(self.post(both, &user, Some(&to), &draft))
            }
            Order::Page { stream, after, limit } => {
                let messages = &self.streams[&stream].messages;
                // Small pages, so that there are several.
                let rest = (1u64..).zip(messages).skip(after as usize).take(limit.min(3) as usize);
                let messages: Vec<(u64, Bytes)> = rest.map(|(position, kept)| (position, kept.frame.clone())).collect();
                let upto = messages.last().map_or(self.streams[&stream].messages.len() as u64, |(last, _)| *last);
                Ok(Outcome::Page(Page { messages, upto }))
            }
            Order::Handled { user, position } => {
                let handled = self.handled.entry(user).or_default();
                *handled = position.max(*handled);
                Ok(Outcome::Done)
            }
            Order::MaySee { users, .. } => Ok(Outcome::MaySee(if self.allows { users } else { Vec::new() })),
            Order::Govern { room, act: Act::Remove { user, .. }, .. } => {
                let stream = self.room(&room);
                let body = json!({"op": "notice", "kind": "removed", "room": room.as_str(), "user": user.as_str()});
                let frame = Bytes::from(frame(&body.to_string()));
                self.tell(stream, &News::Removed { stream, user, frame });
                Ok(Outcome::Done)
            }
            other => panic!("{other:?}"),
        }
    }

    fn mailbox(&mut self, user: &Name) -> Mailbox {
        let next = StreamId(self.streams.len() as u64 + 1);
        let stream = *self.mailboxes.entry(user.clone()).or_insert(next);
        let head = self.streams.entry(stream).or_default().messages.len() as u64;
        Mailbox { stream, head, handled: self.handled.get(user).copied().unwrap_or(0) }
    }

    fn room(&mut self, room: &Name) -> StreamId {
        let next = StreamId(self.streams.len() as u64 + 1);
        let stream = *self.rooms.entry(room.clone()).or_insert(next);
        self.streams.entry(stream).or_default().room = Some(room.clone());
        stream
    }

    fn post(&mut self, streams: &[StreamId], from: &Name, to: Option<&Name>, draft: &Draft) -> Outcome {
        let mut seq = 0;
        for stream in streams {
            let kept = self.streams.get_mut(stream).expect("a stream");
            let position = kept.messages.len() as u64 + 1;
            seq = position;
            let mut body = json!({"op": "message", "seq": position, "from": from.as_str(), "text": &*draft.text,
                "time_ms": 1});
            match (&kept.room, to) {
                (Some(room), _) => body["room"] = room.as_str().into(),
                (None, to) => body["to"] = to.map(Name::as_str).into(),
            }
            let frame = Bytes::from(frame(&body.to_string()));
            kept.messages.push(Kept { by: draft.by, frame: frame.clone() });
            self.tell(*stream, &News::Message { stream: *stream, position, by: draft.by, frame });
        }
        Outcome::Posted { seq, time_ms: 1 }
    }

    fn tell(&mut self, stream: StreamId, news: &News) {
        for ((shard, of), count) in &self.subscriptions {
            if *of == stream && *count > 0 {
                self.outgoing.entry(*shard).or_default().push_back(Told::News(news.clone()));
            }
        }
    }
}
