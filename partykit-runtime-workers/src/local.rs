use std::future::Future;

use send_wrapper::SendWrapper;

/// Lets a handler await a future that holds JavaScript values. Handlers have to be `Send`, because the same
/// server runs on threads elsewhere, and JavaScript values are not. This makes the future `Send`.
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room, Server};
/// use partykit_runtime_workers::{Env, js_sys, local};
/// use wasm_bindgen::{JsCast, JsValue};
/// use wasm_bindgen_futures::JsFuture;
///
/// struct Greeter(Env);
///
/// impl Server for Greeter {
///     async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
///         let greeting = local(async {
///             let promise = js_sys::Promise::resolve(&JsValue::from_str("hello"));
///             JsFuture::from(promise).await.ok().and_then(|value| value.as_string())
///         });
///         sender.send(greeting.await.unwrap_or_default());
///         Ok(())
///     }
/// }
/// # let _ = Greeter;
/// ```
///
/// # Panics
///
/// The future panics when it is polled on another thread. Workers have only one thread.
pub fn local<T>(future: impl Future<Output = T>) -> impl Future<Output = T> + Send {
    SendWrapper::new(future)
}
