//! The pictures of a drill as SVG: every request by time and latency, and the parts of the outage.
//!
//! Colours and fonts are those of the page's style sheet. Pure: numbers in, text out.

use std::fmt::Write as _;
use std::ops::Range;

use minijinja::HtmlEscape;

use crate::drill::outage::Part;
use crate::drill::record::{Drill, Outage};

const WIDTH: f64 = 1000.0;
/// The area of the points.
const X: Range<f64> = 52.0..990.0;
const Y: Range<f64> = 56.0..286.0;
/// The bands above it: numbers of events, errors.
const NUMBERS_Y: f64 = 14.0;
const ERRORS_Y: Range<f64> = 30.0..46.0;
const HEIGHT: f64 = 326.0;
/// At most so many marks on the axis of time.
const TICKS: f64 = 14.0;
/// What a digit of an event's number takes.
const DIGIT: f64 = 7.2;

/// Of the picture of an outage's parts.
const PART_HEIGHT: f64 = 21.0;
const PART_X: Range<f64> = 300.0..900.0;

/// Numbers of events, first and last, and where they stand.
#[derive(Debug, PartialEq)]
struct Label {
    x: f64,
    first: usize,
    last: usize,
}

/// Draws every request of a drill. Events are numbered from one in their order.
pub(super) fn requests(drill: &Drill, id: &str) -> String {
    let scales = Scales::of(drill);
    let mut svg = String::new();
    head(&mut svg, id, HEIGHT, &title(drill), &description(drill));
    axes(&mut svg, &scales);
    if let Some(outage) = drill.outage.as_ref().filter(|outage| !outage.parts.is_empty()) {
        shade(&mut svg, &scales, outage);
    }
    let at: Vec<f64> = drill.events.iter().map(|event| scales.x(event.at_ms)).collect();
    let own = drill.events.iter().map(|event| event.host.is_none());
    let (mut ours, mut theirs) = (String::new(), String::new());
    for (x, own) in at.iter().zip(own) {
        let path = if own { &mut ours } else { &mut theirs };
        write(path, format_args!("M{x:.1} {:.0}V{:.0}", NUMBERS_Y + 6.0, Y.end));
    }
    path(&mut svg, "said", &theirs);
    path(&mut svg, "own", &ours);
    let (mut points, mut ticks) = (String::new(), String::new());
    for request in &drill.requests {
        let x = scales.x(request.sent_ms);
        match request.answer {
            Ok(latency_ms) => write(&mut points, format_args!("M{x:.1} {:.0}h0", scales.y(latency_ms))),
            Err(_) => write(&mut ticks, format_args!("M{x:.1} {:.0}V{:.0}", ERRORS_Y.start, ERRORS_Y.end)),
        }
    }
    path(&mut svg, "points", &points);
    path(&mut svg, "errors", &ticks);
    for Label { x, first, last } in labels(&at) {
        let text = if first == last { first.to_string() } else { format!("{first}–{last}") };
        write(
            &mut svg,
            format_args!("<text class=\"number\" x=\"{x:.1}\" y=\"{NUMBERS_Y}\">{text}</text>\n"),
        );
    }
    svg + "</svg>"
}

/// Draws the parts of an outage below each other, each where it was.
pub(super) fn parts(outage: &Outage, id: &str) -> String {
    let whole = outage.to_ms - outage.from_ms;
    let rows = f64::from(u32::try_from(outage.parts.len()).unwrap_or(u32::MAX));
    let mut svg = String::new();
    let text = format!("What {whole:.0} ms without an answer were spent on");
    let told: Vec<String> =
        outage.parts.iter().map(|part| format!("{}: {:.1} ms", part.name, part.length_ms())).collect();
    head(&mut svg, id, rows * PART_HEIGHT + 4.0, &text, &told.join("; "));
    let x = |ms: f64| place(ms, 0.0..whole.max(1.0), PART_X);
    let mut top = 2.0;
    for part in &outage.parts {
        let Part { name, from_ms, to_ms } = part;
        let (from, width) = (x(*from_ms), (x(*to_ms) - x(*from_ms)).max(1.0));
        let class = if name == crate::drill::outage::RECOVERY { "part recovery" } else { "part" };
        let (base, name) = (top + 14.0, HtmlEscape(name));
        write(&mut svg, format_args!("<text class=\"name\" x=\"292\" y=\"{base}\">{name}</text>"));
        write(
            &mut svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"16\"/>"
            ),
        );
        let figure = part.length_ms();
        write(
            &mut svg,
            format_args!("<text class=\"figure\" x=\"990\" y=\"{base}\">{figure:.1} ms</text>\n"),
        );
        top += PART_HEIGHT;
    }
    svg + "</svg>"
}

