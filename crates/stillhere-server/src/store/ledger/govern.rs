//! Changes to rooms. Who may do what stands in the core's `rights`.

use std::time::Duration;

use stillhere_core::ledger::{Act, News, Role, RoomState, StreamId};
use stillhere_core::name::Name;
use stillhere_core::rights::{Deed, may};
use stillhere_core::wire::error::ErrorCode;
use stillhere_core::wire::push::Notice;

use super::super::base::{Member, Rows, User};
use super::{Decided, Ledger, refuse};

/// Users of whom a room remembers something: roles, invitations, mutes, removals.
const MEMBERS_MAX: u64 = 10_000;
/// The longest mute or removal: ten years.
const SPAN_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// Who acts where.
struct Scene<'a> {
    by: &'a Name,
    user: User,
    role: Role,
    stream: StreamId,
    room: &'a Name,
}

impl Scene<'_> {
    fn notice<'n>(&'n self, kind: &'static str) -> Notice<'n> {
        Notice {
            op: "notice".into(),
            kind: kind.into(),
            room: Some(self.room.as_str().into()),
            by: Some(self.by.as_str().into()),
            ..Notice::default()
        }
    }

    fn allow(&self, deed: Deed) -> Decided<()> {
        if may(self.role, deed) { Ok(()) } else { Err(refuse(ErrorCode::NOT_ALLOWED).into()) }
    }
}

impl Ledger {
    pub(super) fn govern(&mut self, rows: &mut dyn Rows, by: &Name, room: &Name, act: &Act) -> Decided<()> {
        let user = self.user(rows, by)?;
        let stream = self.room_by_name(rows, room)?.stream;
        let role = rows.member(stream, user.id)?.role;
        let scene = Scene { by, user, role, stream, room };
        match act {
            Act::Set { topic, public, radius } => self.set(rows, &scene, topic.as_deref(), *public, *radius),
            Act::Role { user, role } => self.give_role(rows, &scene, user, *role),
            Act::Invite { user } => self.invite(rows, &scene, user),
            Act::Mute { user, span } => self.mute(rows, &scene, user, *span),
            Act::Remove { user, span } => self.remove(rows, &scene, user, *span),
            Act::Delete { seq } => self.delete(rows, &scene, *seq),
        }
    }

    fn set(
        &mut self,
        rows: &mut dyn Rows,
        scene: &Scene<'_>,
        topic: Option<&str>,
        public: Option<bool>,
        radius: Option<f64>,
    ) -> Decided<()> {
        scene.allow(Deed::Set)?;
        let room = self.room(rows, scene.stream)?;
        let before = &room.state;
        let state = RoomState {
            topic: topic.map_or_else(|| before.topic.clone(), Into::into),
            public: public.unwrap_or(before.public),
            radius: radius.map_or(before.radius, |radius| (radius > 0.0).then_some(radius)),
        };
        rows.set_room(scene.stream, &state)?;
        room.state = state.clone();
        let notice = Notice {
            topic: Some((&*state.topic).into()),
            public: Some(state.public),
            radius: state.radius,
            ..scene.notice("room")
        };
        let frame = self.frame(&notice);
        self.spread(scene.stream, News::Room { stream: scene.stream, state: state.clone() });
        self.spread(scene.stream, News::Notice { stream: scene.stream, frame });
        Ok(())
    }

    fn give_role(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, name: &Name, role: Role) -> Decided<()> {
        let (target, member) = self.target(rows, scene, name)?;
        scene.allow(Deed::Role { from: member.role, to: role })?;
        if member.role == Role::Owner && role != Role::Owner && rows.owners(scene.stream)? <= 1 {
            let refusal = ErrorCode::NOT_ALLOWED.because("a room keeps its last owner; make another one first");
            return Err(super::Stop::Refused(refusal.into()));
        }
        if member.role == role {
            return Ok(());
        }
        self.change(rows, scene.stream, target.id, member, Member { role, ..member })?;
        let frame = self.frame(&Notice { user: Some(name.as_str().into()), role: Some(role), ..scene.notice("role") });
        self.spread(scene.stream, News::Notice { stream: scene.stream, frame });
        Ok(())
    }

