//! The bodies of the fuzz targets, on stable, with a few hundred inputs each.

use arbitrary::{Arbitrary, Unstructured};
use proptest::{collection::vec, prelude::*};

/// Makes of bytes what libFuzzer would.
fn input<T: for<'a> Arbitrary<'a>>(bytes: &[u8]) -> T {
    T::arbitrary_take_rest(Unstructured::new(bytes)).expect("arbitrary values need no more bytes")
}

proptest! {
    #[test]
    fn route(bytes in vec(any::<u8>(), 0..200)) {
        fuzz::route(&input(&bytes));
    }

    #[test]
    fn list(bytes in vec(any::<u8>(), 0..2000)) {
        fuzz::list(&input::<Vec<_>>(&bytes));
    }

    #[test]
    fn machine(bytes in vec(any::<u8>(), 0..2000)) {
        fuzz::machine(&input::<Vec<_>>(&bytes));
    }
}