/// From milliseconds to places.
struct Scales {
    time_ms: Range<f64>,
    latency_ms: Range<f64>,
}

impl Scales {
    fn of(drill: &Drill) -> Self {
        let times = drill.requests.iter().map(|request| request.sent_ms);
        let times = times.chain(drill.events.iter().map(|event| event.at_ms));
        let span = |all: &mut dyn Iterator<Item = f64>| {
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)))
        };
        let (first, last) = span(&mut times.into_iter());
        let (low, high) = span(&mut drill.requests.iter().filter_map(|request| request.answer.clone().ok()));
        // A little above the client's patience: pictures of different drills compare at a glance.
        let lowest = [3.0, 1.0, 0.3].into_iter().find(|mark| *mark <= low).unwrap_or(0.1);
        let highest = [400.0, 1000.0, 3000.0].into_iter().find(|mark| *mark >= high).unwrap_or(10_000.0);
        let time_ms = if first < last { first..last } else { 0.0..1.0 };
        Self { time_ms, latency_ms: lowest..highest }
    }

    fn x(&self, ms: f64) -> f64 {
        place(ms, self.time_ms.clone(), X)
    }

    /// Logarithmic, upwards; what is off the scale stands at its edge.
    fn y(&self, ms: f64) -> f64 {
        let Range { start, end } = &self.latency_ms;
        place(ms.clamp(*start, *end).log10(), start.log10()..end.log10(), Y.end..Y.start)
    }
}

/// Maps a range onto another, which may go the other way.
fn place(value: f64, from: Range<f64>, to: Range<f64>) -> f64 {
    to.start + (value - from.start) / (from.end - from.start) * (to.end - to.start)
}

/// The round number of seconds between two marks of the axis.
fn step_s(span_s: f64) -> f64 {
    let enough = |step: &f64| span_s / step <= TICKS;
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0].into_iter().find(enough).unwrap_or(300.0)
}

/// Numbers that would lie upon each other become one label, `4–7`.
fn labels(at: &[f64]) -> Vec<Label> {
    let half = |first: usize, last: usize| {
        let digits = |number: usize| number.to_string().len();
        let count = if first == last { digits(first) } else { digits(first) + 1 + digits(last) };
        DIGIT * f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 2.0 + 2.0
    };
    // With the place of the first event, from which a label's middle follows.
    let mut found: Vec<(f64, Label)> = Vec::new();
    for (x, number) in at.iter().zip(1..) {
        let mut next = (*x, Label { x: *x, first: number, last: number });
        while let Some((start, before)) = found.last() {
            let right = before.x + half(before.first, before.last);
            if right <= next.1.x - half(next.1.first, next.1.last) {
                break;
            }
            let merged = Label { x: f64::midpoint(*start, *x), first: before.first, last: number };
            next = (*start, merged);
            found.pop();
        }
        found.push(next);
    }
    found.into_iter().map(|(_, label)| label).collect()
}

fn title(drill: &Drill) -> String {
    format!("Requests around the fault: {}", drill.title)
}

fn description(drill: &Drill) -> String {
    let outage = drill.outage.as_ref().map_or(0.0, |outage| outage.length_s);
    format!(
        "{} requests by the second they were sent and their latency, {} of them errors, {outage:.2} s without an answer.",
        drill.requests.len(),
        drill.errors.total
    )
}

fn head(svg: &mut String, id: &str, height: f64, title: &str, description: &str) {
    let (title, description) = (HtmlEscape(title), HtmlEscape(description));
    write(
        svg,
        format_args!(
            "<svg id=\"{id}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
             <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-desc\">{description}</desc>\n"
        ),
    );
}

