//! A room's account while the room sleeps: a few dozen bytes in place of 380.

use std::{array, time::Duration};

use super::{
    account::{Account, Book, LongestAwake, TimeAwake},
    wake_cause::WakeCause,
};

const CAUSES: u64 = WakeCause::ALL.len() as u64;

/// A cause and how often it woke the room are one byte if it did so less often than this.
const FEW: u64 = 0x80 / CAUSES;

/// An account that is not kept at the moment.
#[derive(Debug)]
pub(super) enum Ledger {
    /// Which of its [numbers] are not 0, then those numbers, as
    /// [postcard](https://postcard.jamesmunns.com/wire-format) writes them. Then what woke it, and how
    /// often. Without any byte, the account begins when it is opened.
    Bytes(Box<[u8]>),
    /// One that names a place in the code has no such form.
    Whole(Box<Book>),
}

impl Ledger {
    /// Of a room to which nothing has happened.
    pub(super) fn blank() -> Self {
        Self::Bytes(Box::default())
    }

    /// Of a room that sleeps.
    pub(super) fn of(book: Book) -> Self {
        let Book { account, causes, born } = &book;
        if account.longest_awake.as_ref().is_some_and(|longest| longest.held_by.is_some()) {
            return Self::Whole(Box::new(book));
        }
        let mut written = Written { bytes: [0; MOST], len: 0 };
        let numbers = numbers(account, *born);
        let present =
            numbers.iter().rev().fold(0, |bits, number| bits << 1 | u64::from(*number > 0));
        written.push(present);
        for number in numbers.into_iter().filter(|number| *number > 0) {
            written.push(number);
        }
        for (cause, times) in causes.iter() {
            let few = if times < FEW { times } else { 0 };
            written.push(few * CAUSES + u64::from(code(cause)));
            if few == 0 {
                written.push(times);
            }
        }
        Self::Bytes(written.bytes[..written.len].into())
    }

    /// What was booked. If nothing was, the account was `opened` then.
    pub(super) fn book(&self, opened: Duration) -> Book {
        match self {
            Self::Bytes(bytes) => read(bytes, opened),
            Self::Whole(book) => (**book).clone(),
        }
    }

    /// The account up to now.
    pub(super) fn account(&self, now: Duration) -> Account {
        self.book(now).account(now)
    }
}

/// All numbers but the causes, times in nanoseconds. What most rooms have comes first, so that it takes one byte
/// to say what is there. A number that can be guessed from others is written as its difference from the guess:
/// bit by bit, so that it is never larger than both. [`read`] takes them in this order.
fn numbers(account: &Account, born: Duration) -> [u64; 19] {
    let (awake, last) = (&account.awake, account.last_wake);
    let longest = account.longest_awake.as_ref();
    let longest = longest.map_or(0, |longest| nanos(longest.duration).saturating_add(1));
    let (active, resident) = (nanos(account.active), nanos(account.resident));
    let (handler, commit, task) = (nanos(awake.handler), nanos(awake.commit), nanos(awake.task));
    let idle = nanos(awake.idle);
    [
        nanos(born),
        handler,
        idle,
        longest ^ guess::longest(resident),
        account.sleeps,
        last.map_or(0, |(cause, _)| u64::from(code(cause)) + 1),
        last.map_or(0, |(_, at)| nanos(at)),
        commit,
        task,
        active ^ guess::active(handler, commit, task),
        resident ^ guess::resident(active, idle),
        nanos(awake.guard),
        nanos(awake.response_body),
        nanos(awake.connections),
        account.resets,
        account.dropped_messages,
        account.rejected,
        account.overruns,
        account.slow_clients,
    ]
}

/// What holds for most rooms.
mod guess {
    /// The reasons to be active did not hold at the same time.
    pub(super) fn active(handler: u64, commit: u64, task: u64) -> u64 {
        handler.wrapping_add(commit).wrapping_add(task)
    }

    /// The rest of the time, the room waited for its sleep.
    pub(super) fn resident(active: u64, idle: u64) -> u64 {
        active.wrapping_add(idle)
    }

    /// The room was awake once. One more than the time, as 0 stands for none.
    pub(super) fn longest(resident: u64) -> u64 {
        if resident == 0 { 0 } else { resident.saturating_add(1) }
    }
}

fn read(mut bytes: &[u8], opened: Duration) -> Book {
    let mut book = Book::new(opened);
    if bytes.is_empty() {
        return book;
    }
    let present = number(&mut bytes);
    let [
        born,
        handler,
        idle,
        longest,
        sleeps,
        last,
        last_at,
        commit,
        task,
        active,
        resident,
        guard,
        response_body,
        connections,
        resets,
        dropped_messages,
        rejected,
        overruns,
        slow_clients,
    ]: [u64; 19] = array::from_fn(|at| match present >> at & 1 {
        0 => 0,
        _ => number(&mut bytes),
    });
    let active = active ^ guess::active(handler, commit, task);
    let resident = resident ^ guess::resident(active, idle);
    let longest = longest ^ guess::longest(resident);
    let time = Duration::from_nanos;
    book.born = time(born);
    book.account = Account {
        resident: time(resident),
        active: time(active),
        awake: TimeAwake {
            handler: time(handler),
            commit: time(commit),
            task: time(task),
            guard: time(guard),
            response_body: time(response_body),
            connections: time(connections),
            idle: time(idle),
        },
        longest_awake: longest.checked_sub(1).map(|duration| LongestAwake {
            duration: time(duration),
            held_by: None,
            held: Duration::ZERO,
        }),
        sleeps,
        resets,
        last_wake: last.checked_sub(1).and_then(cause).map(|cause| (cause, time(last_at))),
        dropped_messages,
        rejected,
        overruns,
        slow_clients,
        ..book.account
    };
    while !bytes.is_empty() {
        let first = number(&mut bytes);
        let times = match first / CAUSES {
            0 => number(&mut bytes),
            few => few,
        };
        cause(first % CAUSES).into_iter().for_each(|cause| book.causes.count(cause, times));
    }
    book
}

