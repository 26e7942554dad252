//! What a worker asks to listen on: an address or a configured name.

use std::net::SocketAddr;
use std::path::Path;

use dutch_master_protocol::limits::{DATA_MAX, PATH_MAX};
use dutch_master_protocol::message::{Address, Kind, Listen};

/// A request for a listener.
///
/// Made from `"8000"` or a port number (every address), `"127.0.0.1:8000"`, `"[::1]:8000"`, a [`SocketAddr`], `"unix:/path"`, or `"name:web"` (a listener that the master's configuration names).
/// Text that is none of these is an error when it is used to listen.
///
/// ```
/// # use dutch_master_worker::ListenRequest;
/// let request = ListenRequest::from("127.0.0.1:8000").backlog(1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRequest {
    target: Result<Target, AddressError>,
    index: Option<u32>,
    backlog: Option<u32>,
    data: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Name(String),
    Address(Address),
}

/// Why a request makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is no address.
    #[error("{0:?} is no address to listen on; try \"8000\", \"127.0.0.1:8000\", \"[::1]:8000\", \"unix:/path\" or \"name:web\"")]
    Syntax(String),
    /// The path cannot be that of a Unix socket.
    #[error("the socket path {0:?} is longer than {PATH_MAX} bytes or not absolute")]
    Path(String),
    /// The data is too long.
    #[error("the listener's data has {0} bytes; the limit is {DATA_MAX}")]
    Data(usize),
    /// Only TCP addresses have a choice between IPv6 alone and both.
    #[error("ipv6_only makes no sense for {0:?}")]
    Ipv6Only(String),
}

impl ListenRequest {
    /// Asks for a listener that the master's configuration names.
    pub fn name(name: impl Into<String>) -> ListenRequest {
        ListenRequest { target: Ok(Target::Name(name.into())), index: None, backlog: None, data: None }
    }

    /// For port 0: this is the worker's n-th such request, from 0. Counted by the SDK when it is left out.
    pub fn index(self, index: u32) -> ListenRequest {
        ListenRequest { index: Some(index), ..self }
    }

    /// Length of the accept queue; the first asker's counts.
    pub fn backlog(self, backlog: u32) -> ListenRequest {
        ListenRequest { backlog: Some(backlog), ..self }
    }

    /// Opaque text; the first asker's is given to every later one, see [`Listener::data`](crate::Listener::data).
    pub fn data(self, data: impl Into<String>) -> ListenRequest {
        ListenRequest { data: Some(data.into()), ..self }
    }

    /// Does not accept IPv4 on an IPv6 address.
    pub fn ipv6_only(self, only: bool) -> ListenRequest {
        let target = match self.target {
            Ok(Target::Address(address)) if address.kind != Kind::Unix => Ok(Target::Address(Address { ipv6_only: only, ..address })),
            Ok(Target::Address(address)) if only => Err(AddressError::Ipv6Only(address.path.unwrap_or_default())),
            Ok(Target::Name(name)) if only => Err(AddressError::Ipv6Only(name)),
            other => other,
        };
        ListenRequest { target, ..self }
    }

    /// Whether a port 0 needs to be told from others.
    pub(crate) fn wants_index(&self) -> bool {
        self.index.is_none() && matches!(&self.target, Ok(Target::Address(Address { port: Some(0), .. })))
    }

    /// The request as it travels, with the number and index still open.
    pub(crate) fn into_message(self) -> Result<Listen, AddressError> {
        if let Some(data) = self.data.as_ref().filter(|data| data.len() > DATA_MAX) {
            return Err(AddressError::Data(data.len()));
        }
        let (name, address) = match self.target? {
            Target::Name(name) if name.is_empty() || name.len() > DATA_MAX => return Err(AddressError::Syntax(name)),
            Target::Name(name) => (Some(name), None),
            Target::Address(address) => {
                if let Some(path) = address.path.as_ref().filter(|path| path.len() > PATH_MAX || !path.starts_with('/')) {
                    return Err(AddressError::Path(path.clone()));
                }
                (None, Some(address))
            }
        };
        Ok(Listen { seq: 0, name, address, index: self.index, backlog: self.backlog, data: self.data })
    }
}

