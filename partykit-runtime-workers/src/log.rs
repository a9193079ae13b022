use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    panic,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

use js_sys::Number;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber,
};

use crate::{Env, js};

/// The var that sets the lowest level to log. `debug` tells what woke a room. Default: `info`.
const LEVEL: &str = "PARTYKIT_LOG";

/// Writes the log and panics to the platform's console, unless the program has set up a subscriber itself.
pub(crate) fn init(env: &Env) {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        let level = env.var(LEVEL).and_then(|level| level.parse().ok());
        let console =
            Console { level: level.unwrap_or(LevelFilter::INFO), last: AtomicU64::new(0) };
        // If this fails, the program has its own subscriber.
        let _ = subscriber::set_global_default(console);
        panic::set_hook(Box::new(|panic| js::console("error", &panic.to_string())));
    });
}

/// A line for each event, from a level on: the spans it stands in, then its fields.
struct Console {
    level: LevelFilter,
    last: AtomicU64,
}

thread_local! {
    /// The texts of the spans that were made, by id.
    static SPANS: RefCell<std::collections::HashMap<u64, (String, usize)>> = RefCell::default();
    /// The spans that are entered, innermost last.
    static ENTERED: RefCell<Vec<u64>> = RefCell::default();
}

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Fields(span.metadata().name().to_owned());
        span.record(&mut text);
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        SPANS.with_borrow_mut(|spans| spans.insert(id, (text.0, 1)));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        SPANS.with_borrow_mut(|spans| {
            if let Some((text, _)) = spans.get_mut(&span.into_u64()) {
                let mut fields = Fields(std::mem::take(text));
                values.record(&mut fields);
                *text = fields.0;
            }
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Fields(String::new());
        ENTERED.with_borrow(|entered| {
            SPANS.with_borrow(|spans| {
                for (text, _) in entered.iter().filter_map(|id| spans.get(id)) {
                    line.0.push_str(text);
                    line.0.push_str(": ");
                }
            });
        });
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        js::console(level, &line.0);
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        SPANS.with_borrow_mut(|spans| {
            spans.entry(span.into_u64()).and_modify(|(_, handles)| *handles += 1);
        });
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        SPANS.with_borrow_mut(|spans| {
            let Some((_, handles)) = spans.get_mut(&span.into_u64()) else { return false };
            *handles -= 1;
            let closes = *handles == 0;
            if closes {
                spans.remove(&span.into_u64());
            }
            closes
        })
    }
}

/// `message name=value name=value`
struct Fields(String);

impl Visit for Fields {
    // By the platform: Rust's own code for it is 14 kB of wasm.
    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = Number::from(value).to_string_with_radix(10).map(String::from);
        self.record_debug(field, &format_args!("{}", text.unwrap_or_default()));
    }

    // In two halves, for the same reason. Few values are so large.
    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.record_debug(field, &value),
            Err(_) => self.record_u128(field, value as u128),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_debug(field, &value),
            Err(_) => {
                let (high, low) = ((value >> 64) as u64, value as u64);
                self.record_debug(field, &format_args!("{high:#x}{low:016x}"));
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !self.0.is_empty() && !self.0.ends_with(' ') {
            self.0.push(' ');
        }
        // Writing to a `String` never fails.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, "{name}={value:?}"),
        };
    }
}
