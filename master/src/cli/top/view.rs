//! The picture: the pool in a few lines, its workers, its listeners, and what happened last.

use std::collections::VecDeque;
use std::time::SystemTime;

use dutch_master_protocol::control::Progress;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use crate::cli::status::{self, LISTENER_COLUMNS, Report, WORKER_COLUMNS};
use crate::cli::wait;

/// Events that are kept: more than a terminal has lines.
const EVENTS_MAX: usize = 200;

/// Lines of events that stay on a small terminal.
const EVENTS_MIN: u16 = 3;

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) report: Option<Report>,
    /// The newest first.
    events: VecDeque<String>,
}

impl View {
    /// Remembers an event.
    pub(super) fn happened(&mut self, at: SystemTime, progress: &Progress) {
        let time = humantime::format_rfc3339_seconds(at).to_string();
        // The day is known to whoever watches.
        let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
        let generation = progress.generation.map_or(String::new(), |generation| format!("  g{generation}"));
        self.events.push_front(format!("{time}{generation}  {}", status::harmless(&wait::line(progress))));
        self.events.truncate(EVENTS_MAX);
    }

    /// Draws all of it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some(report) = &self.report else { return };
        let summary = status::summary(report);
        let (workers, listeners): (Vec<_>, Vec<_>) = (status::worker_rows(report).collect(), status::listener_rows(report).collect());
        let height = |lines: usize| Constraint::Max(u16::try_from(lines).unwrap_or(u16::MAX));
        let parts =
            [height(summary.lines().count() + 1), height(workers.len() + 2), height(listeners.len() + 2), Constraint::Min(EVENTS_MIN), Constraint::Length(1)];
        let [head, worker_area, listener_area, event_area, foot] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(Paragraph::new(plain_lines(&summary)), head);
        table(frame, worker_area, WORKER_COLUMNS, workers, |row| state_colour(&row[2]));
        table(frame, listener_area, LISTENER_COLUMNS, listeners, |row| if matches!(row[2].as_str(), "0" | "-") { Style::new() } else { Color::Yellow.into() });
        let events: Vec<_> = self.events.iter().map(|event| Line::raw(event.as_str())).collect();
        frame.render_widget(Paragraph::new(events).block(Block::new().borders(Borders::TOP).title(" events, newest first ")), event_area);
        frame.render_widget(Line::styled("q: quit", Modifier::DIM), foot);
    }
}

fn table<const N: usize>(frame: &mut Frame<'_>, area: Rect, head: [&str; N], rows: Vec<[String; N]>, style: impl Fn(&[String; N]) -> Style) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(|column| Constraint::Length(u16::try_from(width(column)).unwrap_or(u16::MAX))).collect();
    let body = rows.iter().map(|row| Row::new(row.each_ref().map(|cell| Cell::from(status::harmless(cell)))).style(style(row)));
    frame.render_widget(Table::new(body, widths).header(Row::new(head).style(Modifier::BOLD)).column_spacing(2), area);
}

fn state_colour(state: &str) -> Style {
    match state {
        "running" => Color::Green.into(),
        "starting" => Color::Cyan.into(),
        "draining" => Color::Yellow.into(),
        "lost" | "killing" => Color::Red.into(),
        _ => Style::new(),
    }
}

fn plain_lines(text: &str) -> Vec<Line<'static>> {
    text.lines().map(|line| Line::raw(status::harmless(line))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn view() -> View {
        let mut view = View { report: Some(status::tests::report()), ..View::default() };
        for (seconds, message) in [(0, "Creating new worker"), (61, "Worker listening\u{1b}[2J")] {
            view.happened(UNIX_EPOCH + Duration::from_secs(seconds), &Progress { message: message.into(), worker: Some(4), generation: Some(2), detail: None });
        }
        view
    }

    #[test]
    fn the_picture_has_the_pool_its_workers_its_listeners_and_the_newest_event_first() {
        let rule = "─".repeat(80 - 22);
        let expected = format!(
            "\
app-1a2b  restarting, 1 of 2 workers running, generation 2 (committed: 1)
  app.js --x in /srv/app
  master 0.1.0, pid 4000, up 1d 1h, 1 restart

WORKER  SLOT  STATE     GENERATION  PID   AGE    RESTARTS  MEMORY    SDK
3       0     running   2           4003  1m 1s  1         43.6 MiB  node/0.1.0
4       1     starting  2           -     1m 1s  1         -         -

LISTENER  ADDRESS  WAITING  BACKLOG
web       *:8000   3        511

 events, newest first {rule}
00:01:01Z  g2  Worker listening\u{fffd}[2J (worker 4)
00:00:00Z  g2  Creating new worker (worker 4)


q: quit"
        );
        assert_eq!(picture(&view(), 80, 17).join("\n"), expected);
    }

    #[test]
    fn a_small_terminal_still_shows_events() {
        for (width, height) in [(40, 8), (10, 3), (1, 1)] {
            let lines = picture(&view(), width, height);
            assert!(height < 8 || lines.iter().any(|line| line.contains("Worker listening")), "{lines:#?}");
        }
    }

    #[test]
    fn events_are_kept_up_to_a_limit() {
        let mut view = View::default();
        for n in 0..=EVENTS_MAX {
            view.happened(UNIX_EPOCH, &Progress { message: n.to_string(), ..Progress::default() });
        }
        assert_eq!((view.events.len(), view.events[0].ends_with(&EVENTS_MAX.to_string())), (EVENTS_MAX, true));
    }
}