    fn invite(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, name: &Name) -> Decided<()> {
        scene.allow(Deed::Invite)?;
        let (target, member) = self.target(rows, scene, name)?;
        if member.role >= Role::Member {
            return Ok(());
        }
        self.change(rows, scene.stream, target.id, member, Member { role: Role::Member, ..member })?;
        let notice = Notice { user: Some(name.as_str().into()), role: Some(Role::Member), ..scene.notice("role") };
        let frame = self.frame(&notice);
        self.spread(scene.stream, News::Notice { stream: scene.stream, frame });
        Ok(())
    }

    fn mute(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, name: &Name, span: Duration) -> Decided<()> {
        let (target, member) = self.target(rows, scene, name)?;
        scene.allow(Deed::Mute(member.role))?;
        let span = span.min(SPAN_MAX);
        let muted_until_ms = if span.is_zero() { 0 } else { self.now_ms + span.as_millis() as u64 };
        self.change(rows, scene.stream, target.id, member, Member { muted_until_ms, ..member })?;
        let frame = self.frame(&Notice {
            user: Some(name.as_str().into()),
            for_ms: Some(span.as_millis() as u64),
            ..scene.notice("muted")
        });
        self.spread(scene.stream, News::Muted { stream: scene.stream, user: name.clone(), span });
        self.spread(scene.stream, News::Notice { stream: scene.stream, frame });
        Ok(())
    }

    fn remove(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, name: &Name, span: Duration) -> Decided<()> {
        let (target, member) = self.target(rows, scene, name)?;
        scene.allow(Deed::Remove(member.role))?;
        let span = span.min(SPAN_MAX);
        let removed_until_ms = if span.is_zero() { 0 } else { self.now_ms + span.as_millis() as u64 };
        self.change(rows, scene.stream, target.id, member, Member { removed_until_ms, ..member })?;
        let frame = self.frame(&Notice {
            user: Some(name.as_str().into()),
            for_ms: Some(span.as_millis() as u64),
            ..scene.notice("removed")
        });
        self.spread(scene.stream, News::Removed { stream: scene.stream, user: name.clone(), frame });
        Ok(())
    }

    fn delete(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, seq: u64) -> Decided<()> {
        // Whoever may not even know the room's messages learns nothing of which there are.
        let sender = rows.sender(scene.stream, seq)?;
        if sender != Some(scene.user.id) {
            scene.allow(Deed::Delete)?;
        }
        if sender.is_none() {
            return Err(refuse(ErrorCode::NO_SUCH_MESSAGE).into());
        }
        rows.erase(scene.stream, seq)?;
        self.erased = true;
        self.touched.insert(scene.stream);
        let frame = self.frame(&Notice { seq: Some(seq), ..scene.notice("deleted") });
        self.spread(scene.stream, News::Notice { stream: scene.stream, frame });
        Ok(())
    }

    /// The user that something is done to.
    fn target(&mut self, rows: &mut dyn Rows, scene: &Scene<'_>, name: &Name) -> Decided<(User, Member)> {
        // Before anything is said of other users.
        if scene.role < Role::Moderator {
            return Err(refuse(ErrorCode::NOT_ALLOWED).into());
        }
        let user = self.find_user(rows, name)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_USER))?;
        Ok((user, rows.member(scene.stream, user.id)?))
    }

    fn change(
        &mut self,
        rows: &mut dyn Rows,
        stream: StreamId,
        user: i64,
        before: Member,
        after: Member,
    ) -> Decided<()> {
        if before == Member::NONE && rows.members(stream)? >= MEMBERS_MAX {
            return Err(refuse(ErrorCode::TOO_MANY).into());
        }
        rows.set_member(stream, user, after)?;
        let now_ms = self.now_ms;
        let room = self.room(rows, stream)?;
        if after.muted_until_ms > now_ms || after.removed_until_ms > now_ms {
            room.barred.insert(user, after);
        } else {
            room.barred.remove(&user);
        }
        Ok(())
    }
}
