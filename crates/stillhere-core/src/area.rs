//! Who is near: the positions of a room's members in a grid.
//!
//! The cells are as wide as the radius, so whoever is within it is in one of nine cells. The members of a cell are a
//! list through one dense table of members: moving allocates nothing, an empty cell is gone, and memory follows the
//! members.
//!
//! Who calls it: an area room, for `join` and `signal` with `at`.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;

/// The largest coordinate, either way. Below it the cells of the smallest radius can be counted exactly.
pub const COORDINATE_MAX: f64 = 1e9;
/// The smallest radius.
pub const RADIUS_MIN: f64 = 1e-3;
/// The largest radius: it covers all there is.
pub const RADIUS_MAX: f64 = 4e9;
/// Cells are wider than the radius by this much, which is more than all rounding between a point and its cell: at most
/// 3 parts in 10,000 of a cell, for the largest coordinate and the smallest radius.
const SLACK: f64 = 1.0 / 1024.0;

/// A position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    x: f64,
    y: f64,
}

impl Point {
    /// `None` unless both are numbers within ±[`COORDINATE_MAX`].
    pub fn new(x: f64, y: f64) -> Option<Point> {
        (x.abs() <= COORDINATE_MAX && y.abs() <= COORDINATE_MAX).then_some(Point { x, y })
    }

    /// To the right.
    pub fn x(&self) -> f64 {
        self.x
    }

    /// Upwards, or downwards; it makes no difference here.
    pub fn y(&self) -> f64 {
        self.y
    }

    /// Whether the other point is at most `radius` away.
    pub fn is_within(&self, radius: f64, other: Point) -> bool {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        dx * dx + dy * dy <= radius * radius
    }
}

/// The members of a room by position.
#[derive(Debug)]
pub struct Grid {
    radius: f64,
    side: f64,
    /// Where in `nodes` each member is.
    places: HashMap<u32, u32, DefaultHashBuilder>,
    /// The first member of each cell that has one.
    cells: HashMap<Cell, u32, DefaultHashBuilder>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cell(i64, i64);

#[derive(Debug)]
struct Node {
    member: u32,
    at: Point,
    cell: Cell,
    /// The neighbours in the list of the cell, or [`NONE`].
    before: u32,
    after: u32,
}

/// No node.
const NONE: u32 = u32::MAX;

impl Grid {
    /// An empty grid; `None` unless the radius is within [`RADIUS_MIN`] and [`RADIUS_MAX`].
    pub fn new(radius: f64) -> Option<Grid> {
        let mut grid =
            Grid { radius: 0.0, side: 0.0, places: HashMap::default(), cells: HashMap::default(), nodes: Vec::new() };
        grid.set_radius(radius).then_some(grid)
    }

    /// How far a signal reaches.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// Sets how far a signal reaches, and sorts all members into new cells. False, and nothing is changed, unless the
    /// radius is within [`RADIUS_MIN`] and [`RADIUS_MAX`].
    pub fn set_radius(&mut self, radius: f64) -> bool {
        if !(RADIUS_MIN..=RADIUS_MAX).contains(&radius) {
            return false;
        }
        self.radius = radius;
        self.side = radius * (1.0 + SLACK);
        self.cells.clear();
        for place in 0..self.nodes.len() {
            self.nodes[place].cell = self.cell(self.nodes[place].at);
            self.link(place as u32);
        }
        true
    }

    /// Puts a member somewhere, or moves it there.
    pub fn place(&mut self, member: u32, at: Point) {
        let cell = self.cell(at);
        let Some(&place) = self.places.get(&member) else {
            let place = self.nodes.len() as u32;
            self.nodes.push(Node { member, at, cell, before: NONE, after: NONE });
            self.places.insert(member, place);
            return self.link(place);
        };
        let node = &mut self.nodes[place as usize];
        node.at = at;
        if node.cell != cell {
            self.unlink(place);
            self.nodes[place as usize].cell = cell;
            self.link(place);
        }
    }

    /// Takes a member out; false if it had no position.
    pub fn remove(&mut self, member: u32) -> bool {
        let Some(place) = self.places.remove(&member) else { return false };
        self.unlink(place);
        self.nodes.swap_remove(place as usize);
        // The last node has moved here.
        if let Some(moved) = self.nodes.get(place as usize) {
            let (moved, cell, before, after) = (moved.member, moved.cell, moved.before, moved.after);
            self.places.insert(moved, place);
            self.set_after(before, cell, place);
            self.set_before(after, place);
        }
        true
    }

