//! Plots as inline SVG: lines, stacked areas, dots and bars, with axes, units and a legend.
//!
//! It knows nothing of storms. Colours are classes, so the page's style decides them for light, dark and paper; lines
//! differ in their dashes too, for whoever can't tell the colours. All text goes through maud, which escapes it.

use std::fmt::Write;

use maud::{Markup, html};

/// The drawing's size in its own units, about pixels on a page of two columns.
const WIDTH: f64 = 660.0;
const HEIGHT: f64 = 300.0;
/// Room above for the unit of the y axis, below for ticks and label, right for the last tick's half.
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 22.0;
/// Width of a character of a tick, a bit more than it has.
const CHAR: f64 = 6.7;
/// Ticks of an axis. More would run into one another.
const TICKS_MAX: usize = 9;
/// Points closer than this to the last one aren't drawn: nobody would see them.
const NEAR: f64 = 0.3;
/// No axis goes further: nothing that is measured is as large, and a file can say anything.
const LARGEST: f64 = 1e20;
/// Colours of the style; further series take them again with other dashes.
const COLOURS: usize = 8;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Evenly, at 1, 2, 5, 10, …
    Linear,
    /// Evenly, at powers of two: bytes.
    Binary,
    /// Evenly, at 1, 2, 5, 10, 15, 30, 60, …
    Seconds,
    /// By factors. What isn't above zero lies at its beginning.
    Log,
    /// Shares below one, by how little is left above: 90 %, 99 %, 99.9 % are equally far apart.
    Tail,
}

/// An axis.
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    /// How a tick is written.
    pub(super) show: fn(f64) -> String,
    /// Values that are on it even if no point is.
    pub(super) with: Vec<f64>,
}

/// What a series looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Line,
    /// On top of the areas before it; all have the same x values.
    Area,
    /// A ring for what held.
    Rings,
    /// A cross for what broke.
    Crosses,
}

/// Values over x. A `None` is a gap.
pub(super) struct Series {
    pub(super) name: String,
    /// Which of the style's colours, and, above them, which dashes.
    pub(super) look: usize,
    pub(super) shape: Shape,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A part of the x axis with a name; shaded if it is the one that matters.
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) name: String,
    pub(super) shaded: bool,
}

/// A plot.
pub(super) struct Chart {
    pub(super) title: String,
    /// What one sees, in a sentence.
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) bands: Vec<Band>,
    /// Levels with a name: bounds.
    pub(super) levels: Vec<(f64, String)>,
    pub(super) series: Vec<Series>,
    /// What is said if no series has a value.
    pub(super) empty: &'static str,
}

impl Axis {
    pub(super) fn new(label: &str, scale: Scale, show: fn(f64) -> String) -> Axis {
        Axis { label: label.to_owned(), scale, show, with: Vec::new() }
    }

    pub(super) fn with(mut self, value: f64) -> Axis {
        self.with.push(value);
        self
    }
}

impl Series {
    pub(super) fn line(name: &str, look: usize, points: Vec<(f64, Option<f64>)>) -> Series {
        Series { name: name.to_owned(), look, shape: Shape::Line, points }
    }

    pub(super) fn area(name: &str, look: usize, points: Vec<(f64, Option<f64>)>) -> Series {
        Series { name: name.to_owned(), look, shape: Shape::Area, points }
    }

    fn has_values(&self) -> bool {
        self.points.iter().any(|(_, y)| y.is_some())
    }

    fn classes(&self) -> String {
        format!("c{} d{}", self.look % COLOURS, (self.look / COLOURS) % 4)
    }
}

