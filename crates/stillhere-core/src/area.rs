//! Positions.

/// A position in an area room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
}

impl Point {
    /// A position; both numbers finite and within ±1e9.
    pub fn new(x: f64, y: f64) -> Option<Point> {
        let inside = |v: f64| v.abs() <= 1e9;
        (inside(x) && inside(y)).then_some(Point { x, y })
    }
}