    /// Where a member is.
    pub fn position(&self, member: u32) -> Option<Point> {
        let place = *self.places.get(&member)?;
        Some(self.nodes[place as usize].at)
    }

    /// How many members have a position.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody has a position.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Visits every member at most [`Grid::radius`] away from `at`, once, in no order.
    pub fn near(&self, at: Point, mut visit: impl FnMut(u32)) {
        let Cell(column, row) = self.cell(at);
        for x in column - 1..=column + 1 {
            for y in row - 1..=row + 1 {
                let mut place = self.cells.get(&Cell(x, y)).copied().unwrap_or(NONE);
                while let Some(node) = self.nodes.get(place as usize) {
                    if node.at.is_within(self.radius, at) {
                        visit(node.member);
                    }
                    place = node.after;
                }
            }
        }
    }

    fn cell(&self, at: Point) -> Cell {
        Cell((at.x / self.side).floor() as i64, (at.y / self.side).floor() as i64)
    }

    /// Puts a node at the head of its cell's list.
    fn link(&mut self, place: u32) {
        let cell = self.nodes[place as usize].cell;
        let head = self.cells.insert(cell, place).unwrap_or(NONE);
        self.nodes[place as usize].before = NONE;
        self.nodes[place as usize].after = head;
        self.set_before(head, place);
    }

    fn unlink(&mut self, place: u32) {
        let Node { cell, before, after, .. } = self.nodes[place as usize];
        if before == NONE && after == NONE {
            self.cells.remove(&cell);
            return;
        }
        self.set_after(before, cell, after);
        self.set_before(after, before);
    }

    /// Sets what follows a node; what follows none is the head of the cell's list.
    fn set_after(&mut self, place: u32, cell: Cell, after: u32) {
        match self.nodes.get_mut(place as usize) {
            Some(node) => node.after = after,
            None => {
                self.cells.insert(cell, after);
            }
        }
    }

