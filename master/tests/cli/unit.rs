//! `check --unit`: what the unit starts is what is checked.

use std::fs;

use crate::process::{Folder, Said, program, run};

/// A template that breaks no promise, as long as no service has other time limits.
const TEMPLATE: &str = "[Service]\nType=notify-reload\nKillMode=process\nRestart=on-failure\nFileDescriptorStoreMax=64\nTimeoutStartSec=5min\nTimeoutStopSec=45s\nOOMPolicy=continue\n";

fn check(folder: &Folder, args: &[&str]) -> Said {
    run(program(folder, &[&["check"], args].concat()))
}

/// A template whose instances run `dutch-master start` with these options, and one such configuration.
fn service(name: &str, options: &str) -> Folder {
    let folder = Folder::new(name);
    let at = folder.path().display();
    fs::write(folder.path().join("app@.service"), format!("{TEMPLATE}ExecStart=/usr/local/bin/dutch-master start --name %i --config {at}/%i.toml {options}\n"))
        .unwrap();
    fs::write(folder.path().join("shop.toml"), "worker = \"/bin/sleep\"\nargs = [\"9\"]\n").unwrap();
    folder
}

#[test]
fn configuration_and_options_are_those_that_the_unit_starts_with() {
    let folder = service("unit-exec", "--kill-timeout 2m");
    let said = check(&folder, &["--unit", "app@shop.service"]);
    let told = "warning: app@shop.service: a stop may take longer than the 45s that it is given (kill_timeout): TimeoutStopSec=2m 5s\n";
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), told), "{said:?}");
    let printed = check(&folder, &["--print", "--unit", "app@shop.service"]).stdout;
    assert!(printed.contains("kill_timeout = \"120s\"") && printed.contains("name = \"shop\"") && printed.contains("/bin/sleep"), "{printed}");
    let said = check(&folder, &["--unit", "app@shop.service", "--kill-timeout", "30s"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "what is given goes before what the unit says");
}

#[test]
fn drop_ins_of_the_template_and_of_the_instance_are_looked_at() {
    let folder = service("unit-drop-in", "");
    for (drop_in, text) in [("app@.service.d/a.conf", "OOMPolicy=stop\nKillMode=mixed"), ("app@shop.service.d/b.conf", "KillMode=process\nProcSubset=pid")] {
        fs::create_dir_all(folder.path().join(drop_in).parent().unwrap()).unwrap();
        fs::write(folder.path().join(drop_in), format!("[Service]\n{text}\n")).unwrap();
    }
    let said = check(&folder, &["--unit", "app@shop.service"]);
    assert_eq!((said.code, said.stderr.lines().count()), (Some(0), 2), "{said:?}");
    assert!(said.stderr.contains("ProcSubset=pid hides the boot id") && said.stderr.contains("OOMPolicy=continue"), "{said:?}");
    let said = check(&folder, &["--unit", "app@.service", "-c", "shop.toml"]);
    assert!(said.stderr.lines().count() == 2 && said.stderr.contains("KillMode=mixed") && said.stderr.contains("OOMPolicy=continue"), "{said:?}");
}

#[test]
fn a_start_that_would_be_refused_is_a_fault_of_the_unit() {
    for (name, options, told) in [
        ("unit-unknown", "--nmae a", "ExecStart= is refused: unexpected argument '--nmae' found"),
        ("unit-equals", "--keep-trying false", "the `=` before `false` is missing"),
        ("unit-adapt", "--adapt", "`--listen ADDRESS` configures one"),
    ] {
        let folder = service(name, options);
        let said = check(&folder, &["--unit", "app@shop.service"]);
        assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{said:?}");
        assert!(said.stderr.contains(told), "{said:?}");
    }
    let folder = service("unit-template", "");
    let said = check(&folder, &["--unit", "app@.service"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("app@.service is a template: name an instance of it (`--unit app@NAME.service`), or its configuration by -c"), "{said:?}");
    let said = check(&folder, &["--unit", "app@other.service"]);
    assert!(said.code == Some(1) && said.stderr.contains("other.toml: No such file"), "{said:?}");
    let said = check(&folder, &["--unit", "none.service"]);
    assert!(said.code == Some(1) && said.stderr.contains("cannot read none.service: No such file"), "{said:?}");
}

/// Catches: a unit that starts something else told as a command line without a WORKER, which nobody wrote.
#[test]
fn a_unit_that_does_not_start_a_master_is_told_as_that() {
    let folder = Folder::new("unit-other");
    for (file, text, told) in [
        (
            "a.service",
            "[Service]\nExecStart=/usr/bin/dutch-master strt -c a.toml\n",
            "a.service: ExecStart= does not run `dutch-master start` itself: name the configuration by -c",
        ),
        ("b.service", "[Service]\nExecStart=dutch-master start -c ${FILE}\n", "b.service: ExecStart= has variables: name the configuration by -c"),
        ("c.socket", "[Socket]\nListenStream=8000\n", "c.socket has no ExecStart=: name the configuration by -c"),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
        let said = check(&folder, &["--unit", file]);
        assert_eq!((said.code, said.stderr), (Some(1), format!("dutch-master: {told}\n")), "{file}");
        let said = check(&folder, &["--unit", file, "/bin/sleep", "9"]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), "The configuration is right.\n"), "{file}: what is given is enough");
    }
}

#[test]
fn a_second_exec_start_is_refused_as_systemd_refuses_it() {
    let folder = service("unit-second", "");
    let drop_in = folder.path().join("app@.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    let with = |text: &str| {
        fs::write(drop_in.join("a.conf"), format!("[Service]\n{text}")).unwrap();
        check(&folder, &["--unit", "app@shop.service"])
    };
    let said = with("ExecStart=/usr/local/bin/dutch-master start --name %i /bin/sleep 9\n");
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{said:?}");
    assert!(said.stderr.contains("systemd takes one, and there are 2"), "{said:?}");
    let said = with("ExecStart=\nExecStart=/usr/local/bin/dutch-master start --name %i /bin/sleep 9\n");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_only_systemd_knows_is_asked_for_or_warned_of() {
    let folder = service("unit-home", "");
    fs::write(folder.path().join("home.service"), format!("{TEMPLATE}WorkingDirectory=~\nExecStart=/usr/local/bin/dutch-master start ./app\n")).unwrap();
    let said = check(&folder, &["--unit", "home.service"]);
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{said:?}");
    assert!(said.stderr.contains("home.service: ExecStart= is run in a home directory") && said.stderr.contains("by -c"), "{said:?}");
    let said = check(&folder, &["--unit", "home.service", "-c", "shop.toml"]);
    assert!(said.code == Some(0) && said.stderr.starts_with("warning: home.service: ExecStart= is run in a home directory"), "{said:?}");
}
