//! The decoder over every vector and every input that is kept: what was found stays found, without the fuzzer.
#![allow(clippy::print_stdout)] // a panic is about the input that was named last

use dutch_master_fuzz::{decoder, seeds};

#[test]
fn it_holds_on_everything_that_is_kept() {
    for (name, input) in seeds::decoder().into_iter().chain(seeds::kept("decoder").unwrap()) {
        println!("{name}");
        decoder::run(&input);
    }
}
