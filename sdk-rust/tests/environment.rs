//! A worker takes its environment, so that its own children cannot pose as it. The test starts itself as that worker.
#![allow(clippy::unwrap_used)] // it is a test, though without the usual harness

mod fake_master;

use std::process::Command;

use dutch_master_protocol::env;
use dutch_master_protocol::message::{Drained, FromMaster, FromWorker};
use dutch_master_worker::Worker;
use fake_master::{FakeMaster, welcome};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => be_a_worker(),
        Some("standalone") => assert!(Worker::from_env().unwrap().is_standalone()),
        _ => {
            without_a_master_in_the_environment_the_program_runs_standalone();
            a_worker_takes_what_it_needs_out_of_the_environment();
        }
    }
}

fn without_a_master_in_the_environment_the_program_runs_standalone() {
    assert!(myself("standalone").status().unwrap().success());
}

fn a_worker_takes_what_it_needs_out_of_the_environment() {
    let master = FakeMaster::new();
    let variables = [(env::SOCKET, master.path()), (env::TOKEN, "secret".into()), (env::WORKER_ID, "7".into()), (env::SLOT, "1".into())];
    let mut child = myself("worker").envs(variables).spawn().unwrap();
    let (mut peer, hello) = master.accept();
    assert_eq!(hello.token.as_deref(), Some("secret"));
    peer.say(&FromMaster::Welcome(welcome()));
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained::default()));
    assert!(child.wait().unwrap().success());
}

fn be_a_worker() {
    let worker = Worker::from_env().unwrap();
    assert_eq!(worker.id(), 7);
    assert!(env::ALL.iter().all(|name| std::env::var_os(name).is_none()));
    assert!(Command::new(std::env::current_exe().unwrap()).arg("standalone").status().unwrap().success());
    worker.drained();
}

fn myself(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    env::ALL.iter().for_each(|name| _ = command.env_remove(name));
    command.arg(role);
    command
}
