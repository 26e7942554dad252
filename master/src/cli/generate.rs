//! What is made from the command line's description: completions and manual pages. `dutch-master man | man -l -` shows one.

use clap::CommandFactory;
use clap_complete::{aot, generate};

use super::args::{CommandLine, Shell};
use super::exit::{self, Failure};
use super::print::{note, try_say};

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
    print(&with_one_label(&String::from_utf8_lossy(&script)))
}

/// For a program with a hyphen in its name, clap_complete 4.6 gives a command one label where bash looks for it, and another one where it completes for it.
fn with_one_label(script: &str) -> String {
    script.replace("dutch__subcmd__master__subcmd__", "dutch__master__subcmd__")
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
    print(&String::from_utf8_lossy(&page))
}

fn print(text: &str) -> Result<u8, Failure> {
    try_say(text)?;
    Ok(exit::DONE)
}
