//! The store on disk: its contract, its limits, and what it does when the disk does not do its part.

mod store {
    mod support;

    mod contract;
}
