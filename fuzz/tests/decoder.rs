//! The decoder over every vector and every input that is kept: what was found stays found, without the fuzzer.

use dutch_master_fuzz::{decoder, seeds};

#[test]
fn it_holds_on_everything_that_is_kept() {
    for (name, input) in seeds::decoder().into_iter().chain(seeds::kept("decoder").unwrap()) {
        // A panic is about the one that was named last.
        println!("{name}");
        decoder::run(&input);
    }
}
