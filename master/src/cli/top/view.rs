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

/// Blanks between two columns.
const SPACING: u16 = 2;

/// Events that are kept: more than a terminal has lines.
const EVENTS_MAX: usize = 200;

/// Lines of events, with their title, that stay on a small terminal.
const EVENTS_MIN: u16 = 3;

/// Workers that are seen at once even on a small terminal.
const WORKERS_MIN: u16 = 3;

/// Listeners that are shown: what is left over is the workers'.
const LISTENERS_MAX: usize = 5;

/// The columns of workers in the order in which a narrow terminal loses them: a number is shown whole or not at all. The id and the state stay.
const WORKER_COLUMNS_LOST: [usize; 7] = [8, 1, 6, 5, 4, 7, 3];

/// The same of listeners, whose name and queue stay.
const LISTENER_COLUMNS_LOST: [usize; 2] = [3, 1];

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) report: Option<Report>,
    /// The newest first.
    events: VecDeque<String>,
    /// The first worker that is shown, by its place in the list, and how many are.
    first: usize,
    page: usize,
}

/// Where to go in the list of workers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scroll {
    Lines(isize),
    Pages(isize),
    Start,
    End,
}

impl View {
    /// Remembers an event.
    pub(super) fn happened(&mut self, at: SystemTime, progress: &Progress) {
        let time = humantime::format_rfc3339_seconds(at).to_string();
        // The day is known to whoever watches.
        let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
        let generation = progress.generation.map_or(String::new(), |generation| format!("  g{generation}"));
        self.events.push_front(format!("{time}{generation}  {}", wait::line(progress)));
        self.events.truncate(EVENTS_MAX);
    }

    /// Shows other workers. What is beyond the list is corrected when it is drawn.
    pub(super) fn scroll(&mut self, to: Scroll) {
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        self.first = match to {
            Scroll::Lines(lines) => self.first.saturating_add_signed(lines),
            Scroll::Pages(pages) => self.first.saturating_add_signed(page.saturating_mul(pages)),
            Scroll::Start => 0,
            Scroll::End => usize::MAX,
        };
    }

    /// Draws all of it, or what matters most: the state of the pool, some workers and events, then listeners, and then the rest.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let Some(report) = &self.report else { return };
        let (width, height) = (usize::from(frame.area().width), frame.area().height);
        let summary = status::summary(report);
        let mut summary = summary.lines().map(status::harmless);
        let state = wrapped(&summary.next().unwrap_or_default(), width);
        let details: Vec<_> = summary.by_ref().take(2).map(|line| shortened(&line, width)).collect();
        let troubles: Vec<_> = summary.flat_map(|line| wrapped(&line, width)).collect();
        let (workers, mut listeners): (Vec<_>, Vec<_>) = (status::worker_rows(report).collect(), status::listener_rows(report).collect());
        let unseen_listeners = listeners.len().saturating_sub(LISTENERS_MAX);
        listeners.truncate(LISTENERS_MAX);

        let all_workers = lines(&workers);
        let mut worker_rows = all_workers.min(WORKERS_MIN);
        let needed = [lines(&state), lines(&troubles), with_head(worker_rows), EVENTS_MIN, FOOT];
        let mut room = needed.into_iter().fold(height, u16::saturating_sub);
        let mut has_room = |wanted: u16| {
            let fits = wanted <= room;
            room -= if fits { wanted } else { 0 };
            fits
        };
        let more = u16::from(unseen_listeners > 0);
        if !has_room(with_head(lines(&listeners)) + more) {
            listeners.clear();
        }
        let has_details = has_room(lines(&details));
        let gap = u16::from(has_room(GAPS));
        worker_rows += room.min(all_workers - worker_rows);

        self.page = usize::from(worker_rows);
        self.first = self.first.min(workers.len().saturating_sub(self.page));
        let shown = &workers[self.first..workers.len().min(self.first + self.page)];
        let foot = foot(self.first, shown.len(), workers.len(), width);

        let [mut rest, foot_area] = Layout::vertical([Constraint::Min(0), Constraint::Length(FOOT)]).areas(frame.area());
        let mut next = |height: u16, gap: u16| {
            let [area, _, below] = Layout::vertical([Constraint::Length(height), Constraint::Length(gap), Constraint::Min(0)]).areas(rest);
            rest = below;
            area
        };
        let head: Vec<_> = state.into_iter().chain(details.into_iter().filter(|_| has_details)).chain(troubles).map(Line::raw).collect();
        let head_area = next(lines(&head), gap);
        frame.render_widget(Paragraph::new(head), head_area);
        let gap_after = |rows: u16| if rows == 0 { 0 } else { gap };
        table(frame, next(with_head(worker_rows), gap_after(worker_rows)), WORKER_COLUMNS, &WORKER_COLUMNS_LOST, &workers, shown, |row| state_colour(&row[2]));
        let queue_colour = |row: &[String; 4]| if matches!(row[2].as_str(), "0" | "-") { Style::new() } else { Color::Yellow.into() };
        table(frame, next(with_head(lines(&listeners)), 0), LISTENER_COLUMNS, &LISTENER_COLUMNS_LOST, &listeners, &listeners, queue_colour);
        let more_area = next(more.min(lines(&listeners)), gap_after(lines(&listeners)));
        frame.render_widget(Line::styled(shortened(&format!("… {unseen_listeners} more: see `dutch-master status`"), width), Modifier::DIM), more_area);
        let events: Vec<_> = self.events.iter().map(|event| Line::raw(shortened(event, width))).collect();
        frame.render_widget(Paragraph::new(events).block(Block::new().borders(Borders::TOP).title(" events, newest first ")), rest);
        frame.render_widget(Line::styled(foot, Modifier::DIM), foot_area);
    }
}

