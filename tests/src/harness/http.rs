//! One request by hand, for tests that look at a single connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection that a test holds.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects; the server need not accept yet.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Client { stream }
    }

    /// Asks for a path, as the connection's last request.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).expect("the connection is there");
    }

    /// Everything until the server ends the connection.
    ///
    /// # Panics
    /// When the connection is torn.
    #[track_caller]
    #[must_use]
    pub fn response(mut self) -> String {
        let mut response = String::new();
        self.stream.read_to_string(&mut response).unwrap_or_else(|error| panic!("the connection ends with {error} after {response:?}"));
        response
    }

    /// The body of a response that must be a 200.
    ///
    /// # Panics
    /// When it is none, or the connection is torn.
    #[track_caller]
    #[must_use]
    pub fn body(self) -> String {
        let response = self.response();
        assert!(response.starts_with("HTTP/1.1 200"), "no 200: {response:?}");
        response.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.into())
    }
}

/// The body of a short answer.
///
/// # Panics
/// As [`Client`].
#[track_caller]
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut client = Client::connect(address);
    client.ask(path);
    client.body()
}
