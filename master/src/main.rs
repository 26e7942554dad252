//! The program `dutch-master`: see `cli/`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
