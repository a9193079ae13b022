//! Every rule that somebody who writes a server, or a client, can observe: one file for each thing that
//! breaking it would threaten. The rooms are real ones, run by `TestRoom`, or by [`world`] where a test
//! needs several rooms or a runtime's view of one.

mod alarms;
mod append;
mod calls;
mod connect;
mod connections;
mod convenience;
mod effects;
mod failure;
mod fairness;
mod kit;
mod mailbox;
mod operator;
mod panicking;
mod rejected;
mod resume;
mod saying;
#[cfg(feature = "schedules")]
mod schedules;
#[cfg(feature = "schedules")]
mod schedules_set;
mod script;
mod side_by_side;
mod side_by_side_trees;
mod sleep;
mod start;
mod state;
mod storage;
mod stream;
mod tasks;
#[cfg(feature = "schedules")]
mod timetable;
mod transparency;
mod watched;
mod world;
