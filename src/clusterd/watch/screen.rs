//! Draws the live view. The most important things come first; what does not fit is told, never silently cut.

use cluster::control::Status;
use cluster::event::LogLevel;
use cluster::member::Node;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, LineGauge, Paragraph, Wrap};

use super::state::{Shown, State};
use crate::history::{Entry, What};
use crate::view::facts::{self, Phrase};
use crate::view::page::{self, Page};
use crate::view::tone::{Paint, Tone};
use crate::view::words::{self, Names};
use crate::view::{self, status::class_of};

/// From this width on the stack and the events stand side by side.
const WIDE: u16 = 120;
/// From this height on the three abilities have a place of their own.
const TALL: u16 = 30;
/// Lines of a box of a member, borders included.
const BOX: u16 = 6;
/// Least lines of the events, borders included; with less room there are none.
const EVENTS: u16 = 3;
/// With this many lines for events the steps of moves are shown as well.
const ROOMY: u16 = 15;
/// Standing intents and alarms shown at most.
const INTENTS: usize = 3;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let [body, keys] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(footer(state), keys);
    match (state.shown, &state.status) {
        (Shown::Help, _) => help(frame, body),
        (Shown::History, status) => text(frame, body, state, |page| {
            let names = status.as_ref().map_or_else(Names::unknown, |status| Names::of(status));
            let newest: Vec<Entry> = state.history.iter().rev().cloned().collect();
            view::history::write(page, &newest, &names);
        }),
        (Shown::Why, Some(status)) => text(frame, body, state, |page| view::why::write(page, status)),
        (Shown::Overview, Some(status)) => overview(frame, body, state, status),
        (_, None) => frame.render_widget(waiting(state), body),
    }
}

fn waiting(state: &State) -> Paragraph<'_> {
    let text = state.lost.as_deref().unwrap_or("Asking the cluster manager …");
    Paragraph::new(text).wrap(Wrap { trim: false })
}

fn text(frame: &mut Frame<'_>, area: Rect, state: &State, write: impl FnOnce(&mut Page)) {
    let mut page = Page::new(usize::from(area.width), Paint(false));
    write(&mut page);
    let text = page.finish();
    let lines = u16::try_from(text.lines().count()).unwrap_or(u16::MAX);
    let scroll = state.scroll.min(lines.saturating_sub(area.height));
    frame.render_widget(Paragraph::new(text).scroll((scroll, 0)), area);
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let text = "\
  w        why: decisions and refusals, and what they rest on
  h        history: what happened, the newest first, with the steps of each move
  ?        this page
  Esc      back
  q        end

  Up, Down, PageUp, PageDown move a long page.

  This view changes nothing. To act, in another terminal:

    futago cluster switchover              move the stack to the other host
    futago cluster standby HOST            keep it off a host; back: online HOST
    futago cluster maintenance on|off      leave resources alone
    futago cluster hold REASON             no automatic failover; back: resume
    futago cluster cleanup                 forget failures
    futago cluster plan VERB               what a verb would do";
    frame.render_widget(Paragraph::new(text), area);
}

fn footer(state: &State) -> Line<'_> {
    let keys = [("q", "quit"), ("w", "why"), ("h", "history"), ("?", "help")];
    let mut spans = Vec::new();
    for (key, word) in keys {
        spans.push(Span::styled(format!(" {key} "), Style::new().add_modifier(Modifier::REVERSED)));
        spans.push(Span::raw(format!(" {word}  ")));
    }
    if let Some(age) = state.age().filter(|_| state.status.is_some()) {
        let text = format!("NOT LIVE: the manager here is silent; shown is {} old", words::time(age));
        spans.push(Span::styled(text, style(state.paint, Tone::Bad)));
    }
    Line::from(spans)
}

