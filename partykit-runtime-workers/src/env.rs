use std::fmt;

use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue};

use crate::js;

/// The bindings, vars and secrets of the Worker, as `wrangler.jsonc` names them.
///
/// A factory of [`export!`](crate::export) gets it and may keep it in the server. It is `Send`, because
/// servers have to be; Workers have only one thread.
///
/// ```
/// use partykit_core::Server;
/// use partykit_runtime_workers::{Env, js_sys};
///
/// struct Board {
///     bucket: Option<Env>,
/// }
///
/// impl Server for Board {}
///
/// impl Board {
///     fn new(env: &Env) -> Self {
///         let has_bucket = env.binding::<js_sys::Object>("BUCKET").is_some();
///         Self { bucket: has_bucket.then(|| env.clone()) }
///     }
/// }
/// # let _ = Board::new;
/// ```
#[derive(Clone)]
pub struct Env(SendWrapper<JsValue>);

impl Env {
    pub(crate) fn new(env: JsValue) -> Self {
        Self(SendWrapper::new(env))
    }

    pub(crate) fn js(&self) -> &JsValue {
        &self.0
    }

    /// The text of a var or a secret: what [`Room::var`](partykit_core::Room::var) gives.
    pub fn var(&self, name: &str) -> Option<String> {
        js::get(&self.0, name).as_string()
    }

    /// A binding, as this type. `None` if there is no such binding. The type is not checked: a method that
    /// the binding does not have throws.
    ///
    /// The result is not `Send`: use it inside of [`local`](crate::local).
    pub fn binding<T: JsCast>(&self, name: &str) -> Option<T> {
        let binding = js::get(&self.0, name);
        (!binding.is_undefined() && !binding.is_null()).then(|| binding.unchecked_into())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}
