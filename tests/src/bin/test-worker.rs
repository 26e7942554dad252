//! A worker that does exactly what its arguments say, word by word, over the bare protocol; no SDK. With `@FILE` the words come from a file.
//!
//! `test-worker hello listen listening serve drained hang` is a good one; `test-worker hello exit:7` crashes after `hello`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, exit};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::{FrameDecoder, encode};
use dutch_master_protocol::message::{
    Address, AppMessage, Drained, FromMaster, FromWorker, Hello, Leaving, Listen, Listening, RequestRestart, VERSION, Welcome,
};
use dutch_master_protocol::{codec, env, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let script = match words.first().and_then(|word| word.strip_prefix('@')) {
        Some(file) => std::fs::read_to_string(file)?,
        None => words.join(" "),
    };
    let mut worker = Worker::default();
    for word in script.split_whitespace() {
        let (step, argument) = word.split_once(':').unwrap_or((word, ""));
        worker.step(step, argument)?;
    }
    Ok(())
}

/// How much of a message is a part of it: its length, and a little more.
const PART: usize = 6;

/// What the worker has by now.
#[derive(Default)]
struct Worker {
    master: Option<Master>,
    welcome: Welcome,
    listener: Option<TcpListener>,
    ordered: bool,
    stays: bool,
}

/// The connection to the master.
struct Master {
    socket: UnixStream,
    decoder: FrameDecoder,
    fds: Vec<OwnedFd>,
}

