//! `bench-launcher N PROGRAM [ARGS…]`: starts PROGRAM N times and lets each inherit standard input, which is a listener. The least that can be done, to compare with.

use std::process::Command;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let count = args.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(1);
    let (program, args) = (args.next().unwrap_or_default(), args.collect::<Vec<_>>());
    let workers: Vec<_> = (0..count).map(|_| Command::new(&program).args(&args).spawn()).collect::<Result<_, _>>()?;
    workers.into_iter().try_for_each(|mut worker| worker.wait().map(drop))
}
