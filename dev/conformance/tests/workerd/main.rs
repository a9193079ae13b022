//! The Workers runtime in Cloudflare's own `workerd`.

mod checklist;
mod desk;
mod leaks;
mod log;
mod short;
mod suite;
mod support;
