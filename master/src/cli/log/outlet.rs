//! Where lines go: standard error, or a file. Of a file that cannot be written standard error is told once.

use std::io;
use std::time::SystemTime;

use dutch_master::remedy;
use tracing::Level;

use super::file::{LogFile, LogFileError};
use super::format::{Format, Line};
use super::sink::{Loss, Sink};
use crate::cli::settings::Log;

#[derive(Debug)]
pub(super) struct Outlet {
    format: Format,
    file: Option<(LogFile, Sink)>,
    standard_error: Sink,
}

impl Outlet {
    pub(super) fn open(options: &Log) -> Result<Outlet, LogFileError> {
        let file = options.file.as_deref().map(LogFile::open).transpose()?;
        let format = match &file {
            Some(file) => Format::new(options.format, &file.file),
            None => Format::new(options.format, &io::stderr()),
        };
        Ok(Outlet { format, file: file.map(|file| (file, Sink::default())), standard_error: Sink::default() })
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn reopen(&mut self) -> Result<(), LogFileError> {
        self.file.as_mut().map_or(Ok(()), |(file, _)| file.reopen())
    }

    pub(super) fn write(&mut self, line: &Line<'_>) {
        let format = &self.format;
        let tell = |lost: u64, why: Loss| {
            let fields = [("lines", lost.into()), ("reason", why.to_string().into())];
            format.line(&Line { time: SystemTime::now(), level: Level::WARN, message: "Log lines lost", fields: &fields })
        };
        let line = format.line(line);
        let Some((file, sink)) = &mut self.file else {
            self.standard_error.write(&mut io::stderr().lock(), &line, tell);
            return;
        };
        if let Some(why) = sink.write(&mut file.file, &line, tell) {
            let remedy = if let Loss::Failed(errno) = why { remedy(&errno.into()) } else { "" };
            let reason = format!("{}: {why}{remedy}", file.path().display());
            let line = format.line(&Line {
                time: SystemTime::now(),
                level: Level::ERROR,
                message: "Log file cannot be written",
                fields: &[("reason", reason.into())],
            });
            self.standard_error.write(&mut io::stderr().lock(), &line, tell);
        }
    }
}
