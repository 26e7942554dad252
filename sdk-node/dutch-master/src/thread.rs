//! The thread that the master runs on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use dutch_master::{Master, Request};
use nix::sys::signal::SigSet;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Dispatch, dispatcher, error};

use crate::outlet::{Outlet, Report};
use crate::questions::Question;

/// How long questions may go on when the master has ended: their connections have ended with it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The exit code of a master that ended by a fault of its own.
const FAILED: u8 = 1;

/// All that the thread gets.
pub(crate) struct Thread {
    pub(crate) master: Master,
    pub(crate) requests: Receiver<Request>,
    pub(crate) questions: Receiver<Question>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) lines: Dispatch,
    pub(crate) ended: Arc<Ended>,
}

impl Thread {
    /// Starts it. Its last report is `exit`.
    pub(crate) fn start(self) -> io::Result<()> {
        let run = move || {
            let (outlet, ended, lines) = (Arc::clone(&self.outlet), Arc::clone(&self.ended), self.lines.clone());
            let code = dispatcher::with_default(&lines, || {
                // Signals are for the threads of Node. A child is forked with this mask, so that Node's handlers do not run in it before it has reset them.
                let _ = SigSet::all().thread_block();
                catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|_| {
                    error!("The master ended by a fault of its own");
                    FAILED
                })
            });
            ended.tell();
            outlet.send(Report { kind: "exit", code: Some(code.into()), ..Report::default() });
        };
        std::thread::Builder::new().name("dutch-master".into()).spawn(run).map(drop)
    }

    fn run(self) -> u8 {
        match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(reason) => {
                error!(%reason, "No runtime for the master");
                FAILED
            }
        }
    }

    async fn serve(mut self) -> u8 {
        let socket: Arc<std::path::Path> = self.master.control_socket().into();
        let mut open = JoinSet::new();
        let mut run = pin!(self.master.run(self.requests));
        let code = loop {
            tokio::select! {
                code = &mut run => break code,
                Some(question) = self.questions.recv() => {
                    let (socket, outlet) = (Arc::clone(&socket), Arc::clone(&self.outlet));
                    open.spawn(async move { question.answer(&socket, &outlet).await });
                }
                Some(_) = open.join_next() => {}
            }
        };
        // What is cut off here is answered in JavaScript by `exit`.
        let _ = timeout(LAST_ANSWERS, async { while open.join_next().await.is_some() {} }).await;
        code
    }
}

/// Whether the master has ended, for a thread that waits for it.
#[derive(Default)]
pub(crate) struct Ended {
    has: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    fn tell(&self) {
        *self.has.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self, at_most: Duration) {
        let has = self.has.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(has, at_most, |has| !*has));
    }
}
