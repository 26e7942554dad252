//! What a worker says before its program runs: `hello`, and a `listen` for each configured listener.

use std::time::Duration;

use dutch_master_protocol::message::{Address, Close, ErrorMessage, FromMaster, FromWorker, Hello, Listen, VERSION, Welcome, codes};
use tokio::time::timeout;

use super::AdaptError;
use super::link::{Link, LinkError};
use super::program::Given;

/// How long a worker waits for `welcome` (SPEC 2.4).
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn hello(link: &mut Link, token: String) -> Result<Welcome, AdaptError> {
    let sdk = Some(concat!("adapt/", env!("CARGO_PKG_VERSION")).to_owned());
    link.say(&FromWorker::Hello(Hello { protocol: VERSION, token: Some(token), sdk, pid: Some(std::process::id()), ..Hello::default() })).await;
    let answer = timeout(WELCOME_TIMEOUT, link.hear()).await.map_err(|_| AdaptError::Timeout)??;
    match answer.0 {
        FromMaster::Welcome(welcome) if welcome.protocol == VERSION => Ok(welcome),
        FromMaster::Welcome(_) => {
            let error = ErrorMessage { seq: None, code: codes::BAD_VERSION.into(), message: format!("this worker speaks version {VERSION}") };
            link.say(&FromWorker::Error(error.clone())).await;
            Err(AdaptError::Refused(error))
        }
        FromMaster::Listener(_) | FromMaster::Error(_) | FromMaster::Disconnect(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => {
            Err(LinkError::Descriptors("something else came before `welcome`").into())
        }
    }
}

/// What is said of a listener: its key, and where it listens.
type Told = (String, Option<Address>);

/// All configured listeners, in their order; none when the order to go came instead.
pub(super) async fn listeners(link: &mut Link, names: &[String]) -> Result<Option<Vec<(Given, Told)>>, AdaptError> {
    let mut listeners = Vec::new();
    for (seq, name) in (1..).zip(names) {
        link.say(&FromWorker::Listen(Listen { seq, name: Some(name.clone()), ..Listen::default() })).await;
        loop {
            match link.hear().await? {
                (FromMaster::Listener(listener), Some(fd)) if listener.seq == seq => {
                    listeners.push((Given { name: listener.name, fd }, (listener.key, listener.address)));
                    break;
                }
                (FromMaster::Listener(listener), _) => link.say(&FromWorker::Close(Close { key: listener.key })).await,
                (FromMaster::Error(error), _) => return Err(AdaptError::Refused(error)),
                (FromMaster::Disconnect(_), _) => return Ok(None),
                (FromMaster::Welcome(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown, _) => {}
            }
        }
    }
    if listeners.is_empty() { Err(AdaptError::NoListener) } else { Ok(Some(listeners)) }
}