fn overview(frame: &mut Frame<'_>, area: Rect, state: &State, status: &Status) {
    let names = Names::of(status);
    let paint = state.paint;
    let banner = banner(status, &names, paint, usize::from(area.width));
    let banner_height = u16::try_from(banner.len()).unwrap_or(u16::MAX);
    let abilities = if area.height >= TALL { abilities(status, paint) } else { Vec::new() };
    let abilities_height = u16::try_from(abilities.len()).unwrap_or(0);
    let [top, boxes, facts_area, can, rest] = Layout::vertical([
        Constraint::Length(banner_height),
        Constraint::Length(BOX),
        Constraint::Length(2),
        Constraint::Length(abilities_height),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(banner), top);
    members(frame, boxes, status, &names, paint);
    record_and_replication(frame, facts_area, status, &names, paint);
    frame.render_widget(Paragraph::new(abilities), can);
    let stack_height = u16::try_from(status.resources.len() + 2).unwrap_or(u16::MAX);
    let [left, right] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Length(76), Constraint::Fill(1)]).areas(rest)
    } else if rest.height < stack_height.saturating_add(EVENTS) {
        [rest, Rect::ZERO]
    } else {
        Layout::vertical([Constraint::Max(stack_height), Constraint::Fill(1)]).areas(rest)
    };
    stack(frame, left, status, &names, paint);
    events(frame, right, state, &names);
}

fn banner(status: &Status, names: &Names, paint: Paint, width: usize) -> Vec<Line<'static>> {
    let word = format!(" {} ", words::verdict(status.verdict));
    let indent = word.chars().count() + 1;
    let tone = style(paint, Tone::verdict(status.verdict)).add_modifier(Modifier::REVERSED | Modifier::BOLD);
    let mut out = Vec::new();
    for line in page::wrap(&status.because, width.saturating_sub(indent)) {
        let label =
            if out.is_empty() { Span::styled(word.clone(), tone) } else { Span::raw(" ".repeat(indent - 1)) };
        out.push(Line::from(vec![label, Span::raw(format!(" {line}"))]));
    }
    if let Some(doing) = &status.doing {
        out.push(Line::from(format!(" now: {doing}")).style(style(paint, Tone::Strong)));
    }
    let mut alarms = facts::intents(status, names);
    alarms.extend(facts::problems(status, names).into_iter().map(|text| (Tone::Warn, text)));
    let more = alarms.len().saturating_sub(INTENTS);
    for (tone, text) in alarms.into_iter().take(INTENTS) {
        out.push(
            Line::from(format!(" ! {}", page::cut(&text, width.saturating_sub(3)))).style(style(paint, tone)),
        );
    }
    if more > 0 {
        out.push(Line::from(format!(" ! … {more} more: w shows them")).style(style(paint, Tone::Warn)));
    }
    out
}

fn members(frame: &mut Frame<'_>, area: Rect, status: &Status, names: &Names, paint: Paint) {
    let [a, b, third_area] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    for (node, area) in [(Node::A, a), (Node::B, b)] {
        let local = node == status.node;
        let age = if local { facts::lease(status) } else { facts::heard(status, status.peer_heard_ms_ago) };
        let mut phrases = vec![facts::role(status, node), facts::device(status, node), age];
        phrases.extend(paths(status, "peer").filter(|_| !local));
        let title = if local {
            format!(" {} (this host) ", names.get(node))
        } else {
            format!(" {} ", names.get(node))
        };
        member(frame, area, &title, phrases, paint);
    }
    let (name, role, heard) = facts::third(status);
    let mut phrases = vec![role, heard];
    phrases.extend(paths(status, "witness"));
    member(frame, third_area, &format!(" {name} "), phrases, paint);
}

fn paths(status: &Status, to: &str) -> impl Iterator<Item = Phrase> {
    facts::paths(status, to).map(|text| (Tone::Dim, text)).into_iter()
}

