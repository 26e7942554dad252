//! What lets a shell complete commands and options, made from the command line's description.

use clap::CommandFactory;
use clap_complete::{aot, generate};

use super::args::{CommandLine, Shell};
use super::exit::{self, Failure};
use super::print::try_say;

const NAME: &str = "dutch-master";

/// `dutch-master completions`.
pub(super) fn run(shell: Shell) -> Result<u8, Failure> {
    let mut command = CommandLine::command();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(aot::Bash, &mut command, NAME, &mut script),
        Shell::Zsh => generate(aot::Zsh, &mut command, NAME, &mut script),
        Shell::Fish => generate(aot::Fish, &mut command, NAME, &mut script),
    }
    try_say(&with_one_label(&String::from_utf8_lossy(&script)))?;
    Ok(exit::DONE)
}

/// For a program with a hyphen in its name, clap_complete 4.6 gives a command one label where bash looks for it, and another one where it completes for it.
fn with_one_label(script: &str) -> String {
    script.replace("dutch__subcmd__master__subcmd__", "dutch__master__subcmd__")
}