impl Worker {
    fn step(&mut self, step: &str, argument: &str) -> Result<()> {
        match step {
            "exit" => exit(argument.parse()?),
            "sleep" => thread::sleep(Duration::from_millis(argument.parse()?)),
            // Until the file is there; and makes one, to tell how far it is.
            "await" => {
                while !std::path::Path::new(argument).exists() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            "touch" => drop(std::fs::File::create(argument)?),
            "hang" => loop {
                thread::park();
            },
            "ignore-term" => ignore_term()?,
            // A process of the same group that only SIGKILL ends.
            "child" => drop(Command::new(std::env::current_exe()?).args(["ignore-term", "hang"]).spawn()?),
            "hello" => self.hello()?,
            "listen" => self.listen(None)?,
            // An address of its own wish.
            "listen-at" => self.listen(Some(argument.parse()?))?,
            // So many processes that lose their parent at once, and end with this code.
            "orphans" => orphans(argument)?,
            "listening" => self.say(&FromWorker::Listening(Listening::default()))?,
            // Accepts until the order to go, or for so many milliseconds.
            "serve" => self.serve(argument.parse().map(Duration::from_millis).ok())?,
            // Its `listening` in two parts.
            "part" => self.write(&encode(&FromWorker::Listening(Listening::default()))?[..PART])?,
            "rest" => self.write(&encode(&FromWorker::Listening(Listening::default()))?[PART..])?,
            "ask" => self.say(&FromWorker::RequestRestart(RequestRestart::default()))?,
            "leave" => self.say(&FromWorker::Leaving(Leaving::default()))?,
            "drained" => {
                self.listener = None;
                self.say(&FromWorker::Disconnect(Drained::default()))?;
            }
            // What no worker must do: to the listener that it shares, and to the master.
            "shutdown" => nix::sys::socket::shutdown(self.listener()?.as_raw_fd(), nix::sys::socket::Shutdown::Both)?,
            "blocking" => self.listener()?.set_nonblocking(false)?,
            "flood" => self.misbehave(&encode(&FromWorker::Message(AppMessage { json: "0".into() }))?.repeat(argument.parse()?))?,
            "garbage" => self.misbehave(&[0, 0, 0, 1, 0xc1])?,
            "oversized" => self.misbehave(&[0, 1, 0, 1])?,
            "half" => self.misbehave(&[0, 0, 0, 9, 0x81])?,
            "hello-again" => self.misbehave(&encode(&FromWorker::Hello(Hello { protocol: VERSION, ..Hello::default() }))?)?,
            // Asks and does not read the answers.
            "deaf" => {
                let address = Some(Address::unix("not/absolute/".repeat(20)));
                self.misbehave(&encode(&FromWorker::Listen(Listen { seq: 2, address, ..Listen::default() }))?.repeat(argument.parse()?))?;
            }
            "descriptor" => socket::send_fd(self.master.as_ref().ok_or("not connected")?.socket.as_fd(), io::stdin().as_fd())?,
            // Serves on when the master is gone.
            "stay" => self.stays = true,
            // Ends the connection to the master and lives on.
            "drop" => self.master = None,
            _ => return Err(format!("no such step: {step}").into()),
        }
        Ok(())
    }

    fn listener(&self) -> Result<&TcpListener> {
        self.listener.as_ref().ok_or_else(|| "no listener".into())
    }

    /// The master may end the connection before it has taken everything.
    fn misbehave(&mut self, bytes: &[u8]) -> Result<()> {
        let _cut = self.master.as_mut().ok_or("not connected")?.socket.write_all(bytes);
        Ok(())
    }

    fn say(&mut self, message: &FromWorker) -> Result<()> {
        self.write(&encode(message)?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let master = self.master.as_mut().ok_or("not connected")?;
        Ok(master.socket.write_all(bytes)?)
    }

    fn hello(&mut self) -> Result<()> {
        let path = std::env::var(env::SOCKET)?;
        self.master = Some(Master { socket: UnixStream::connect(path)?, decoder: FrameDecoder::default(), fds: Vec::new() });
        let token = Some(std::env::var(env::TOKEN)?);
        self.say(&FromWorker::Hello(Hello { protocol: VERSION, token, sdk: Some("test".into()), pid: Some(std::process::id()), ..Hello::default() }))?;
        let FromMaster::Welcome(welcome) = self.hear()? else { return Err("no welcome".into()) };
        self.welcome = welcome;
        Ok(())
    }

    /// Asks for this address, or for the first configured listener.
    fn listen(&mut self, at: Option<SocketAddr>) -> Result<()> {
        let request = match at {
            Some(at) => Listen { seq: 1, address: Some(Address::tcp(Some(at.ip()), at.port())), ..Listen::default() },
            None => Listen { seq: 1, name: Some(self.welcome.names.first().cloned().ok_or("no listener is configured")?), ..Listen::default() },
        };
        self.say(&FromWorker::Listen(request))?;
        while self.listener.is_none() {
            match self.hear()? {
                FromMaster::Listener(_) => {
                    let master = self.master.as_mut().ok_or("not connected")?;
                    self.listener = Some(master.descriptor()?.into());
                }
                FromMaster::Disconnect(_) => self.ordered = true,
                FromMaster::Error(error) => return Err(error.message.into()),
                FromMaster::Welcome(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<FromMaster> {
        self.master.as_mut().ok_or("not connected")?.hear()
    }

    fn serve(&mut self, time: Option<Duration>) -> Result<()> {
        let until = time.map(|time| Instant::now() + time);
        // In the place of a master that is gone: it never says anything.
        let (silent, _never_says) = UnixStream::pair()?;
        let body = std::env::current_dir()?.file_name().unwrap_or_default().to_string_lossy().into_owned();
        while !self.ordered {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let master = self.master.as_ref().map(|master| master.socket.as_fd());
            let master = master.or_else(|| self.stays.then(|| silent.as_fd())).ok_or("not connected")?;
            let mut fds = vec![PollFd::new(master, PollFlags::POLLIN)];
            fds.extend(self.listener.as_ref().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
            poll(&mut fds, left.map_or(PollTimeout::NONE, |left| (left + Duration::from_millis(1)).try_into().unwrap_or(PollTimeout::MAX)))?;
            let [spoken, knocked] = [fds.first(), fds.get(1)].map(|fd| fd.and_then(PollFd::any).unwrap_or(false));
            match spoken.then(|| self.hear()) {
                Some(Ok(message)) => self.ordered |= matches!(message, FromMaster::Disconnect(_)),
                Some(Err(_)) if self.stays => self.master = None,
                Some(Err(gone)) => return Err(gone),
                None => {}
            }
            if knocked && let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
                let _gone = answer(stream, &body);
            }
        }
        Ok(())
    }
}

impl Master {
    fn hear(&mut self) -> Result<FromMaster> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(codec::decode(frame)?);
            }
            self.read()?;
        }
    }

    /// The descriptor behind a frame that announced it.
    fn descriptor(&mut self) -> Result<OwnedFd> {
        while self.decoder.next_byte().is_none() {
            self.read()?;
        }
        self.fds.pop().ok_or_else(|| "a zero byte without a descriptor".into())
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 4_096];
        let received = socket::receive(self.socket.as_fd(), &mut buffer)?;
        if received.bytes == 0 {
            return Err("the master has ended the connection".into());
        }
        self.fds.extend(received.fds);
        self.decoder.push(&buffer[..received.bytes]);
        Ok(())
    }
}

/// Answers one request with the name of the worker's folder, which tells the release.
fn answer(mut stream: TcpStream, body: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

/// Each outlives the shell that started it: whoever reaps orphans here inherits it.
fn orphans(count: &str) -> io::Result<()> {
    let line = format!("i=0; while [ $i -lt {count} ]; do (sh -c 'exit 3' & ); i=$((i+1)); done; setsid sleep 3600 >/dev/null 2>&1 &");
    Command::new("sh").args(["-c", &line]).status().map(drop)
}

#[allow(unsafe_code)]
fn ignore_term() -> nix::Result<()> {
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }.map(drop)
}
