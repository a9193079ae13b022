//! The store on disk: its contract, its limits, and what it does when the disk does not do its part.

#[path = "store/beginnings.rs"]
mod beginnings;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/full_disk.rs"]
mod full_disk;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/moved.rs"]
mod moved;
#[path = "store/support.rs"]
mod support;
#[path = "store/under_load.rs"]
mod under_load;
