//! A whole master against every session and every input that is kept. In a file of its own: open descriptors and child processes are those of the whole process.

use dutch_master_fuzz::{master, seeds};

#[test]
fn it_holds_on_everything_that_is_kept() {
    for (name, input) in seeds::master().into_iter().chain(seeds::kept("master").unwrap()) {
        // A panic is about the one that was named last.
        println!("{name}");
        master::run(&input);
    }
}
