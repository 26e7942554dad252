//! Wrong usage, help, and commands that find no master.

use crate::process::{Folder, program, run};

#[test]
fn help_goes_to_standard_output_and_is_a_success() {
    let folder = Folder::new("help");
    for args in [vec!["--help"], vec!["help", "start"], vec!["start", "--help"], vec!["restart", "-h"], vec!["--version"]] {
        let said = run(program(&folder, &args));
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(said.stdout.contains("dutch-master"), "{args:?}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    let folder = Folder::new("usage");
    for (args, text) in [
        (vec![], "Usage"),
        (vec!["start"], "WORKER"),
        (vec!["start", "--kill-timeout", "30", "app.js"], "`30s`"),
        (vec!["start", "-l", "localhost:80", "app.js"], "127.0.0.1:80"),
        (vec!["start", "-l", "a=1", "-l", "a=2", "app.js"], "`a`"),
        (vec!["scale", "0"], "1 to 4096 is wanted; `dutch-master stop` ends all workers"),
        (vec!["scale", "100000"], "1 to 4096 is wanted"),
        (vec!["scale", "+1", "-1"], "`scale` takes one number"),
        (vec!["status", "--watch=1ms"], "at least `100ms`"),
        (vec!["completions", "tcsh"], "bash, zsh, fish"),
        (vec!["man", "nonesuch"], "nonesuch"),
        (vec!["restart", "--no-wait", "--timeout", "3s"], "cannot be used with"),
        (vec!["status", "--name", "../a"], "make a name"),
        (vec!["app.js", "--port", "8000"], "did you mean `dutch-master start app.js --port 8000`?"),
        (vec!["-n", "4", "./serve"], "did you mean `dutch-master start -n 4 ./serve`?"),
        (vec!["stop", "web"], "did you mean `dutch-master stop --name web`?"),
        (vec!["statsu"], "'status'"),
        (vec!["status", "--watch", "2s"], "the `=` before `2s` is missing; did you mean `dutch-master status --watch=2s`?"),
        (vec!["start", "--adapt", "notify", "--", "sleep", "9"], "did you mean `dutch-master start --adapt=notify -- sleep 9`?"),
        (vec!["start", "--keep-trying", "true"], "A worker of that name has `--` before it"),
    ] {
        let said = run(program(&folder, &args));
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(said.stderr.contains(text), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn there_is_a_manual_page_for_all_and_for_each_command() {
    let folder = Folder::new("man");
    for (args, text) in [(vec!["man"], "dutch\\-master start"), (vec!["man", "start"], "\\-\\-kill\\-timeout")] {
        let said = run(program(&folder, &args));
        assert_eq!(said.code, Some(0));
        assert!(said.stdout.starts_with(".ie") && said.stdout.contains(text), "{args:?}: {said:?}");
        assert!(said.stdout.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR"), "{args:?}: {said:?}");
    }
}

#[test]
fn a_command_that_finds_no_master_exits_with_3() {
    let folder = Folder::new("none");
    let nowhere = folder.path().join("no.sock");
    for args in [
        vec!["status"],
        vec!["restart"],
        vec!["stop"],
        vec!["reload"],
        vec!["subscribe"],
        vec!["status", "--watch"],
        vec!["scale", "2"],
        vec!["status", "--name", "web"],
        vec!["stop", "--socket", nowhere.to_str().unwrap()],
    ] {
        let said = run(program(&folder, &args));
        assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{args:?}");
        assert_eq!(said.stderr.lines().count(), 1, "{args:?}: {}", said.stderr);
    }
}

#[test]
fn a_list_of_no_masters_is_a_list() {
    let folder = Folder::new("empty");
    let said = run(program(&folder, &["status", "--all", "--json"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "[]\n"));
    assert_eq!(run(program(&folder, &["status", "--all"])).stdout, "No master runs.\n");
}