impl Chart {
    /// The plot with its title and legend; a sentence if there is nothing to show.
    pub(super) fn draw(mut self) -> Markup {
        self.series.retain(Series::has_values);
        html! {
            figure class="plot" {
                figcaption { b { (self.title) } " " span { (self.about) } }
                @if self.series.is_empty() {
                    p class="empty" { (self.empty) }
                } @else {
                    (self.legend())
                    (self.svg())
                }
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            ul class="legend" {
                @for series in &self.series {
                    li {
                        svg class=(format!("swatch {}", series.classes())) viewBox="0 0 26 12" aria-hidden="true" {
                            @match series.shape {
                                Shape::Line => { path class="line" d="M1 6H25" {} }
                                Shape::Area => { rect class="area" x="1" y="1" width="24" height="10" {} }
                                Shape::Rings => { circle class="ring" cx="13" cy="6" r="4" {} }
                                Shape::Crosses => { path class="cross" d="M9 2l8 8m0 -8l-8 8" {} }
                            }
                        }
                        (series.name)
                    }
                }
            }
        }
    }

    fn svg(&self) -> Markup {
        let stacked = stack(&self.series);
        let ys = stacked.iter().flat_map(|points| points.iter().filter_map(|&(_, _, y)| y));
        let xs = self.series.iter().flat_map(|series| series.points.iter().map(|&(x, _)| x));
        let y = Range::of(&self.y, ys);
        let x = Range::of(&self.x, xs);
        let ticks: Vec<(f64, String)> = y.ticks.iter().map(|&at| (at, (self.y.show)(at))).collect();
        let widest = ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let frame = Frame { left: widest as f64 * CHAR + 14.0, x, y };
        let (left, right, bottom) = (frame.left, WIDTH - RIGHT, HEIGHT - BOTTOM);
        html! {
            svg class="chart" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                @for band in &self.bands { (frame.band(band)) }
                @for (at, text) in &ticks {
                    @let y = frame.y(*at);
                    path class="grid" d=(format!("M{left:.1} {y:.1}H{right:.1}")) {}
                    text x=(n(left - 7.0)) y=(n(y + 4.0)) text-anchor="end" { (text) }
                }
                @for &at in &frame.x.ticks {
                    @let x = frame.x(at);
                    path class="grid" d=(format!("M{x:.1} {bottom:.1}v5")) {}
                    text x=(n(x)) y=(n(bottom + 18.0)) text-anchor="middle" { ((self.x.show)(at)) }
                }
                @for (series, points) in self.series.iter().zip(&stacked) {
                    g class=(series.classes()) { title { (series.name) } (frame.series(series.shape, points)) }
                }
                @for (at, name) in self.levels.iter().filter(|(at, _)| frame.y.has(*at)) {
                    @let y = frame.y(*at);
                    path class="level" d=(format!("M{left:.1} {y:.1}H{right:.1}")) {}
                    text class="level" x=(n(right - 4.0)) y=(n(y - 5.0)) text-anchor="end" { (name) }
                }
                path class="axis" d=(format!("M{left:.1} {TOP:.1}V{bottom:.1}H{right:.1}")) {}
                text class="unit" x="2" y="12" { (self.y.label) }
                text class="unit" x=(n((left + right) / 2.0)) y=(n(HEIGHT - 6.0)) text-anchor="middle" { (self.x.label) }
            }
        }
    }
}

/// Points with the level that they stand on: zero, or the areas before.
fn stack(series: &[Series]) -> Vec<Vec<(f64, f64, Option<f64>)>> {
    let mut base: Vec<f64> = Vec::new();
    let mut all = Vec::new();
    for series in series {
        let points = series.points.iter().enumerate().map(|(at, &(x, y))| {
            if series.shape != Shape::Area {
                return (x, 0.0, y);
            }
            if base.len() <= at {
                base.resize(at + 1, 0.0);
            }
            let below = base[at];
            base[at] += y.unwrap_or(0.0);
            (x, below, y.map(|y| below + y))
        });
        all.push(points.collect());
    }
    all
}

/// From where to where an axis goes, and its ticks.
struct Range {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Range {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Range {
        let values = values.chain(axis.with.iter().copied()).filter(|value| value.is_finite());
        let values = values.filter(|&value| axis.scale != Scale::Log || value > 0.0);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let (low, high) = (low.clamp(-LARGEST, LARGEST), high.clamp(-LARGEST, LARGEST));
        match axis.scale {
            Scale::Log => Range::log(low.max(1.0 / LARGEST), high.max(1.0 / LARGEST)),
            Scale::Tail => Range::tail(high),
            // Time begins where it begins; quantities begin at zero.
            Scale::Seconds => Range::even(Scale::Seconds, low, high, false),
            Scale::Linear | Scale::Binary => Range::even(axis.scale, low.min(0.0), high, true),
        }
    }

    fn even(scale: Scale, low: f64, high: f64, whole: bool) -> Range {
        let high = if high > low { high } else { low + 1.0 };
        let step = step(scale, (high - low) / (TICKS_MAX - 2) as f64);
        let (from, to) = if whole { ((low / step).floor() * step, (high / step).ceil() * step) } else { (low, high) };
        let first = (from / step).ceil() as i64;
        let ticks = (0..=TICKS_MAX as i64).map(|nth| (first + nth) as f64 * step);
        Range { scale, from, to, ticks: ticks.take_while(|&at| at <= to + step * 1e-6).collect() }
    }

