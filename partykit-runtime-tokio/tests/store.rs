//! The store on disk: its contract, its limits, and what it does when the disk does not do its part.

#[path = "store/backups.rs"]
mod backups;
#[path = "store/beginnings.rs"]
mod beginnings;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/disk_format.rs"]
mod disk_format;
#[path = "store/dumps.rs"]
mod dumps;
#[path = "store/full_disk.rs"]
mod full_disk;
#[path = "store/killed_copies.rs"]
mod killed_copies;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/moved.rs"]
mod moved;
#[path = "store/salvages.rs"]
mod salvages;
#[path = "store/support.rs"]
mod support;
#[path = "store/under_load.rs"]
mod under_load;
#[path = "store/verifications.rs"]
mod verifications;
