//! The parties as a Worker, under the same names as elsewhere.

use crate::{Probe, Small, Starter};

partykit::workers::export! {
    Probes: Probe<true> as "probe",
    Memories: Probe<false> as "memory",
    Starter as "starter",
    Small as "small",
}
