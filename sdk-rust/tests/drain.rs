//! Going without failing a request: each rule, seen by clients that never retry.

mod fake_master;
mod rig;

use std::time::{Duration, Instant};

use dutch_master_protocol::message::DisconnectReason;
use fake_master::PATIENCE;
use rig::{Client, Rig};

/// Longer than a test may take: idle connections stay.
const LONG: Duration = Duration::from_secs(60);
/// Idle connections end soon.
const SHORT: Duration = Duration::from_millis(50);

#[track_caller]
fn assert_last(response: &str, body: &str) {
    assert!(response.starts_with("http/1.1 200 ok") && response.ends_with(body), "{response}");
    assert!(response.contains("connection: close"), "{response}");
}

#[test]
fn while_it_serves_connections_stay_open() {
    let rig = Rig::start(SHORT);
    let mut client = rig.client();
    for _ in 0..3 {
        assert!(!client.get("/").contains("connection"));
    }
}

#[test]
fn handlers_know_where_a_request_comes_from() {
    let rig = Rig::start(LONG);
    let mut client = rig.client();
    let address = client.0.local_addr().unwrap().to_string();
    assert!(client.get("/who").ends_with(&address));
}

#[test]
fn an_idle_connection_is_served_once_more_and_told_to_close() {
    let mut rig = Rig::start(LONG);
    let mut client = rig.client();
    client.get("/");
    rig.order(DisconnectReason::Restart, LONG);
    assert_last(&client.get("/"), "hello");
    client.expect_eof();
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_request_in_flight_finishes_and_its_response_is_the_last() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.client();
    client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, LONG);
    std::thread::sleep(2 * SHORT); // the idle grace must not reach it
    rig.gate.add_permits(1);
    assert_last(&client.response(), "through");
    client.expect_eof();
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_body_that_was_half_sent_is_read_to_its_end() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.client();
    client.get("/");
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
    assert!(rig.client().get("/").contains("200")); // So that the server has read the half.
    rig.order(DisconnectReason::Restart, LONG);
    std::thread::sleep(2 * SHORT);
    client.send("56789");
    assert_last(&client.response(), "0123456789");
    client.expect_eof();
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_head_that_was_half_sent_is_answered() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.client();
    client.get("/");
    client.send("GET / HT");
    assert!(rig.client().get("/").contains("200"));
    rig.order(DisconnectReason::Restart, LONG);
    std::thread::sleep(2 * SHORT);
    client.send("TP/1.1\r\nhost: x\r\n\r\n");
    assert_last(&client.response(), "hello");
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_connection_without_a_request_yet_gets_its_answer() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.accepted_client();
    rig.order(DisconnectReason::Restart, LONG);
    std::thread::sleep(2 * SHORT);
    assert_last(&client.get("/"), "hello");
    drop(client);
    rig.expect_drained();
}

#[test]
fn idle_connections_end_cleanly_after_the_idle_grace() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.client();
    client.get("/");
    let before = Instant::now();
    rig.order(DisconnectReason::Restart, LONG);
    client.expect_eof();
    assert!(before.elapsed() >= SHORT);
    client.expect_linger(); // A request that crosses the end is not answered, but it is not met by a reset either.
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_connection_ends_without_a_reset_although_the_client_sends_on() {
    let mut rig = Rig::start(LONG);
    let mut client = rig.client();
    client.get("/");
    rig.order(DisconnectReason::Restart, LONG);
    client.send("POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nsome of it");
    assert_last(&client.response(), "I have read enough");
    client.expect_eof();
    client.expect_linger();
    drop(client);
    rig.expect_drained();
}

#[test]
fn at_a_stop_what_waits_in_the_queue_is_served() {
    let mut rig = Rig::start(SHORT);
    let mut blocking = rig.client();
    blocking.send("GET /block HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    let mut waiting: Vec<Client> = (0..10).map(|_| rig.client()).collect();
    rig.order_while_blocked(DisconnectReason::Stop, LONG);
    rig.unblock.send(()).unwrap();
    rig.expect_close();
    assert_last(&blocking.response(), "unblocked");
    for client in &mut waiting {
        assert_last(&client.get("/"), "hello");
    }
    drop((blocking, waiting));
    rig.expect_drained();
}

#[test]
fn at_a_restart_what_waits_in_the_queue_is_left_to_the_others() {
    let mut rig = Rig::start(SHORT);
    let mut blocking = rig.client();
    blocking.send("GET /block HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    let waiting = rig.client();
    rig.order_while_blocked(DisconnectReason::Restart, LONG);
    rig.unblock.send(()).unwrap();
    rig.expect_close();
    let (_, from) = rig.bound.accept().expect("the listener is alive, and the connection in its queue");
    assert_eq!(from, waiting.0.local_addr().unwrap());
    drop(blocking);
    rig.expect_drained();
}

#[test]
fn the_deadline_cuts_what_is_not_done() {
    let mut rig = Rig::start(LONG);
    let mut client = rig.client();
    client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, Duration::from_millis(300));
    rig.expect_drained_but_for(Some(1));
    client.expect_eof();
}

#[test]
fn an_earlier_deadline_cuts_earlier() {
    let mut rig = Rig::start(LONG);
    let (mut client, mut other) = (rig.client(), rig.client());
    other.get("/");
    client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, LONG);
    assert_last(&other.get("/"), "hello"); // So that the server is draining by the first deadline; it has its answer, so that it is not cut.
    rig.peer.disconnect(DisconnectReason::Stop, Duration::from_millis(100));
    rig.expect_drained_but_for(Some(1));
    client.expect_eof();
}

#[test]
fn idle_connections_end_cleanly_before_the_deadline_however_long_their_grace() {
    let mut rig = Rig::start(LONG);
    let mut client = rig.client();
    client.get("/");
    rig.order(DisconnectReason::Restart, Duration::from_millis(1_500));
    let order = rig.worker.order().unwrap();
    client.expect_eof();
    assert!(order.remaining() > dutch_master_worker::http::CUT_MARGIN);
    drop(client);
    rig.expect_drained();
}

#[test]
fn a_worker_that_leaves_drains_like_any_other() {
    let mut rig = Rig::start(SHORT);
    let mut client = rig.client();
    client.get("/");
    rig.worker.leave(Some("tired"));
    assert!(matches!(rig.peer.expect(), dutch_master_protocol::message::FromWorker::Leaving(_)));
    rig.expect_close();
    client.expect_eof();
    drop(client);
    rig.expect_drained();
}
