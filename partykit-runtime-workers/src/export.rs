/// Makes a Worker of parties: a Durable Object class for each party, and the `fetch` handler that finds the
/// room of a request. Use it once, in the crate that is built for Workers (`crate-type = ["cdylib",
/// "rlib"]`).
///
/// ```
/// # mod worker {
/// use partykit_core::Server;
///
/// #[derive(Default)]
/// struct Relay;
/// impl Server for Relay {}
///
/// partykit_runtime_workers::export! { Relay as "main" }
/// # }
/// ```
///
/// The class and its binding have the name of the server type. In `wrangler.jsonc`:
///
/// ```json
/// "durable_objects": { "bindings": [{ "name": "Relay", "class_name": "Relay" }] },
/// "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Relay"] }]
/// ```
///
/// A class can have another name; a server with type parameters needs one. A factory makes instances of a
/// server without `Default`, or of one that needs the Worker's [`Env`](crate::Env).
/// [`Settings`](crate::Settings) come last:
///
/// ```
/// # mod worker {
/// use partykit_core::{RoomId, Server};
/// use partykit_runtime_workers::{Env, Settings};
///
/// #[derive(Default)]
/// struct Counter<const STEP: u32>;
/// impl<const STEP: u32> Server for Counter<STEP> {}
///
/// struct Board {
///     name: String,
///     env: Env,
/// }
/// impl Server for Board {}
///
/// partykit_runtime_workers::export! {
///     Dozens: Counter<12> as "dozens",
///     Board as "board" = |room: &RoomId, env: &Env| Board { name: room.to_string(), env: env.clone() };
///     |env| Settings::new().allow_origins(env.var("ORIGIN"))
/// }
/// # }
/// ```
#[macro_export]
macro_rules! export {
    (
        $($class:ident $(: $server:ty)? as $name:literal $(= $make:expr)?),+ $(,)?
        $(; $($settings:tt)*)?
    ) => {
        const _: () = {
            fn parties(env: &$crate::Env) -> &'static $crate::__private::Parties {
                static PARTIES: ::std::sync::OnceLock<$crate::__private::Parties> =
                    ::std::sync::OnceLock::new();
                PARTIES.get_or_init(|| {
                    $crate::__private::Parties::new(
                        $crate::__settings!(env [$($($settings)*)?]),
                        ::std::vec![
                            $($crate::__party!($class [$($server)?] $name [$($make)?])),+
                        ],
                    )
                })
            }

            #[$crate::__private::wasm_bindgen::prelude::wasm_bindgen(
                wasm_bindgen = $crate::__private::wasm_bindgen
            )]
            pub fn fetch(
                request: $crate::__private::JsValue,
                env: $crate::__private::JsValue,
                _ctx: $crate::__private::JsValue,
                failed: $crate::__private::JsValue,
            ) -> $crate::__private::Promise {
                $crate::__private::fetch(parties, request, env, failed)
            }

            $($crate::__class!($class);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings {
    ($env:ident []) => {
        $crate::Settings::new()
    };
    ($env:ident [|$own:ident $(: $type:ty)?| $settings:expr $(;)?]) => {
        (|$own: &$crate::Env| -> $crate::Settings { $settings })($env)
    };
    ($env:ident [$settings:expr $(;)?]) => {{
        let _ = $env;
        $settings
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __party {
    ($class:ident [] $name:literal [$($make:expr)?]) => {
        $crate::__party!($class [$class] $name [$($make)?])
    };
    ($class:ident [$server:ty] $name:literal []) => {
        $crate::__private::Party::new::<$server>($name, ::std::stringify!($class))
    };
    ($class:ident [$server:ty] $name:literal [$make:expr]) => {
        $crate::__private::Party::with::<$server>($name, ::std::stringify!($class), $make)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __class {
    ($class:ident) => {
        const _: () = {
            // The derived code uses this bare name.
            #[allow(unused_imports)]
            use $crate::__private::wasm_bindgen;
            use $crate::__private::{JsValue, Object, Promise};

            #[wasm_bindgen::prelude::wasm_bindgen(
                                                wasm_bindgen = $crate::__private::wasm_bindgen
                                            )]
            pub struct $class(Object);

            #[wasm_bindgen::prelude::wasm_bindgen(
                                                wasm_bindgen = $crate::__private::wasm_bindgen
                                            )]
            impl $class {
                #[wasm_bindgen(constructor)]
                pub fn new(ctx: JsValue, env: JsValue) -> ::std::result::Result<Self, JsValue> {
                    Object::new(parties, ::std::stringify!($class), ctx, env).map(Self)
                }

                pub fn fetch(&self, request: JsValue) -> JsValue {
                    self.0.fetch(request)
                }

                #[wasm_bindgen(js_name = webSocketMessage)]
                pub fn web_socket_message(&self, ws: &JsValue, message: &JsValue) -> JsValue {
                    self.0.message(ws, message)
                }

                #[wasm_bindgen(js_name = makeSpace)]
                pub fn make_space(&self, units: u32, bytes: u32) -> bool {
                    self.0.make_space(units, bytes)
                }

                pub fn hear(&self, order: u32, is_text: bool, length: i32, now: f64) -> bool {
                    self.0.hear(order, is_text, length, now)
                }

                pub fn working(&self) -> JsValue {
                    self.0.working()
                }

                #[wasm_bindgen(js_name = webSocketClose)]
                pub fn web_socket_close(
                    &self,
                    ws: &JsValue,
                    code: &JsValue,
                    reason: &JsValue,
                    clean: &JsValue,
                ) -> JsValue {
                    self.0.close(ws, code, reason, clean)
                }

                #[wasm_bindgen(js_name = webSocketError)]
                pub fn web_socket_error(&self, ws: &JsValue, error: &JsValue) -> JsValue {
                    self.0.error(ws, error)
                }

                pub fn alarm(&self, _info: JsValue) -> Promise {
                    self.0.alarm()
                }
            }
        };
    };
}
