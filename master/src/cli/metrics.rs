//! `dutch-master metrics`: the numbers of a running master; and where `start --metrics` is to bring them.

use std::net::Ipv4Addr;
use std::path::Path;

use dutch_master::options::MetricsTo;
use dutch_master_protocol::control::{FromControl, Metrics, ToControl};
use dutch_master_protocol::message::{Address, Kind};

use super::args::Which;
use super::client::{Client, ClientError};
use super::exit::{self, Failure};
use super::find;
use super::print::try_say;
use super::values;

/// Prints the page of one master.
pub(super) async fn run(which: &Which) -> Result<u8, Failure> {
    let mut client = Client::connect(&find::socket(which)?).await?;
    let mut answer = client.ask(&FromControl::Metrics(Metrics {})).await?;
    let mut page = String::new();
    while let ToControl::MetricsText(part) = answer {
        page += &part.text;
        answer = client.prompt_next().await?;
    }
    let ToControl::Done(_) = answer else { return Err(ClientError::Unexpected.into()) };
    try_say(&page)?;
    Ok(exit::DONE)
}

/// `9100`, `127.0.0.1:9100`, `[::1]:9100`, `unix:PATH` or `file:PATH`.
pub(super) fn target(text: &str) -> Result<MetricsTo, String> {
    target_from("".as_ref(), text)
}

/// The same, where a relative path is seen from `base`.
pub(super) fn target_from(base: &Path, text: &str) -> Result<MetricsTo, String> {
    if let Some(path) = text.strip_prefix("file:") {
        return values::absolute_from(base, path).map(MetricsTo::File);
    }
    if text.contains('/') && !text.starts_with("unix:") {
        return Err(format!("for a file write `file:{text}`, for a Unix socket `unix:{text}`"));
    }
    if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        return Err(format!("for this machine alone write `{port}`, for every address of it `[::]:{port}`"));
    }
    let address = values::address(base, text)?;
    Ok(MetricsTo::Serve(match (address.kind, address.host, address.port) {
        // The numbers are for whoever runs the machine, so others see them only when that is said.
        (Kind::Tcp, None, Some(port)) => Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), port),
        (Kind::Tcp | Kind::Unix | Kind::Udp, _, _) => address,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_go_to_an_address_or_into_a_file() {
        let tcp = |host: &str, port| MetricsTo::Serve(Address::tcp(Some(host.parse().unwrap()), port));
        for (text, to) in [
            ("9100", tcp("127.0.0.1", 9_100)),
            ("127.0.0.1:9100", tcp("127.0.0.1", 9_100)),
            ("0.0.0.0:9100", tcp("0.0.0.0", 9_100)),
            ("[::1]:9100", tcp("::1", 9_100)),
            ("unix:/run/m.sock", MetricsTo::Serve(Address::unix("/run/m.sock"))),
            ("unix:m.sock", MetricsTo::Serve(Address::unix("/srv/m.sock"))),
            ("file:/var/m.prom", MetricsTo::File("/var/m.prom".into())),
            ("file:m.prom", MetricsTo::File("/srv/m.prom".into())),
        ] {
            assert_eq!(target_from("/srv".as_ref(), text), Ok(to), "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_what_to_write_instead() {
        for (wrong, hint) in [
            ("/var/m.prom", "`file:/var/m.prom`"),
            (":9100", "write `9100`"),
            ("*:9100", "`[::]:9100`"),
            ("localhost:9100", "`127.0.0.1:9100`"),
            ("99999", "65535"),
            ("file:", "missing"),
            ("", "`127.0.0.1:8000`"),
        ] {
            let refused = target(wrong).unwrap_err();
            assert!(refused.contains(hint), "{wrong}: {refused}");
        }
    }
}