    fn log(low: f64, high: f64) -> Range {
        let (from, to) = (nice(low * 0.98, f64::floor), nice((high * 1.02).max(low * 2.0), f64::ceil));
        let decades = (to / from).log10();
        let all: Vec<f64> = (from.log10().floor() as i32..=to.log10().ceil() as i32)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .filter(|&at| at >= from * 0.999 && at <= to * 1.001)
            .collect();
        let is_decade = |at: &f64| (at.log10() - at.log10().round()).abs() < 1e-6;
        let every = (decades / TICKS_MAX as f64).ceil().max(1.0) as i64;
        let ticks = if all.len() <= TICKS_MAX {
            all
        } else {
            all.into_iter().filter(|at| is_decade(at) && at.log10().round() as i64 % every == 0).collect()
        };
        Range { scale: Scale::Log, from, to, ticks }
    }

    fn tail(high: f64) -> Range {
        let to = tail(high.min(0.999_999)).clamp(2.0, 6.0);
        let all = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
        let ticks = all.into_iter().filter(|&at| tail(at) <= to + 0.01).collect();
        Range { scale: Scale::Tail, from: 0.0, to, ticks }
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Log => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            Scale::Tail => tail(value) / self.to,
            Scale::Linear | Scale::Binary | Scale::Seconds => (value - self.from) / (self.to - self.from),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn has(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

/// How many nines: 0.9 is 1, 0.99 is 2.
fn tail(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

/// The next 1, 2 or 5 times a power of ten, downwards with `floor` and upwards with `ceil`.
fn nice(value: f64, round: fn(f64) -> f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let up = round(0.5) > 0.0;
    let found = if up {
        digits.into_iter().find(|digit| digit * power >= value)
    } else {
        digits.into_iter().rev().find(|digit| digit * power <= value)
    };
    found.unwrap_or(1.0) * power
}

/// The smallest sensible step that is at least this wide.
fn step(scale: Scale, least: f64) -> f64 {
    let steps: &[f64] = match scale {
        Scale::Seconds => &[1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0],
        Scale::Binary => return 2_f64.powf(least.max(1.0).log2().ceil()),
        Scale::Linear | Scale::Log | Scale::Tail => &[],
    };
    steps.iter().copied().find(|&step| step >= least).unwrap_or_else(|| nice(least.max(1e-9), f64::ceil))
}

/// Where things are drawn.
struct Frame {
    left: f64,
    x: Range,
    y: Range,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (WIDTH - RIGHT - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - BOTTOM - TOP)
    }

    fn band(&self, band: &Band) -> Markup {
        let (from, to) = (self.x(band.from), self.x(band.to));
        let has_room = to - from > band.name.chars().count() as f64 * CHAR + 4.0;
        html! {
            @if band.shaded {
                rect class="band" x=(n(from)) y=(n(TOP)) width=(n((to - from).max(1.0))) height=(n(HEIGHT - BOTTOM - TOP)) {}
            }
            @if has_room {
                text class=(if band.shaded { "bandname shaded" } else { "bandname" })
                    x=(n((from + to) / 2.0)) y=(n(TOP - 5.0)) text-anchor="middle" { (band.name) }
            }
        }
    }

    fn series(&self, shape: Shape, points: &[(f64, f64, Option<f64>)]) -> Markup {
        match shape {
            Shape::Line => html! { path class="line" d=(self.line(points)) {} },
            Shape::Area => html! { path class="area" d=(self.area(points)) {} },
            Shape::Rings | Shape::Crosses => html! {
                @for &(x, _, y) in points {
                    @if let Some(y) = y {
                        @let (x, y) = (self.x(x), self.y(y));
                        @if shape == Shape::Rings {
                            circle class="ring" cx=(n(x)) cy=(n(y)) r="5" {}
                        } @else {
                            path class="cross" d=(format!("M{:.1} {:.1}l10 10m0 -10l-10 10", x - 5.0, y - 5.0)) {}
                        }
                    }
                }
            },
        }
    }

    /// A path through the points, broken at gaps. A point alone is a short dash.
    fn line(&self, points: &[(f64, f64, Option<f64>)]) -> String {
        let mut path = String::new();
        let mut last: Option<(f64, f64)> = None;
        for (at, &(x, _, y)) in points.iter().enumerate() {
            let Some(y) = y else {
                last = None;
                continue;
            };
            let (x, y) = (self.x(x), self.y(y));
            let ends = points.get(at + 1).is_none_or(|next| next.2.is_none());
            match last {
                None if ends => _ = write!(path, "M{:.1} {y:.1}h4", x - 2.0),
                None => _ = write!(path, "M{x:.1} {y:.1}"),
                Some((px, py)) if !ends && (x - px).abs() < NEAR && (y - py).abs() < NEAR => continue,
                Some(_) => _ = write!(path, "L{x:.1} {y:.1}"),
            }
            last = Some((x, y));
        }
        path
    }

    fn area(&self, points: &[(f64, f64, Option<f64>)]) -> String {
        let mut path = String::new();
        let top = |&(x, below, y): &(f64, f64, Option<f64>)| (self.x(x), self.y(y.unwrap_or(below)));
        let bottom = |&(x, below, _): &(f64, f64, Option<f64>)| (self.x(x), self.y(below));
        for (at, (x, y)) in points.iter().map(top).chain(points.iter().rev().map(bottom)).enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
        }
        path.push('Z');
        path
    }
}

/// A coordinate.
fn n(value: f64) -> String {
    format!("{value:.1}")
}

/// One bar of a bar chart.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) look: usize,
}

/// Bars below one another, longest scale first to last as given; by factors when they differ much. `legend` names the
/// looks.
pub(super) fn bars(title: &str, about: &str, bars: &[Bar], legend: &[(usize, &str)], empty: &str) -> Markup {
    /// A bar and the room to the next.
    const ROW: f64 = 24.0;
    /// Room for a count at a bar's end.
    const COUNT: f64 = 90.0;
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let by_factors = most > 200;
    let left = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0) as f64 * CHAR + 16.0;
    let width = |count: u64| {
        let share =
            if by_factors { (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln() } else { count as f64 / most as f64 };
        (share * (WIDTH - COUNT - left)).max(2.0)
    };
    let height = bars.len() as f64 * ROW + 8.0;
    html! {
        figure class="plot" {
            figcaption { b { (title) } " " span { (about) @if by_factors { " Lengths are by factors (logarithmic)." } } }
            @if bars.is_empty() {
                p class="empty" { (empty) }
            } @else {
                ul class="legend" {
                    @for &(look, name) in legend.iter().filter(|(look, _)| bars.iter().any(|bar| bar.look == *look)) {
                        li {
                            svg class=(format!("swatch c{look}")) viewBox="0 0 26 12" aria-hidden="true" {
                                rect class="area" x="1" y="1" width="24" height="10" {}
                            }
                            (name)
                        }
                    }
                }
                svg class="chart" viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(title) {
                    @for (at, bar) in bars.iter().enumerate() {
                        @let top = at as f64 * ROW + 4.0;
                        text x=(n(left - 8.0)) y=(n(top + 14.0)) text-anchor="end" { (bar.name) }
                        g class=(format!("c{}", bar.look)) {
                            rect class="area" x=(n(left)) y=(n(top + 2.0)) width=(n(width(bar.count))) height=(n(ROW - 8.0)) {}
                        }
                        text x=(n(left + width(bar.count) + 7.0)) y=(n(top + 14.0)) { (super::units::count(bar.count)) }
                    }
                    path class="axis" d=(format!("M{left:.1} 0V{height:.1}")) {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<f64> {
        Range::of(&Axis::new("", scale, |value| value.to_string()), values.iter().copied()).ticks
    }

    #[test]
    fn ticks_are_round_and_few_whatever_the_values() {
        assert_eq!(ticks(Scale::Linear, &[0.0, 7.0]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(ticks(Scale::Log, &[150.0, 900.0]), [100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(ticks(Scale::Seconds, &[0.0, 44.0]), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(ticks(Scale::Tail, &[0.5, 0.9995]), [0.0, 0.5, 0.9, 0.99, 0.999]);
        let hostile = [&[][..], &[0.0], &[-5.0, -5.0], &[1e-9, 1e300], &[f64::NAN], &[f64::MAX, f64::MIN], &[1e18]];
        for scale in [Scale::Linear, Scale::Binary, Scale::Seconds, Scale::Log, Scale::Tail] {
            for values in hostile {
                let range = Range::of(&Axis::new("", scale, |value| value.to_string()), values.iter().copied());
                assert!(range.ticks.len() <= 1 + TICKS_MAX, "{scale:?} {values:?}: {:?}", range.ticks);
                for value in values {
                    assert!((0.0..=1.0).contains(&range.place(*value)), "{scale:?} {values:?}");
                }
            }
        }
    }

    #[test]
    fn a_gap_breaks_a_line_and_areas_stand_on_one_another() {
        let area = |y| Series::area("", 0, vec![(0.0, Some(y)), (1.0, None)]);
        let stacked = stack(&[area(3.0), area(4.0)]);
        assert_eq!(stacked[1], [(0.0, 3.0, Some(7.0)), (1.0, 0.0, None)]);

        let values = [Some(1.0), Some(2.0), None, Some(3.0)];
        let points = values.iter().enumerate().map(|(x, y)| (x as f64, 0.0, *y)).collect::<Vec<_>>();
        let range = |scale| Range::of(&Axis::new("", scale, |value| value.to_string()), [0.0, 3.0].into_iter());
        let frame = Frame { left: 0.0, x: range(Scale::Seconds), y: range(Scale::Linear) };
        let path = frame.line(&points);
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
    }
}
