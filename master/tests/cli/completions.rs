//! Completion scripts, as the shells that are here take them.

use std::fs;
use std::process::Command;

use crate::process::{Folder, program, run};

/// Loads the script and completes command lines, each after a tab.
const COMPLETE: &str = r#"
source c.bash
function_of=$(complete -p dutch-master | sed 's/.* -F \([^ ]*\).*/\1/')
compopt() { :; }  # only real completing has options of its own
while read -r line; do
    read -ra COMP_WORDS <<< "${line%|}"
    [[ $line == *' |' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    "$function_of" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
done
"#;

fn written(folder: &Folder, shell: &str) -> String {
    let said = run(program(folder, &["completions", shell]));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{shell}");
    fs::write(folder.path().join(format!("c.{shell}")), &said.stdout).unwrap();
    said.stdout
}

#[test]
fn completions_know_every_command_and_option() {
    let folder = Folder::new("completions");
    for shell in ["bash", "zsh", "fish"] {
        let script = written(&folder, shell);
        for word in ["reload", "num-workers", "log-format", "bunyan", "SIGWINCH"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // Where the shell is here, it has to understand the script.
        match Command::new(shell).args(["-n", &format!("c.{shell}")]).current_dir(folder.path()).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            Err(_) => eprintln!("skipped: no {shell} here"),
        }
    }
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    let folder = Folder::new("bash");
    written(&folder, "bash");
    fs::write(folder.path().join("shop one.toml"), "").unwrap();
    let cases = [
        ("dutch-master re", "restart reload"),
        ("/usr/bin/dutch-master sta", "start status"),
        ("dutch-master restart --no", "--no-wait"),
        ("dutch-master restart --q", "--quiet"),
        ("dutch-master stop --ti", "--timeout"),
        ("dutch-master status --a", "--all"),
        ("dutch-master start --kill", "--kill-timeout"),
        ("dutch-master start -n 4 --log-f", "--log-format --log-file"),
        ("dutch-master start --log-format |", "pretty json bunyan"),
        ("dutch-master start --log-level w", "warn"),
        ("dutch-master start --restart-signal SIGUSR", "SIGUSR1 SIGUSR2"),
        ("dutch-master start -n a", "auto"),
        ("dutch-master check --surge |", "25% all"),
        ("dutch-master start --config shop", "shop one.toml"),
        ("dutch-master adapt --stop-signal Q", "QUIT"),
        ("dutch-master completions z", "zsh"),
        ("dutch-master scale --na", "--name"),
    ];
    let lines: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    fs::write(folder.path().join("lines"), lines).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &format!("{{ {COMPLETE} }} < lines")]).current_dir(folder.path());
    let said = run(bash);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let completed: Vec<_> = said.stdout.lines().collect();
    assert_eq!(completed.len(), cases.len(), "{said:?}");
    for ((line, expected), completed) in cases.iter().zip(completed) {
        assert_eq!(completed, *expected, "{line}");
    }
}
