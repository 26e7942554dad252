//! Writes what the fuzzer begins with: `fuzz-seeds DIRECTORY`. The vectors and sessions of the protocol, one file each.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use dutch_master_fuzz::seeds;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("which directory?")?);
    for (target, inputs) in [("decoder", seeds::decoder()), ("master", seeds::master())] {
        let folder = directory.join(target);
        fs::create_dir_all(&folder)?;
        for (name, input) in inputs {
            fs::write(folder.join(name.replace('/', "-")), input)?;
        }
    }
    Ok(())
}
