//! `dutch-master subscribe`: what happens, as JSON for scripts.

use std::time::SystemTime;

use dutch_master_protocol::control::{FromControl, Progress, Subscribe, ToControl};
use serde::Serialize;

use super::args::Which;
use super::client::{Client, ClientError};
use super::exit::{self, Failure};
use super::find;
use super::print::try_say;

/// The first line, which no log has: what happens from now on is told, so a script that has read it misses nothing of what it then asks for.
const FIRST: &str = "Subscribed";

/// One line. Its keys stay.
#[derive(Debug, Serialize)]
struct Event {
    /// When it was heard.
    time: String,
    #[serde(flatten)]
    progress: Progress,
}

/// Prints until the master ends, or nobody reads any more.
pub(super) async fn run(which: &Which) -> Result<u8, Failure> {
    let mut client = Client::connect(&find::socket(which)?).await?;
    let ToControl::Accepted(_) = client.ask(&FromControl::Subscribe(Subscribe {})).await? else { return Err(ClientError::Unexpected.into()) };
    let mut progress = Progress { message: FIRST.into(), ..Progress::default() };
    while print(&Event { time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(), progress })? {
        progress = match client.next().await? {
            Some(ToControl::Progress(progress)) => progress,
            Some(_) => return Err(ClientError::Unexpected.into()),
            None => break,
        };
    }
    Ok(exit::DONE)
}

/// At once: whoever reads wants to act on it. Whether somebody still does.
fn print(event: &Event) -> Result<bool, Failure> {
    // Names and numbers in memory: it cannot fail.
    try_say(&(serde_json::to_string(event).unwrap_or_default() + "\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_field_and_whether_it_is_always_there() {
        let written = |progress: Progress| {
            let event = serde_json::to_value(Event { time: String::new(), progress }).unwrap();
            event.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
        };
        let most = written(Progress { message: String::new(), worker: Some(1), generation: Some(1), detail: Some(String::new()) });
        let least = written(Progress::default());
        let expected: BTreeSet<_> = most.into_iter().map(|field| if least.contains(&field) { (field, "yes") } else { (field, "no") }).collect();
        let (fields, _) = include_str!("../../../docs/events.md").split_once("\n## ").unwrap();
        let rows = fields.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let documented: BTreeSet<_> = rows.map(|(field, row)| (field.to_owned(), row.split(" | ").nth(1).unwrap())).collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn an_event_is_one_object_with_the_words_of_the_log() {
        let progress = Progress { message: "Worker listening".into(), worker: Some(3), generation: Some(2), detail: None };
        let line = serde_json::to_string(&Event { time: "2026-01-01T00:00:00.000Z".into(), progress }).unwrap();
        assert_eq!(line, r#"{"time":"2026-01-01T00:00:00.000Z","message":"Worker listening","worker":3,"generation":2}"#);
    }
}
