//! The load client itself: what it sees goes wrong has the right class, and it sees everything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use dutch_master_tests::load::{Failure, Load, Mode, Plan, Report};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that treats each connection in the same way. Its thread ends with the test's process.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream)))));
    address
}

/// Reads until the end of a request's head. The tests' requests fit into one read, or their bodies do not matter.
fn hear(stream: &mut TcpStream) -> usize {
    stream.read(&mut [0; 32_768]).unwrap_or(0)
}

/// Lets one client work until it has failed a few times.
fn failures_of(address: SocketAddr, mode: Mode) -> Report {
    let load = Load::start(Plan { mode, clients: 1, think_ms: 0..=2, timeout: Duration::from_millis(300), ..Plan::new(address) });
    while load.so_far().failures() < 3 {
        assert!(load.so_far().sent < 10_000, "the client sees no failure:\n{}", load.so_far());
        thread::sleep(Duration::from_millis(1));
    }
    load.stop()
}

#[track_caller]
fn assert_all(report: &Report, class: Failure) {
    assert_eq!(report.count(class), report.failures(), "{report}");
}

#[test]
fn a_port_where_nobody_listens_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_all(&failures_of(address, Mode::PerRequest), Failure::Refused);
}

#[test]
fn a_connection_closed_with_the_request_unread_is_a_reset() {
    let address = server(|stream| {
        while stream.peek(&mut [0]).is_ok_and(|bytes| bytes == 0) {}
        drop(stream);
    });
    assert_all(&failures_of(address, Mode::KeepAlive), Failure::Reset);
}

#[test]
fn a_connection_that_ends_after_the_request_was_read_is_an_eof() {
    let address = server(|mut stream| _ = hear(&mut stream));
    let report = failures_of(address, Mode::KeepAlive);
    assert!(report.count(Failure::Eof) > 0, "{report}");
}

#[test]
fn a_response_that_is_cut_is_an_eof() {
    let address = server(|mut stream| {
        hear(&mut stream);
        stream.write_all(&OK[..OK.len() - 1]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        while hear(&mut stream) > 0 {}
    });
    assert_all(&failures_of(address, Mode::PerRequest), Failure::Eof);
}

#[test]
fn silence_is_a_timeout() {
    let address = server(|mut stream| while hear(&mut stream) > 0 {});
    assert_all(&failures_of(address, Mode::KeepAlive), Failure::Timeout);
}

#[test]
fn a_status_other_than_200_is_its_own_class() {
    let address = server(|mut stream| {
        while hear(&mut stream) > 0 {
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap_or(());
        }
    });
    assert!(failures_of(address, Mode::KeepAlive).count(Failure::Status(503)) >= 3);
}

#[test]
fn a_body_that_does_not_come_back_is_malformed() {
    let address = server(|mut stream| {
        while hear(&mut stream) > 0 {
            stream.write_all(OK).unwrap_or(());
        }
    });
    let report = failures_of(address, Mode::KeepAlive);
    assert!(report.ok > 0, "{report}");
    assert_all(&report, Failure::Malformed);
}

#[test]
fn an_idle_connection_that_the_server_ends_is_no_failure() {
    let address = server(|mut stream| {
        // Reading a little and waiting a little takes in bodies as well.
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut request = Vec::new();
        let mut part = [0; 32_768];
        while let Ok(bytes @ 1..) = stream.read(&mut part) {
            request.extend_from_slice(&part[..bytes]);
        }
        let body = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let body = if request[body..].is_empty() { b"ok" } else { &request[body..] };
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        stream.write_all(body).unwrap();
    });
    let load = Load::start(Plan { clients: 4, think_ms: 50..=100, ..Plan::new(address) });
    load.await_ok(30);
    let report = load.stop();
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.ended_idle >= 20, "{report}");
}