impl From<Address> for ListenRequest {
    fn from(address: Address) -> ListenRequest {
        ListenRequest { target: Ok(Target::Address(address)), index: None, backlog: None, data: None }
    }
}

impl From<SocketAddr> for ListenRequest {
    fn from(address: SocketAddr) -> ListenRequest {
        Address::tcp(Some(address.ip()), address.port()).into()
    }
}

impl From<u16> for ListenRequest {
    fn from(port: u16) -> ListenRequest {
        Address::tcp(None, port).into()
    }
}

impl From<&str> for ListenRequest {
    fn from(text: &str) -> ListenRequest {
        ListenRequest { target: parse(text), index: None, backlog: None, data: None }
    }
}

impl From<String> for ListenRequest {
    fn from(text: String) -> ListenRequest {
        text.as_str().into()
    }
}

impl From<&String> for ListenRequest {
    fn from(text: &String) -> ListenRequest {
        text.as_str().into()
    }
}

fn parse(text: &str) -> Result<Target, AddressError> {
    if let Some(name) = text.strip_prefix("name:") {
        return Ok(Target::Name(name.into()));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        // The master has a directory of its own, so only an absolute path means the same to both.
        let absolute = std::path::absolute(Path::new(path)).map_err(|_| AddressError::Path(path.into()))?;
        return absolute.into_os_string().into_string().map(|path| Target::Address(Address::unix(path))).map_err(|_| AddressError::Path(path.into()));
    }
    if let Ok(port) = text.parse::<u16>() {
        return Ok(Target::Address(Address::tcp(None, port)));
    }
    let address = text.parse::<SocketAddr>().map_err(|_| AddressError::Syntax(text.into()))?;
    Ok(Target::Address(Address::tcp(Some(address.ip()), address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn address(text: &str) -> Address {
        ListenRequest::from(text).into_message().unwrap().address.unwrap()
    }

    #[test]
    fn a_port_alone_means_every_address() {
        assert_eq!(address("8000"), Address::tcp(None, 8000));
        assert_eq!(ListenRequest::from(8000), ListenRequest::from("8000"));
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        assert_eq!(address("127.0.0.1:8000"), Address::tcp(Some([127, 0, 0, 1].into()), 8000));
        assert_eq!(address("[::1]:8000"), Address::tcp(Some("::1".parse().unwrap()), 8000));
        assert_eq!(address("unix:/run/web.sock"), Address::unix("/run/web.sock"));
    }

    #[test]
    fn a_relative_socket_path_is_made_absolute() {
        assert!(address("unix:web.sock").path.unwrap().starts_with('/'));
    }

    #[test]
    fn a_configured_listener_is_asked_for_by_name() {
        let message = ListenRequest::from("name:web").into_message().unwrap();
        assert_eq!((message.name.as_deref(), message.address), (Some("web"), None));
    }

    #[test]
    fn what_is_no_address_is_named_in_the_error() {
        for text in ["", "localhost:8000", "127.0.0.1", "70000", "::1:8000:x", "name:"] {
            assert!(matches!(ListenRequest::from(text).into_message(), Err(AddressError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn what_no_socket_can_have_is_refused_before_the_master_is_asked() {
        let long = format!("unix:/{}", "x".repeat(PATH_MAX));
        assert!(matches!(ListenRequest::from(long).into_message(), Err(AddressError::Path(_))));
        let request = ListenRequest::from(80).data("x".repeat(DATA_MAX + 1));
        assert_eq!(request.into_message(), Err(AddressError::Data(DATA_MAX + 1)));
        assert!(matches!(ListenRequest::from("unix:/a").ipv6_only(true).into_message(), Err(AddressError::Ipv6Only(_))));
    }
}