fn axes(svg: &mut String, scales: &Scales) {
    let mut grid = String::new();
    for mark in [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0] {
        if mark < scales.latency_ms.start || mark > scales.latency_ms.end {
            continue;
        }
        let y = scales.y(mark);
        write(&mut grid, format_args!("M{} {y:.1}H{}", X.start, X.end));
        write(
            svg,
            format_args!("<text class=\"y\" x=\"{}\" y=\"{:.1}\">{mark}</text>", X.start - 6.0, y + 4.0),
        );
    }
    let step = step_s((scales.time_ms.end - scales.time_ms.start) / 1000.0);
    let mut second = (scales.time_ms.start / 1000.0 / step).ceil() * step;
    while second * 1000.0 <= scales.time_ms.end {
        let x = scales.x(second * 1000.0);
        write(&mut grid, format_args!("M{x:.1} {}v5", Y.end));
        let decimals = usize::from(step < 1.0);
        // No minus before a zero.
        let shown = if second.abs() < step / 2.0 { 0.0 } else { second };
        write(
            svg,
            format_args!("<text class=\"x\" x=\"{x:.1}\" y=\"{}\">{shown:.decimals$}</text>", Y.end + 18.0),
        );
        second += step;
    }
    path(svg, "grid", &grid);
    let middle = f64::midpoint(X.start, X.end);
    let (below, across) = (HEIGHT - 4.0, f64::midpoint(Y.start, Y.end));
    write(
        svg,
        format_args!(
            "<text class=\"x\" x=\"{middle}\" y=\"{below}\">seconds since the fault was made</text>\
             <text class=\"x\" transform=\"translate(12 {across}) rotate(-90)\">latency in ms</text>\
             <text class=\"y\" x=\"{}\" y=\"{}\">errors</text>\n",
            X.start - 6.0,
            ERRORS_Y.end - 4.0
        ),
    );
}

/// The outage: its area, and its figure where there is room.
fn shade(svg: &mut String, scales: &Scales, outage: &Outage) {
    let (from, to) = (scales.x(outage.from_ms), scales.x(outage.to_ms));
    let (top, height) = (ERRORS_Y.start - 2.0, Y.end - ERRORS_Y.start + 2.0);
    let figure = format!("{}{:.2} s", if outage.open { "more than " } else { "" }, outage.length_s);
    let wide = DIGIT * f64::from(u32::try_from(figure.len()).unwrap_or(u32::MAX)) + 12.0;
    let (x, class) = if to - from > wide {
        (f64::midpoint(from, to), "outage-middle")
    } else if to + wide < X.end {
        (to + 6.0, "outage-right")
    } else {
        (from - 6.0, "outage-left")
    };
    let (width, y) = ((to - from).max(1.0), Y.start + 18.0);
    write(
        svg,
        format_args!(
            "<rect class=\"outage\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>\
             <text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{figure}</text>\n"
        ),
    );
}

fn path(svg: &mut String, class: &str, data: &str) {
    if !data.is_empty() {
        write(svg, format_args!("<path class=\"{class}\" d=\"{data}\"/>\n"));
    }
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::record::tests::drill;

    #[test]
    fn scales_meet_their_edges_and_latency_is_logarithmic() {
        let scales = Scales { time_ms: -1000.0..9000.0, latency_ms: 1.0..100.0 };
        assert_eq!((scales.x(-1000.0), scales.x(9000.0)), (X.start, X.end));
        assert_eq!((scales.y(1.0), scales.y(100.0)), (Y.end, Y.start));
        assert_eq!(scales.y(10.0), f64::midpoint(Y.start, Y.end));
        assert_eq!(scales.y(0.0), Y.end);
    }

    #[test]
    fn numbers_of_events_never_overlap_and_none_is_left_out() {
        let at: Vec<f64> = (0..40_u32).map(|n| 100.0 + f64::from(n * n) / 4.0).collect();
        let labels = labels(&at);
        assert_eq!((labels[0].first, labels.last().unwrap().last), (1, 40));
        for two in labels.windows(2) {
            assert_eq!(two[0].last + 1, two[1].first);
            assert!(two[1].x - two[0].x > DIGIT, "{labels:?}");
        }
        assert!(labels.len() > 5 && labels.len() < 40, "{labels:?}");
    }

    #[test]
    fn every_request_is_a_point_or_a_tick() {
        let svg = requests(&drill(), "d1");
        assert_eq!(svg.matches("h0").count(), 5, "{svg}");
        let errors = svg.split("class=\"errors\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(errors.matches('M').count(), 1, "{svg}");
        assert!(svg.contains(">2.10 s</text>"), "{svg}");
    }

    #[test]
    fn steps_of_time_are_round_and_few() {
        assert_eq!((step_s(9.0), step_s(14.0), step_s(30.0), step_s(1e9)), (1.0, 1.0, 5.0, 300.0));
    }

    #[test]
    fn an_empty_drill_is_drawn_without_numbers_that_are_none() {
        let mut empty = drill();
        empty.requests.clear();
        empty.events.clear();
        empty.outage = None;
        let svg = requests(&empty, "d1");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
