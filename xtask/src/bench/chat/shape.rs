//! Which member of the crowd has which place.

use std::ops::Range;

/// Rooms and who is in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) rooms: usize,
    /// Members of a room who only listen; its publisher comes on top.
    pub(super) receivers: usize,
}

impl Shape {
    pub(super) fn members(self) -> usize {
        self.rooms * (self.receivers + 1)
    }

    /// A room's publisher, its first member.
    pub(super) fn publisher(self, room: usize) -> usize {
        room * (self.receivers + 1)
    }

    pub(super) fn room(self, member: usize) -> usize {
        member / (self.receivers + 1)
    }

    /// A room's other members.
    pub(super) fn receivers(self, room: usize) -> Range<usize> {
        self.publisher(room) + 1..self.publisher(room + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_its_rooms_publisher_or_one_of_its_receivers() {
        let shape = Shape { rooms: 3, receivers: 2 };
        assert_eq!(shape.members(), 9);
        for room in 0..3 {
            let members = std::iter::once(shape.publisher(room)).chain(shape.receivers(room));
            assert!(members.eq(3 * room..3 * room + 3), "{room}");
            assert!((3 * room..3 * room + 3).all(|member| shape.room(member) == room), "{room}");
        }
    }
}
