//! A receiver that may open no more files. A program of its own: the limit is the whole process's.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use dutch_master_protocol::socket::{receive, send_fd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Catches: a worker that is blamed for a descriptor that it sent as it should.
#[test]
fn a_descriptor_that_there_is_no_room_for_is_lost_and_nobody_is_to_blame() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    let mut buffer = [0; 8];

    send_fd(theirs.as_fd(), file.as_fd()).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next.try_into().unwrap(), hard).unwrap();
    let received = receive(ours.as_fd(), &mut buffer);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let received = received.unwrap();
    assert_eq!((received.bytes, received.fds.len(), received.lost, received.excess), (1, 0, true, false));

    send_fd(theirs.as_fd(), file.as_fd()).unwrap();
    let received = receive(ours.as_fd(), &mut buffer).unwrap();
    assert_eq!((received.bytes, received.fds.len(), received.lost, received.excess), (1, 1, false, false));
}