/// Over 500 years are cut off.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of numbers, without a place on the heap.
struct Written {
    bytes: [u8; MOST],
    len: usize,
}

/// The most bytes of an account: ten for each number, which are what is present, 19, and two for each cause.
const MOST: usize = 10 * (1 + 19 + 2 * WakeCause::ALL.len());

impl Written {
    fn push(&mut self, number: u64) {
        let written = postcard::to_slice(&number, &mut self.bytes[self.len..]);
        self.len += written.map_or(0, |bytes| bytes.len());
    }
}

/// The next number. 0 if there is none.
fn number(bytes: &mut &[u8]) -> u64 {
    let (number, rest) = postcard::take_from_bytes(bytes).unwrap_or_default();
    *bytes = rest;
    number
}

fn code(cause: WakeCause) -> u8 {
    cause as u8
}

fn cause(code: u64) -> Option<WakeCause> {
    WakeCause::ALL.get(usize::try_from(code).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use proptest::prelude::*;

    use super::*;
    use crate::AwakeReason;

    #[test]
    fn a_blank_one_begins_when_it_is_opened() {
        let now = Duration::from_secs(3);
        let opened = Ledger::blank().book(now);
        assert_eq!((opened.born, opened.account), (now, Account::default()));
        assert_eq!(Ledger::blank().account(now), Account::default());
    }

    #[test]
    fn each_cause_has_its_code() {
        for (at, known) in WakeCause::ALL.into_iter().enumerate() {
            assert_eq!((usize::from(code(known)), cause(at as u64)), (at, Some(known)));
        }
        assert_eq!(cause(7), None);
    }

    fn book(numbers: &[u64], causes: &[(u8, u64)]) -> Book {
        let time = |at: usize| Duration::from_nanos(numbers[at]);
        let mut book = Book::new(time(0));
        let account = &mut book.account;
        (account.resident, account.active) = (time(1), time(2));
        let awake = &mut account.awake;
        (awake.handler, awake.commit, awake.task) = (time(3), time(4), time(5));
        (awake.guard, awake.response_body) = (time(6), time(7));
        (awake.connections, awake.idle) = (time(8), time(9));
        account.longest_awake = numbers[10].is_multiple_of(2).then(|| LongestAwake {
            duration: time(11),
            held_by: None,
            held: Duration::ZERO,
        });
        (account.sleeps, account.resets) = (numbers[12], numbers[13]);
        account.last_wake = cause(numbers[14] % 9).map(|cause| (cause, time(15)));
        (account.dropped_messages, account.rejected) = (numbers[16], numbers[17]);
        (account.overruns, account.slow_clients) = (numbers[18], numbers[19]);
        for (cause, times) in causes {
            book.causes.count(WakeCause::ALL[usize::from(*cause)], *times);
        }
        book
    }

    proptest! {
        #[test]
        fn an_account_comes_back_as_it_was(
            numbers in proptest::collection::vec(0..u64::MAX, 20),
            causes in proptest::collection::vec(
                (0..7_u8, prop_oneof![1..2 * FEW, 1..u64::MAX / 7]),
                0..7,
            ),
        ) {
            let before = book(&numbers, &causes);
            let back = Ledger::of(before.clone()).book(Duration::from_secs(10));
            prop_assert_eq!((back.born, back.causes), (before.born, before.causes));
            prop_assert_eq!(back.account, before.account);
        }
    }

    #[test]
    fn one_that_names_a_task_is_kept_whole_and_a_usual_one_is_small() {
        let mut before = book(&[4_000_000_000; 20], &[(1, 1), (4, 1000)]);
        let Ledger::Bytes(bytes) = Ledger::of(before.clone()) else {
            panic!("it names no place");
        };
        assert!(bytes.len() <= 104, "{}", bytes.len());
        let task = AwakeReason::Task { name: "t", location: Location::caller() };
        let longest =
            LongestAwake { duration: Duration::MAX, held_by: Some(task), held: Duration::ZERO };
        before.account.longest_awake = Some(longest);
        assert_eq!(Ledger::of(before.clone()).book(Duration::ZERO).account, before.account);
    }

    /// One that a client visited, which came back after some hours: a size class of 32 bytes.
    #[test]
    fn that_of_a_room_with_one_visitor_is_small() {
        let (nanos, hour) = (Duration::from_nanos, Duration::from_secs(3600));
        let mut book = Book::new(hour + nanos(123_456_789));
        let account = &mut book.account;
        let (handler, idle, longest) =
            (nanos(412_345), Duration::from_secs(20), nanos(10_000_234_567));
        (account.active, account.resident) = (handler, handler + idle);
        (account.awake.handler, account.awake.idle) = (handler, idle);
        account.longest_awake =
            Some(LongestAwake { duration: longest, held_by: None, held: Duration::ZERO });
        account.sleeps = 2;
        account.last_wake = Some((WakeCause::Message, 3 * hour + nanos(1)));
        book.causes.count(WakeCause::Connect, 1);
        book.causes.count(WakeCause::Message, 1);
        let Ledger::Bytes(bytes) = Ledger::of(book.clone()) else { panic!("it names no place") };
        assert!(bytes.len() <= 32, "{}", bytes.len());
        assert_eq!(Ledger::Bytes(bytes).book(Duration::ZERO).account, book.account);
    }
}