/// The line with the keys.
const FOOT: u16 = 1;

/// The empty lines between the parts, of which all or none are there.
const GAPS: u16 = 3;

fn lines<T>(of: &[T]) -> u16 {
    u16::try_from(of.len()).unwrap_or(u16::MAX)
}

/// The height of a table.
fn with_head(rows: u16) -> u16 {
    if rows == 0 { 0 } else { rows.saturating_add(1) }
}

/// Which keys there are, and which part of the workers is seen where it is not all of them.
fn foot(first: usize, shown: usize, all: usize, width: usize) -> String {
    if shown == all {
        return "q: quit".into();
    }
    let part = format!("q: quit  workers {}-{} of {all}", first + 1, first + shown);
    let whole = format!("{part}  ↑ ↓ PgUp PgDn Home End: others");
    if whole.chars().count() <= width { whole } else { part }
}

/// The rows of `all` that are `shown`, in columns as wide as all of them need: none moves when one scrolls. Columns that a narrow terminal has no room for are left out whole.
fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    head: [&str; N],
    lost: &[usize],
    all: &[[String; N]],
    shown: &[[String; N]],
    style: impl Fn(&[String; N]) -> Style,
) {
    if shown.is_empty() {
        return;
    }
    let width = |column: usize| all.iter().map(|row| chars(&row[column])).chain([chars(head[column])]).max().unwrap_or_default();
    let mut columns: Vec<usize> = (0..N).collect();
    for column in lost {
        let total: u16 = columns.iter().fold(0, |total, column| total.saturating_add(width(*column)).saturating_add(SPACING));
        if total > area.width.saturating_add(SPACING) {
            columns.retain(|kept| kept != column);
        }
    }
    let widths = columns.iter().map(|column| Constraint::Length(width(*column)));
    let cells = |row: &[String; N]| Row::new(columns.iter().map(|column| Cell::from(status::harmless(&row[*column]))).collect::<Vec<_>>());
    let titles = Row::new(columns.iter().map(|column| head[*column])).style(Modifier::BOLD);
    let body = shown.iter().map(|row| cells(row).style(style(row)));
    frame.render_widget(Table::new(body, widths).header(titles).column_spacing(SPACING), area);
}

fn chars(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// A line in as many as it takes, broken between words.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.iter().map(|line| shortened(line, width)).collect()
}

/// A line that shows where it was cut.
fn shortened(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.into();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, UNIX_EPOCH};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture(view: &mut View, width: u16, height: u16) -> Vec<String> {
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
        assert_eq!(picture(&mut view(), 80, 17).join("\n"), expected);
    }

    #[test]
    fn a_small_terminal_still_shows_events() {
        for (width, height) in [(40, 8), (10, 3), (1, 1)] {
            let lines = picture(&mut view(), width, height);
            assert!(height < 8 || lines.iter().any(|line| line.contains("Worker listening")), "{lines:#?}");
        }
    }

    #[test]
    fn a_narrow_terminal_loses_whole_columns_and_never_a_digit() {
        let mut view = View { report: Some(status::tests::report_of(2)), ..View::default() };
        let wide = picture(&mut view, 120, 24).join("\n");
        let cells: HashSet<&str> = wide.split("  ").map(str::trim).flat_map(|cell| cell.split('\n')).collect();
        for width in 18..=120 {
            let picture = picture(&mut view, width, 24);
            let table: Vec<_> = picture.iter().skip_while(|line| !line.starts_with("WORKER")).take_while(|line| !line.contains("events")).collect();
            for cell in table.iter().flat_map(|line| line.split("  ")).map(str::trim) {
                assert!(cells.contains(cell), "{cell:?} at {width}: {picture:#?}");
            }
            assert!(table[0].contains("STATE") && table[1].contains("running"), "{picture:#?}");
        }
    }

    #[test]
    fn workers_that_do_not_fit_are_scrolled_to_and_the_part_that_is_seen_is_told() {
        let mut view = View { report: Some(status::tests::report_of(20)), ..View::default() };
        for (width, height, page) in [(40, 10, 3), (60, 15, 4), (80, 24, 11)] {
            let mut seen = |to: Scroll| {
                view.scroll(to);
                let picture = picture(&mut view, width, height);
                let ids: Vec<u32> = picture.iter().filter(|line| line.contains("running ")).filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
                let foot = format!("workers {}-{} of 20", ids[0] + 1 - 3, ids[0] + page - 3);
                assert!(picture.last().unwrap().contains(&foot), "{foot}: {picture:#?}");
                assert_eq!(ids.len(), page as usize, "{picture:#?}");
                ids[0] - 3
            };
            let (last, below) = (20 - page, (1 + page).min(20 - page));
            for (to, first) in [
                (Scroll::Start, 0),
                (Scroll::Lines(-1), 0),
                (Scroll::Lines(1), 1),
                (Scroll::Pages(1), below),
                (Scroll::Pages(-1), below.saturating_sub(page)),
                (Scroll::End, last),
                (Scroll::Lines(1), last),
                (Scroll::Pages(-9), 0),
            ] {
                assert_eq!(seen(to), first, "{to:?} at {width} by {height}");
            }
        }
    }

    #[test]
    fn a_text_that_is_cut_shows_it() {
        let mut view = view();
        let picture = picture(&mut view, 30, 24);
        assert!(picture.contains(&"app-1a2b  restarting, 1 of 2".to_owned()) && picture.contains(&"workers running, generation 2".to_owned()), "{picture:#?}");
        assert!(
            picture.contains(&"  master 0.1.0, pid 4000, up …".to_owned()) && picture.contains(&"00:00:00Z  g2  Creating new w…".to_owned()),
            "{picture:#?}"
        );
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
