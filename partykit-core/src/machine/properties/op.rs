//! What may happen to a room, in any order. A step that makes no sense where it falls does nothing.

use proptest::{prelude::*, strategy::BoxedStrategy};
use proptest_state_machine::ReferenceStateMachine;

/// Which room it is.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) hibernate: bool,
    /// With small limits for the mailbox, for connections and for what is held.
    pub(super) tight: bool,
}

/// One step. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(super) enum Op {
    // What happens to the room.
    Connect {
        tagged: bool,
    },
    Message(u8),
    /// The runtime says that the alarm may be due.
    Ring,
    Leave(u8),
    Request {
        reply: bool,
    },
    OutsideSend(u8),
    OutsideBroadcast {
        tagged: bool,
    },
    OutsideClose(u8),
    Hibernate,
    Drain,
    Crash,
    // What the running handler does.
    Put(u8),
    Delete(u8),
    Clear,
    SetAlarm(u16),
    DeleteAlarm,
    WriteNothing,
    Send(u8),
    Broadcast {
        tagged: bool,
        except: Option<u8>,
    },
    Close(u8),
    SetState(u8),
    Begin,
    End {
        keep: bool,
    },
    Sync,
    Spawn,
    Tell,
    TakeGuard,
    Finish(Ending),
    // How what the room waits for goes on.
    Commit(Fate),
    Claim {
        ok: bool,
    },
    TaskSays(u8),
    TaskEnds(u8),
    DropGuard(u8),
    EndBody,
    Pass(u16),
    /// Time passes up to the moment at which the machine wants to be called.
    Deadline,
    Tick,
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    Done,
    /// Done, and the response streams.
    Streaming,
    Err,
    Panic,
    /// What the client sent is wrong. In a handler that no client has caused it is an error.
    Reject,
}

/// How a commit ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Stored,
    Failed,
    /// Stored, but reported as failed.
    FailedLate,
}

/// Makes sequences of steps, and shrinks those that break something.
pub(super) struct Steps;

impl ReferenceStateMachine for Steps {
    type State = Setup;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Setup> {
        (prop::bool::weighted(0.8), prop::bool::weighted(0.3))
            .prop_map(|(hibernate, tight)| Setup { hibernate, tight })
            .boxed()
    }

    fn transitions(_: &Setup) -> BoxedStrategy<Op> {
        prop_oneof![3 => happens(), 5 => handler_does(), 3 => goes_on()].boxed()
    }

    fn apply(setup: Setup, _: &Op) -> Setup {
        setup
    }
}

fn happens() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => any::<bool>().prop_map(|tagged| Op::Connect { tagged }),
        20 => any::<u8>().prop_map(Op::Message),
        20 => Just(Op::Ring),
        12 => any::<u8>().prop_map(Op::Leave),
        20 => any::<bool>().prop_map(|reply| Op::Request { reply }),
        6 => any::<u8>().prop_map(Op::OutsideSend),
        4 => any::<bool>().prop_map(|tagged| Op::OutsideBroadcast { tagged }),
        3 => any::<u8>().prop_map(Op::OutsideClose),
        4 => Just(Op::Hibernate),
        1 => Just(Op::Drain),
        1 => Just(Op::Crash),
    ]
}

fn handler_does() -> impl Strategy<Value = Op> {
    let ending = prop_oneof![
        5 => Just(Ending::Done),
        1 => Just(Ending::Streaming),
        2 => Just(Ending::Err),
        1 => Just(Ending::Panic),
        2 => Just(Ending::Reject),
    ];
    prop_oneof![
        12 => (0..3_u8).prop_map(Op::Put),
        3 => (0..3_u8).prop_map(Op::Delete),
        2 => Just(Op::Clear),
        8 => (0..2_000_u16).prop_map(Op::SetAlarm),
        1 => Just(Op::DeleteAlarm),
        1 => Just(Op::WriteNothing),
        8 => any::<u8>().prop_map(Op::Send),
        8 => (any::<bool>(), prop::option::of(any::<u8>()))
            .prop_map(|(tagged, except)| Op::Broadcast { tagged, except }),
        3 => any::<u8>().prop_map(Op::Close),
        4 => any::<u8>().prop_map(Op::SetState),
        3 => Just(Op::Begin),
        4 => any::<bool>().prop_map(|keep| Op::End { keep }),
        3 => Just(Op::Sync),
        3 => Just(Op::Spawn),
        2 => Just(Op::Tell),
        1 => Just(Op::TakeGuard),
        26 => ending.prop_map(Op::Finish),
    ]
}

fn goes_on() -> impl Strategy<Value = Op> {
    let fate = prop_oneof![
        4 => Just(Fate::Stored),
        1 => Just(Fate::Failed),
        1 => Just(Fate::FailedLate),
    ];
    prop_oneof![
        10 => fate.prop_map(Op::Commit),
        20 => prop::bool::weighted(0.85).prop_map(|ok| Op::Claim { ok }),
        2 => any::<u8>().prop_map(Op::TaskSays),
        3 => any::<u8>().prop_map(Op::TaskEnds),
        2 => any::<u8>().prop_map(Op::DropGuard),
        2 => Just(Op::EndBody),
        4 => (0..20_000_u16).prop_map(Op::Pass),
        3 => Just(Op::Deadline),
        2 => Just(Op::Tick),
    ]
}
