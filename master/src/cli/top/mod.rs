//! `dutch-master top`: what a master does, live. It looks once a second, and at once when something happens.

mod view;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, SystemTime};

use dutch_master_protocol::control::{FromControl, Subscribe, ToControl};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{MissedTickBehavior, interval};

use self::view::{Scroll, View};
use super::args::Which;
use super::client::{Client, ClientError};
use super::exit::{self, Failure};
use super::find;
use super::status;

/// Between two looks at a master that says nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shortest time between two pictures, however much happens: fewer bytes over a slow line, and less work for the master.
const DRAW_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// Keys that wait to be handled: more than anybody types ahead.
const KEYS_MAX: usize = 16;

/// Draws until `q`, or until the master ends.
pub(super) async fn run(which: &Which) -> Result<u8, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    let socket = find::socket(which)?;
    let (mut asker, mut listener) = (Client::connect(&socket).await?, Client::connect(&socket).await?);
    let ToControl::Accepted(_) = listener.ask(&FromControl::Subscribe(Subscribe {})).await? else { return Err(ClientError::Unexpected.into()) };
    let mut terminal = ratatui::try_init().map_err(Failure::Terminal)?;
    let outcome = watch(&mut terminal, &mut asker, &mut listener).await;
    ratatui::restore();
    let gone = outcome?;
    if gone {
        super::print::note("The master has ended.");
    }
    Ok(exit::DONE)
}

/// Returns whether the master ended.
async fn watch(terminal: &mut DefaultTerminal, asker: &mut Client, listener: &mut Client) -> Result<bool, Failure> {
    let mut keys = keys();
    let mut looks = interval(LOOK_EVERY);
    let mut pictures = interval(DRAW_AT_MOST_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pictures.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut view, mut is_outdated) = (View::default(), true);
    loop {
        tokio::select! {
            biased;
            key = keys.recv() => match key {
                Some(Key::Quit) | None => return Ok(false),
                Some(Key::Redraw) => is_outdated = true,
                Some(Key::Scroll(to)) => {
                    view.scroll(to);
                    is_outdated = true;
                }
            },
            answer = listener.next() => match answer? {
                Some(ToControl::Progress(progress)) => {
                    view.happened(SystemTime::now(), &progress);
                    is_outdated = true;
                }
                Some(_) => return Err(ClientError::Unexpected.into()),
                None => return Ok(true),
            },
            _ = pictures.tick(), if is_outdated => {
                match status::ask(asker).await {
                    Ok(report) => view.report = Some(report),
                    Err(ClientError::Ended) => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
                terminal.draw(|frame| view.draw(frame)).map_err(Failure::Terminal)?;
                is_outdated = false;
            }
            _ = looks.tick() => is_outdated = true,
        }
    }
}

/// What a key is for.
#[derive(Clone, Copy)]
enum Key {
    Quit,
    Redraw,
    Scroll(Scroll),
}

/// Which key is for what.
const KEYS: [(KeyCode, Key); 10] = [
    (KeyCode::Char('q'), Key::Quit),
    (KeyCode::Esc, Key::Quit),
    (KeyCode::Up, Key::Scroll(Scroll::Lines(-1))),
    (KeyCode::Char('k'), Key::Scroll(Scroll::Lines(-1))),
    (KeyCode::Down, Key::Scroll(Scroll::Lines(1))),
    (KeyCode::Char('j'), Key::Scroll(Scroll::Lines(1))),
    (KeyCode::PageUp, Key::Scroll(Scroll::Pages(-1))),
    (KeyCode::PageDown, Key::Scroll(Scroll::Pages(1))),
    (KeyCode::Home, Key::Scroll(Scroll::Start)),
    (KeyCode::End, Key::Scroll(Scroll::End)),
];

impl Key {
    fn of(event: &Event) -> Option<Key> {
        match event {
            // In raw mode Ctrl-C is a key like any other.
            Event::Key(key) if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            Event::Key(key) => KEYS.iter().find(|(code, _)| *code == key.code).map(|(_, key)| *key),
            Event::Resize(..) => Some(Key::Redraw),
            Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => None,
        }
    }
}

/// Reading keys blocks, so a thread of its own does it; it ends with the program.
fn keys() -> Receiver<Key> {
    let (sender, keys) = channel(KEYS_MAX);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Some(key) = Key::of(&event) else { continue };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}
