use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::Arc,
};

/// Values of the application that hooks and handlers share: a pool of database connections, a client of
/// another service. One value of each type.
///
/// An application gives them to its runtime with `Builder::state`, and reads them with
/// [`Lobby::state`](crate::Lobby::state) and [`Room::state`](crate::Room::state). This type is for runtimes.
///
/// ```
/// use partykit_core::runtime::AppState;
///
/// let state = AppState::default().with(7_u32).with("text");
/// assert_eq!(state.get::<u32>()?, &7);
/// assert_eq!(state.get::<u8>().unwrap_err().to_string(), "the application has no state of type u8: give it to the runtime's builder with `state`");
/// # Ok::<(), partykit_core::NoState>(())
/// ```
#[derive(Clone, Default)]
pub struct AppState(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl AppState {
    /// Adds a value. It replaces an earlier value of the same type.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// The value of this type.
    ///
    /// # Errors
    ///
    /// When no value of this type was given.
    pub fn get<T: Send + Sync + 'static>(&self) -> Result<&T, NoState> {
        let value = self.0.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref());
        value.ok_or(NoState(type_name::<T>()))
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppState({} values)", self.0.len())
    }
}

/// The application has given its runtime no value of this type.
///
/// ```
/// use partykit_core::{Lobby, NoState, RoomAddress, RoomId};
///
/// let address = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let missing: NoState = Lobby::new(address, |_| None).state::<u32>().unwrap_err();
/// # let _ = missing;
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the application has no state of type {0}: give it to the runtime's builder with `state`")]
pub struct NoState(&'static str);