    /// Sets what precedes a node, if it is one.
    fn set_before(&mut self, place: u32, before: u32) {
        if let Some(node) = self.nodes.get_mut(place as usize) {
            node.before = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashSet};

    fn point(x: f64, y: f64) -> Point {
        Point::new(x, y).unwrap()
    }

    fn near(grid: &Grid, at: Point) -> Vec<u32> {
        let mut members = Vec::new();
        grid.near(at, |member| members.push(member));
        members.sort_unstable();
        members
    }

    #[test]
    fn only_numbers_within_bounds_are_positions_and_radii() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.000_001e9, -1.000_001e9] {
            assert_eq!(Point::new(bad, 0.0), None);
            assert_eq!(Point::new(0.0, bad), None);
        }
        assert!(Point::new(1e9, -1e9).is_some() && Point::new(-0.0, f64::MIN_POSITIVE).is_some());
        let mut grid = Grid::new(5.0).unwrap();
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e-4, 5e9] {
            assert!(Grid::new(bad).is_none());
            assert!(!grid.set_radius(bad));
        }
        assert_eq!(grid.radius(), 5.0);
    }

    #[test]
    fn the_radius_is_inclusive() {
        let mut grid = Grid::new(5.0).unwrap();
        grid.place(1, point(3.0, 4.0));
        grid.place(2, point(-5.0, 0.0));
        grid.place(3, point(0.0, 5.000_001));
        grid.place(4, point(0.0, 0.0));
        grid.place(5, point(0.0, 0.0));
        assert_eq!(near(&grid, point(0.0, 0.0)), [1, 2, 4, 5]);
        assert!(grid.remove(4) && !grid.remove(4));
        assert_eq!(near(&grid, point(0.0, 0.0)), [1, 2, 5]);
        assert_eq!(grid.position(1), Some(point(3.0, 4.0)));
        assert_eq!((grid.position(4), grid.len()), (None, 4));
    }

    #[test]
    fn rounding_hides_no_neighbour() {
        // The difference rounds to the radius, while cells as wide as the radius would have another one between.
        let mut grid = Grid::new(0.1).unwrap();
        grid.place(1, point(-5e-324, 0.0));
        assert_eq!(near(&grid, point(0.1, 0.0)), [1]);
    }

    #[test]
    fn the_cells_are_those_that_have_members() {
        let mut grid = Grid::new(1.0).unwrap();
        for step in 0..10_000 {
            grid.place(step % 10, point(f64::from(step) * 3.0, 0.0));
            let cells: HashSet<Cell> = grid.nodes.iter().map(|node| node.cell).collect();
            assert_eq!(grid.cells.len(), cells.len());
        }
        assert!(grid.nodes.capacity() < 100 && grid.cells.capacity() < 100);
        for member in 0..10 {
            grid.remove(member);
        }
        assert!(grid.is_empty() && grid.cells.is_empty() && grid.places.is_empty());
    }

    #[test]
    fn points_at_the_far_end_of_the_finest_grid_find_each_other() {
        let mut grid = Grid::new(RADIUS_MIN).unwrap();
        // Three radii, in steps of a few of the smallest differences that there are here.
        let step = 13.0 * (COORDINATE_MAX - COORDINATE_MAX.next_down());
        let xs: Vec<f64> = (0..2000).map(|n| COORDINATE_MAX - f64::from(n) * step).collect();
        assert!(xs[0] - xs[1999] > 3.0 * RADIUS_MIN);
        for (member, x) in xs.iter().enumerate() {
            grid.place(member as u32, point(*x, -COORDINATE_MAX));
        }
        for x in &xs {
            let at = point(*x, -COORDINATE_MAX);
            let expected = xs.iter().filter(|other| point(**other, -COORDINATE_MAX).is_within(RADIUS_MIN, at)).count();
            assert_eq!(near(&grid, at).len(), expected);
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Place(u32, Point),
        Remove(u32),
        Radius(f64),
    }

    /// Dense enough to be near each other, often on the borders of cells or on each other.
    fn any_coordinate() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -10.0f64..10.0,
            4 => (-8i32..8).prop_map(f64::from),
            // Multiples of the widths of cells, and the numbers beside them.
            4 => (-8i32..8, 0usize..4, -1i8..2).prop_map(|(n, radius, side)| {
                let border = (f64::from(n) * RADII[radius] * (1.0 + SLACK)).clamp(-9e8, 9e8);
                match side { -1 => border.next_down(), 0 => border, _ => border.next_up() }
            }),
            1 => prop_oneof![Just(-0.0), Just(1e9), Just(-1e9), Just(1e9 - 1.0), -1e9f64..1e9],
        ]
    }

    const RADII: [f64; 4] = [1.0, 0.1, 2.5, 1e9];

    fn any_act() -> impl Strategy<Value = Act> {
        let at = (any_coordinate(), any_coordinate()).prop_map(|(x, y)| point(x, y));
        prop_oneof![
            8 => (0u32..24, at).prop_map(|(member, at)| Act::Place(member, at)),
            2 => (0u32..24).prop_map(Act::Remove),
            1 => prop::sample::select(&RADII).prop_map(Act::Radius),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_whom_looking_at_everybody_finds(
            acts in prop::collection::vec(any_act(), 0..120), x in any_coordinate(), y in any_coordinate(),
        ) {
            let mut grid = Grid::new(1.0).unwrap();
            let mut everybody = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Place(member, at) => {
                        grid.place(member, at);
                        everybody.insert(member, at);
                    }
                    Act::Remove(member) => {
                        prop_assert_eq!(grid.remove(member), everybody.remove(&member).is_some());
                    }
                    Act::Radius(radius) => prop_assert!(grid.set_radius(radius)),
                }
                for at in everybody.values().copied().chain([point(x, y)]) {
                    let expected: Vec<u32> = everybody
                        .iter()
                        .filter(|(_, other)| other.is_within(grid.radius(), at))
                        .map(|(member, _)| *member)
                        .collect();
                    prop_assert_eq!(near(&grid, at), expected);
                }
                let cells: HashSet<Cell> = grid.nodes.iter().map(|node| node.cell).collect();
                prop_assert_eq!((grid.len(), grid.cells.len()), (everybody.len(), cells.len()));
            }
        }
    }
}