fn member(frame: &mut Frame<'_>, area: Rect, title: &str, phrases: Vec<Phrase>, paint: Paint) {
    let worst = phrases.first().map_or(Tone::Plain, |(tone, _)| *tone);
    let border = if worst == Tone::Bad { style(paint, Tone::Bad) } else { Style::new() };
    let block = Block::bordered().title(title.to_owned()).border_style(border);
    let room = usize::from(block.inner(area).width).saturating_sub(1);
    let line =
        |(tone, text): Phrase| Line::from(format!(" {}", page::cut(&text, room))).style(style(paint, tone));
    let lines: Vec<Line<'_>> = phrases.into_iter().map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn record_and_replication(frame: &mut Frame<'_>, area: Rect, status: &Status, names: &Names, paint: Paint) {
    let [first, second] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let (tone, record) = facts::record(status, names);
    let width = usize::from(area.width).saturating_sub(14);
    let label = |text: &'static str| Span::styled(text, style(paint, Tone::Strong));
    let value = Span::styled(page::cut(&record, width), style(paint, tone));
    frame.render_widget(Line::from(vec![label(" record      "), value]), first);
    let (tone, text) = facts::replication(status, names);
    let done = [Some(&status.local), status.peer.as_ref()].into_iter().flatten();
    let done = done.filter_map(|view| view.replica.as_ref()?.sync_permille).next();
    let Some(done) = done else {
        let value = Span::styled(page::cut(&text, width), style(paint, tone));
        frame.render_widget(Line::from(vec![label(" replication "), value]), second);
        return;
    };
    let [left, right] = Layout::horizontal([Constraint::Length(13), Constraint::Fill(1)]).areas(second);
    frame.render_widget(Line::from(label(" replication ")), left);
    let gauge = LineGauge::default()
        .ratio((f64::from(done) / 1000.0).clamp(0.0, 1.0))
        .label(text)
        .filled_symbol("█")
        .unfilled_symbol("░")
        .filled_style(style(paint, Tone::Good))
        .unfilled_style(style(paint, Tone::Dim));
    frame.render_widget(gauge, right);
}

fn abilities(status: &Status, paint: Paint) -> Vec<Line<'static>> {
    let width = status.can.iter().map(|ability| ability.what.chars().count()).max().unwrap_or(0);
    let line = |ability: &cluster::control::Ability| {
        let (tone, answer) = if ability.yes { (Tone::Good, "yes") } else { (Tone::Warn, "no ") };
        Line::from(vec![
            Span::raw(format!(" can {:width$}  ", ability.what)),
            Span::styled(answer, style(paint, tone)),
            Span::raw(format!("  {}", ability.because)),
        ])
    };
    status.can.iter().map(line).collect()
}

