use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{
    Clients,
    books::{Books, Loan, Unheard},
    packed::Packed,
    prefix,
};
use crate::crowd::Ticket;

/// The place of one client, or that of all clients that are [settled](Place::settle).
pub(crate) struct Place {
    clients: Arc<Clients>,
    is_late: bool,
    /// Whether the state may have a loan. Saves the lock for most places.
    is_lent: AtomicBool,
    /// The client reads nothing, and what waits for it has to be dropped.
    is_given_up: AtomicBool,
    state: Mutex<State>,
}

struct State {
    address: Packed,
    /// `None` for nearly all WebSockets.
    rare: Option<Box<Rare>>,
    /// Another client has the place.
    is_gone: bool,
}

#[derive(Default)]
struct Rare {
    /// Set while the client has not sent its whole request.
    ticket: Option<Ticket>,
    /// Set if the place is above the share of its address.
    loan: Option<Loan>,
}

impl State {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn take_ticket(&mut self) -> Option<Ticket> {
        let ticket = self.rare.as_mut()?.ticket.take();
        self.tidy();
        ticket
    }

    fn take_loan(&mut self) -> Option<Loan> {
        let loan = self.rare.as_mut()?.loan.take();
        self.tidy();
        loan
    }

    fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.ticket.is_none() && rare.loan.is_none()) {
            self.rare = None;
        }
    }
}

/// The address has as many clients as it may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Place {
    pub(super) fn new(clients: Arc<Clients>, address: Option<IpAddr>, loan: Option<Loan>) -> Self {
        Self::with(clients, address, loan, false)
    }

    /// A place in the reserve.
    pub(super) fn late(clients: Arc<Clients>, address: Option<IpAddr>) -> Self {
        Self::with(clients, address, None, true)
    }

    /// That of all settled clients.
    pub(super) fn of_settled(clients: Arc<Clients>) -> Self {
        let place = Self::with(clients, None, None, false);
        // It is not counted itself.
        place.state().is_gone = true;
        place
    }

    fn with(
        clients: Arc<Clients>,
        address: Option<IpAddr>,
        loan: Option<Loan>,
        is_late: bool,
    ) -> Self {
        let is_lent = AtomicBool::new(loan.is_some());
        let rare = loan.map(|loan| Box::new(Rare { ticket: None, loan: Some(loan) }));
        let state = State { address: address.into(), rare, is_gone: false };
        let is_given_up = AtomicBool::new(false);
        Self { clients, is_late, is_lent, is_given_up, state: Mutex::new(state) }
    }

    /// Whether the place is in the reserve. Its client cannot reach rooms.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Begins to wait for the client's request or body. Until the first result is dropped, the place can be
    /// taken away; then the second result is ready.
    pub(crate) fn listen(self: &Arc<Self>) -> (Listening, Evicted) {
        let (evict, evicted) = oneshot::channel();
        let listening = (Listening(self.clone()), Evicted(evicted));
        let (mut state, mut books) = (self.state(), self.clients.books());
        if state.is_gone || state.rare.as_ref().is_some_and(|rare| rare.ticket.is_some()) {
            return listening;
        }
        let address = state.address.address();
        if self.is_late {
            state.rare().ticket = Some(books.late_unheard.join(address, 1, evict));
            return listening;
        }
        let loan = state.rare().loan.as_ref().map(|loan| loan.ticket);
        let unheard = Unheard { evict, loan };
        state.rare().ticket = Some(books.unheard.join(address, 1, unheard));
        let Clients { beginnings, beginnings_per_address, .. } = *self.clients;
        let beside = books.unheard.weight_at(address);
        if address.is_some() && beside > beginnings_per_address {
            books.evict_at(address);
        }
        while books.unheard.len() > beginnings && books.evict_one() {}
        drop((state, books));
        listening
    }

    /// The client's address. `None` if it is not known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.state().address.address()
    }

    /// Counts the client at its address, which is known now.
    ///
    /// # Errors
    ///
    /// When the address has as many clients as it may have.
    pub(crate) fn move_to(&self, address: IpAddr) -> Result<(), TooMany> {
        let address = Some(prefix(address));
        let (mut state, mut books) = (self.state(), self.clients.books());
        if self.is_late || state.is_gone || state.address.address() == address {
            return Ok(());
        }
        let has_share = books.has_share(address, self.clients.per_address);
        // The client may have got its own place by calling another one back. This must not go on in a circle.
        let is_full = books.clients >= self.clients.connections;
        if !has_share && (is_full || !self.clients.lends) {
            return Err(TooMany);
        }
        self.give_back(&mut state, &mut books);
        if !state.is_gone {
            books.leave(state.address.address());
            if !has_share {
                state.rare().loan = Some(books.lend(address));
            }
            self.is_lent.store(!has_share, Ordering::Relaxed);
            books.enter(address);
            state.address = address.into();
        }
        Ok(())
    }

    /// Frees the client of its place, and counts it only at its address: see [`Clients::settled`]. `None` if it
    /// cannot do without: it may have to go, or its request is awaited.
    pub(crate) fn settle(&self) -> Option<(Arc<Self>, Packed)> {
        let mut state = self.state();
        if self.is_late || state.is_gone || state.rare.is_some() {
            return None;
        }
        state.is_gone = true;
        let address = state.address;
        drop(state);
        Some((self.clients.settled(), address))
    }

    /// A settled client at this address has gone.
    pub(crate) fn leave(&self, address: Packed) {
        self.clients.books().leave(address.address());
    }

    /// Ready when the place has been called back: the connection has to end.
    pub(crate) fn poll_called_back(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_lent.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let mut state = self.state();
        if let Some(loan) = state.rare.as_mut().and_then(|rare| rare.loan.as_mut())
            && loan.evicted.poll(cx).is_ready()
        {
            state.take_loan();
            state.is_gone = true;
        }
        if state.is_gone { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Makes the connection end with a reset, if possible, so that the operating system keeps nothing for it.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Notes that the request or body has arrived.
    fn heard(&self, state: &mut State, books: &mut Books) {
        let Some(ticket) = state.take_ticket() else { return };
        state.is_gone |= match self.is_late {
            true => books.late_unheard.leave(ticket).is_none(),
            false => books.unheard.leave(ticket).is_none(),
        };
    }

    /// Gives the loan and the ticket back, but not the place itself. Does nothing if another client has the
    /// place.
    fn give_back(&self, state: &mut State, books: &mut Books) {
        self.heard(state, books);
        if let Some(loan) = state.take_loan() {
            state.is_gone |= books.lent.leave(loan.ticket).is_none();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mut state, mut books) = (self.state(), self.clients.books());
        self.give_back(&mut state, &mut books);
        match (state.is_gone, self.is_late) {
            (true, _) => {}
            (false, true) => books.late -= 1,
            (false, false) => books.leave(state.address.address()),
        }
    }
}

/// While this exists, a request or body of the client is awaited.
pub(crate) struct Listening(Arc<Place>);

impl Drop for Listening {
    fn drop(&mut self) {
        let (mut state, mut books) = (self.0.state(), self.0.clients.books());
        self.0.heard(&mut state, &mut books);
    }
}

/// Tells that a client has lost its place, or its memory.
pub(crate) struct Evicted(oneshot::Receiver<()>);

impl Evicted {
    pub(crate) fn new(told: oneshot::Receiver<()>) -> Self {
        Self(told)
    }

    /// Ready when that has happened.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A oneshot receiver must not be polled again after it has ended.
        if self.0.is_terminated() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Waits until that has happened.
    pub(crate) async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
