//! A room's account while the room sleeps: a few dozen bytes in place of 380.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    account::{Account, Book, LongestAwake},
    wake_cause::WakeCause,
};

/// An account that is not kept at the moment.
#[derive(Debug)]
pub(super) enum Ledger {
    /// Which of its numbers are not 0, then those numbers: times in nanoseconds, seven bits in a byte. Without
    /// any byte, the account begins when it is opened.
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
        let mut bytes = SmallVec::<[u8; 128]>::new();
        let numbers = numbers(account, *born);
        let present =
            numbers.iter().rev().fold(0, |bits, number| bits << 1 | u64::from(*number > 0));
        write(&mut bytes, present);
        for number in numbers.into_iter().filter(|number| *number > 0) {
            write(&mut bytes, number);
        }
        for (cause, times) in causes.iter() {
            write(&mut bytes, u64::from(code(cause)));
            write(&mut bytes, times);
        }
        Self::Bytes(bytes.as_slice().into())
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

/// All numbers but the causes, in the order in which [`read`] takes them.
fn numbers(account: &Account, born: Duration) -> [u64; 19] {
    let awake = &account.awake;
    let longest = account.longest_awake.as_ref();
    let last = account.last_wake;
    [
        nanos(born),
        nanos(account.resident),
        nanos(account.active),
        nanos(awake.handler),
        nanos(awake.commit),
        nanos(awake.task),
        nanos(awake.guard),
        nanos(awake.response_body),
        nanos(awake.connections),
        nanos(awake.idle),
        longest.map_or(0, |longest| nanos(longest.duration).saturating_add(1)),
        account.sleeps,
        account.resets,
        last.map_or(0, |(cause, _)| u64::from(code(cause)) + 1),
        last.map_or(0, |(_, at)| nanos(at)),
        account.dropped_messages,
        account.rejected,
        account.overruns,
        account.slow_clients,
    ]
}

fn read(mut bytes: &[u8], opened: Duration) -> Book {
    let mut book = Book::new(opened);
    if bytes.is_empty() {
        return book;
    }
    let mut present = number(&mut bytes).unwrap_or(0);
    let mut next = || {
        let is_there = present & 1 == 1;
        present >>= 1;
        if is_there { number(&mut bytes).unwrap_or(0) } else { 0 }
    };
    book.born = Duration::from_nanos(next());
    let account = &mut book.account;
    account.resident = Duration::from_nanos(next());
    account.active = Duration::from_nanos(next());
    let awake = &mut account.awake;
    for time in [
        &mut awake.handler,
        &mut awake.commit,
        &mut awake.task,
        &mut awake.guard,
        &mut awake.response_body,
        &mut awake.connections,
        &mut awake.idle,
    ] {
        *time = Duration::from_nanos(next());
    }
    account.longest_awake = next().checked_sub(1).map(|duration| LongestAwake {
        duration: Duration::from_nanos(duration),
        held_by: None,
        held: Duration::ZERO,
    });
    (account.sleeps, account.resets) = (next(), next());
    let (last, at) = (next(), Duration::from_nanos(next()));
    account.last_wake = last.checked_sub(1).and_then(cause).map(|cause| (cause, at));
    (account.dropped_messages, account.rejected) = (next(), next());
    (account.overruns, account.slow_clients) = (next(), next());
    while let (Some(code), Some(times)) = (number(&mut bytes), number(&mut bytes)) {
        cause(code).into_iter().for_each(|cause| book.causes.count(cause, times));
    }
    book
}

/// Over 500 years are cut off.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn write(into: &mut SmallVec<[u8; 128]>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
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
            causes in proptest::collection::vec((0..7_u8, 1..u64::MAX / 7), 0..7),
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
}