fn stack(frame: &mut Frame<'_>, area: Rect, status: &Status, names: &Names, paint: Paint) {
    let block = Block::bordered().title(" Stack ");
    let inner = block.inner(area);
    let room = usize::from(inner.height);
    let all = status.resources.len();
    let shown = if all > room { room.saturating_sub(1) } else { all };
    let width = usize::from(inner.width);
    let name = status.resources.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).min(14);
    let class = status.resources.iter().map(|r| class_of(r).chars().count()).max().unwrap_or(0).min(20);
    let mut lines = Vec::new();
    for resource in status.resources.iter().take(shown) {
        let mut spans = vec![
            Span::raw(format!(" {:name$}  ", page::cut(&resource.name, name))),
            Span::styled(
                format!("{:class$}  ", page::cut(class_of(resource), class)),
                style(paint, Tone::Dim),
            ),
        ];
        for (node, state) in Node::ALL.into_iter().zip(resource.state) {
            let text = format!("{} {:8}", names.get(node), words::running(state));
            spans.push(Span::styled(text, style(paint, Tone::running(state))));
        }
        let remarks = facts::remarks(resource, names);
        let used: usize = spans.iter().map(|span| span.content.chars().count()).sum();
        let (tone, last) =
            if remarks.is_empty() { (Tone::Dim, facts::since(resource)) } else { (Tone::Warn, remarks) };
        spans.push(Span::styled(page::cut(&last, width.saturating_sub(used)), style(paint, tone)));
        lines.push(Line::from(spans));
    }
    if shown < all {
        lines.push(Line::from(format!(" … {} more: a taller window shows them", all - shown)));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn events(frame: &mut Frame<'_>, area: Rect, state: &State, names: &Names) {
    let block = Block::bordered().title(" Events, the newest first ");
    let inner = block.inner(area);
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    for entry in state.history.iter().rev().take(usize::from(inner.height)) {
        lines.push(event(entry, names, state.paint, width));
        if let What::Move(moved) = &entry.what
            && inner.height >= ROOMY
        {
            let mut page = Page::new(width, Paint(false));
            view::history::bars(&mut page, moved);
            lines.extend(page.finish().lines().map(|bar| Line::from(format!("  {bar}"))));
        }
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn event(entry: &Entry, names: &Names, paint: Paint, width: usize) -> Line<'static> {
    let (tone, text) = match &entry.what {
        What::Decision { level, text } => (Tone::level(*level), text.clone()),
        What::Move(moved) => {
            let took = words::time(facts::duration(moved));
            let tone = if moved.finished { Tone::Strong } else { Tone::level(LogLevel::Warn) };
            (tone, format!("{} {} took {took}: {}", moved.kind, facts::route(moved, names), moved.because))
        }
    };
    // Without the year, which people know.
    let at: String = words::clean(&entry.at).replace('T', " ").replace('Z', "").chars().skip(5).collect();
    let room = width.saturating_sub(at.chars().count() + 3);
    Line::from(vec![
        Span::styled(format!(" {at}  "), style(paint, Tone::Dim)),
        Span::styled(page::cut(&words::clean(&text), room), style(paint, tone)),
    ])
}

fn style(paint: Paint, tone: Tone) -> Style {
    let colour = |colour| if paint.0 { Style::new().fg(colour) } else { Style::new() };
    match tone {
        Tone::Plain => Style::new(),
        Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tone::Good => colour(Color::Green),
        Tone::Warn => colour(Color::Yellow),
        Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::News;
    use super::*;
    use crate::view::sample;
    use crate::view::tests::golden;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn history() -> Vec<Entry> {
        let at = |minute: u32| format!("2026-11-24T23:{minute:02}:24Z");
        let say = |level, text: &str| What::Decision { level, text: text.to_owned() };
        vec![
            Entry { at: at(1), what: say(LogLevel::Warn, "ha-a is silent on every path") },
            Entry {
                at: at(2),
                what: What::Move(sample::moved("takeover", 3, Some(Node::B), 0, "ha-b is silent")),
            },
            Entry { at: at(3), what: say(LogLevel::Error, "mariadb has failed on both hosts") },
        ]
    }

    fn frame(width: u16, height: u16, state: &State) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    fn state(status: Status) -> State {
        let mut state = State::new(Paint(true));
        state.news(News::Status(Box::new(status)));
        state.news(News::History(history()));
        state
    }

    #[test]
    fn the_overview_fits_small_and_large_terminals() {
        for (name, status) in [
            ("protected", sample::protected()),
            ("resync", sample::resync()),
            ("held", sample::held()),
            ("no-record", sample::no_record()),
        ] {
            golden(&format!("watch-80x24-{name}"), &frame(80, 24, &state(status)));
        }
        golden("watch-200x60-held", &frame(200, 60, &state(sample::held())));
    }

    #[test]
    fn pages_of_text_are_drawn_and_can_be_moved() {
        let mut state = state(sample::standby_lost());
        for (page, word) in [(Shown::Why, "These rest on"), (Shown::History, "took"), (Shown::Help, "Esc")] {
            state.shown = page;
            let text = frame(80, 24, &state);
            assert!(text.contains(word), "{text}");
        }
        (state.shown, state.scroll) = (Shown::Why, u16::MAX);
        let text = frame(80, 6, &state);
        assert!(text.contains("is over after"), "the end of the page is reached, not passed:\n{text}");
    }

    #[test]
    fn no_size_of_a_terminal_ends_the_view() {
        for width in [1, 2, 13, 40, 79, 300] {
            for height in [1, 2, 5, 12, 23, 100] {
                for shown in [Shown::Overview, Shown::Why, Shown::History, Shown::Help] {
                    let mut state = state(sample::held());
                    state.shown = shown;
                    frame(width, height, &state);
                }
            }
        }
    }

    #[test]
    fn a_silent_manager_is_told_and_the_last_view_stays() {
        let mut state = state(sample::protected());
        state.news(News::Lost("it does not run".to_owned()));
        let text = frame(80, 24, &state);
        assert!(text.contains("NOT LIVE") && text.contains("PROTECTED"), "{text}");
        let mut before = State::new(Paint(false));
        before.news(News::Lost("it does not run".to_owned()));
        assert!(frame(80, 24, &before).contains("it does not run"));
    }
}
