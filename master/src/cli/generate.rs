//! What is made from the command line's description: completions and manual pages. `dutch-master man | man -l -` shows one.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{aot, generate};

use super::args::{CommandLine, Shell};
use super::exit::{self, Failure};
use super::print::note;

const NAME: &str = "dutch-master";

/// `dutch-master completions`.
pub(super) fn completions(shell: Shell) -> Result<u8, Failure> {
    let mut command = CommandLine::command();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(aot::Bash, &mut command, NAME, &mut script),
        Shell::Zsh => generate(aot::Zsh, &mut command, NAME, &mut script),
        Shell::Fish => generate(aot::Fish, &mut command, NAME, &mut script),
    }
    print(&script)
}

/// `dutch-master man`.
pub(super) fn man(of: Option<&str>) -> Result<u8, Failure> {
    let mut all = CommandLine::command();
    // So that each command knows its full name.
    all.build();
    let one = of.map_or(Some(&all), |name| all.get_subcommands().find(|command| command.get_name() == name));
    let Some(one) = one else {
        note(&format!("error: there is no command `{}`", of.unwrap_or_default()));
        return Ok(exit::USAGE);
    };
    let mut page = Vec::new();
    // In memory: it cannot fail.
    let _ = clap_mangen::Man::new(one.clone()).render(&mut page);
    print(&page)
}

/// A reader that goes away is no failure.
fn print(text: &[u8]) -> Result<u8, Failure> {
    let _ = io::stdout().lock().write_all(text);
    Ok(exit::DONE)
}
