//! Limits on clients: places, new rooms, messages.

mod address_rate;
mod clients;
mod rooms;

pub(crate) use self::{
    address_rate::AddressRate,
    clients::{ClientLimits, Clients, Evicted, Packed, Place, prefix},
    rooms::{AddressOf, RoomRate, known},
};
