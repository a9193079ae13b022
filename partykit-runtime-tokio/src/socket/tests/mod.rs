mod close;
mod flow;
mod house;
mod memory;
mod slow;
mod time;
mod transports;
