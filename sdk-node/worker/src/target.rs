//! From JavaScript: where to listen.

use dutch_master_worker::{Address, Kind, ListenRequest};
use napi_derive::napi;

/// An address, and how to listen on it. The kind is tcp, unix or udp.
#[napi(object)]
pub struct Target {
    pub kind: String,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    pub ipv6_only: Option<bool>,
    pub index: Option<u32>,
    pub backlog: Option<u32>,
    pub data: Option<String>,
}

impl Target {
    /// As a request of the SDK; none where it names no address.
    pub(crate) fn into_request(self) -> Option<ListenRequest> {
        let mut request = ListenRequest::from(self.address()?);
        if let Some(index) = self.index {
            request = request.index(index);
        }
        if let Some(backlog) = self.backlog {
            request = request.backlog(backlog);
        }
        Some(match self.data {
            Some(data) => request.data(data),
            None => request,
        })
    }

    /// The address alone.
    pub(crate) fn address(&self) -> Option<Address> {
        let kind = match self.kind.as_str() {
            "tcp" => Kind::Tcp,
            "udp" => Kind::Udp,
            "unix" => return Some(Address::unix(self.path.clone()?)),
            _ => return None,
        };
        let host = self.host.as_ref().map(|host| host.parse()).transpose().ok()?;
        Some(Address { kind, ipv6_only: self.ipv6_only.unwrap_or_default(), ..Address::tcp(host, self.port?) })
    }
}
