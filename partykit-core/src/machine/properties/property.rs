/// What is said of a room that breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    /// What a connection gets is in the order in which it was said; nothing comes twice.
    Order,
    /// When an output leaves, the writes before it are readable in the store.
    Gate,
    /// The store holds what a prefix of the successful handlers wrote, whole batches only.
    Storage,
    /// What a handler says after a write that is taken back never leaves; all else does, at once when
    /// it waits for nothing.
    Rollback,
    /// Handlers run one after another, on an instance that has started.
    OneHandler,
    /// Events are handled in the order in which they came.
    Arrival,
    /// The room is awake for a reason, says so, and sleeps without one.
    Sleep,
    /// Every request gets one answer, every handshake too.
    Answers,
    /// `on_close` runs once for every connection that came in and has ended.
    Closes,
    /// One commit at a time, under the newest claim.
    Commits,
    /// A state is what the last successful handler made it.
    States,
    /// A handler reads its own writes and those of all successful ones.
    Reads,
    /// A task runs from its handler's commit until it ends or is cancelled.
    Tasks,
    /// An alarm rings when it is due and not before, and is stored until its handler has succeeded.
    Alarms,
    /// No handler can run for ever.
    Deadlines,
    /// A room that shuts down begins nothing.
    Drain,
    /// A client's fault undoes what its handler did, and takes no instance.
    Rejected,
}
