use std::{any::Any, fmt};

/// A value of a task: the one that it returned, or one that it emitted before.
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room, Server, TaskResult};
///
/// struct Assistant;
///
/// impl Server for Assistant {
///     async fn on_message(&mut self, room: &Room, _: &Connection, question: Message) -> Result {
///         room.spawn_streaming("answer", async |emitter| {
///             for word in ["forty", "two"] {
///                 emitter.emit(word.to_owned()).await;
///             }
///         });
///         Ok(())
///     }
///
///     async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
///         if !result.is_last() {
///             room.broadcast(result.value::<String>()?).send();
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct TaskResult {
    pub(crate) name: &'static str,
    pub(crate) value: Result<Box<dyn Any + Send>, String>,
    pub(crate) last: bool,
}

impl TaskResult {
    #[cfg(test)]
    pub(crate) fn planned(name: &'static str, last: bool) -> Self {
        Self { name, value: Ok(Box::new(())), last }
    }

    /// The name that [`Room::spawn`](crate::Room::spawn) was given.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the task has ended. If `false`, more results follow.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// When the task panicked, or its value has another type.
    pub fn value<T: 'static>(self) -> Result<T, TaskError> {
        match self.value {
            Ok(value) => value.downcast().map(|value| *value).map_err(|_| TaskError::Type {
                task: self.name,
                expected: std::any::type_name::<T>(),
            }),
            Err(message) => Err(TaskError::Panicked { task: self.name, message }),
        }
    }
}

impl fmt::Debug for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, last) = (&self.name, &self.last);
        f.debug_struct("TaskResult").field("name", name).field("last", last).finish_non_exhaustive()
    }
}

/// Why a task has no value of this type.
///
/// ```
/// use partykit_core::{TaskError, TaskResult};
///
/// fn weather(result: TaskResult) -> String {
///     match result.value::<String>() {
///         Ok(weather) => weather,
///         Err(TaskError::Panicked { task, .. }) => format!("{task} is out of order"),
///         Err(error) => error.to_string(),
///     }
/// }
/// # let _ = weather;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked.
    #[error("task {task:?} panicked: {message}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// The panic's message.
        message: String,
    },
    /// Its value has another type.
    #[error("task {task:?} has no value of type {expected}")]
    Type {
        /// The task's name.
        task: &'static str,
        /// The type that was asked for.
        expected: &'static str,
    },
}
