//! Numbers of what a room does.

/// Numbers the turns of a room. A turn is one run of one handler.
pub(crate) type TurnId = u64;

/// Numbers the transactions of a turn. 0 is the turn itself.
pub(crate) type TransactionId = u64;

/// Whose code acts: that of a turn, inside one of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) turn: TurnId,
    pub(crate) transaction: TransactionId,
}
