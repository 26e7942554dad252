//! What happens to a worker, for bindings, and who is called back with it.

use crate::order::Order;

/// What happens to a worker, for bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is an order to go. It may come again with an earlier deadline.
    Order(Order),
    /// The connection to the master has ended. Without an order the worker serves on; either [`Reconnected`](Self::Reconnected) follows, or an order of the reason [`Orphaned`](crate::Reason::Orphaned).
    Disconnected {
        /// Whether there had been an order to go.
        ordered: bool,
    },
    /// A master took the worker back, and everything goes on as before.
    Reconnected,
    /// The master complained, or broke the protocol.
    Error {
        /// A code of the protocol.
        code: String,
        /// A sentence for people.
        message: String,
    },
}

pub(crate) type Callback = Box<dyn FnMut(Event) + Send>;

/// Who is called back with events, and what a newcomer has missed.
#[derive(Default)]
pub(crate) struct Audience {
    callbacks: Vec<Callback>,
    order: Option<Event>,
    disconnected: Option<Event>,
}

impl Audience {
    pub(crate) fn join(&mut self, mut callback: Callback) {
        self.order.iter().chain(&self.disconnected).for_each(|event| callback(event.clone()));
        self.callbacks.push(callback);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.callbacks.iter_mut().for_each(|callback| callback(event.clone()));
        match event {
            Event::Order(_) => self.order = Some(event),
            Event::Disconnected { .. } => self.disconnected = Some(event),
            Event::Reconnected => self.disconnected = None,
            Event::Error { .. } => {}
        }
    }
}
