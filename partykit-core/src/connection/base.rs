//! What the uris of a room's connections begin with.

use std::sync::{Arc, Mutex, PoisonError};

/// The most beginnings that rooms share: a server has few names, but a client may invent any.
const SHARED: usize = 64;

/// The beginnings that rooms of one connection share.
static KNOWN: Mutex<Vec<Arc<Base>>> = Mutex::new(Vec::new());

/// What the uri of a connection most likely begins with. So it is not kept for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beginning<'a> {
    /// The base of the room.
    pub(crate) base: Option<&'a str>,
    /// The name of the room. It comes behind the base if the base ends before it.
    pub(crate) room: &'a str,
}

/// The beginning of most uris of a room, kept once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Base(Box<str>);

impl Base {
    /// The best for connections with these uris. Those of several connections have all in common up to the `?`;
    /// one connection shares with other rooms what comes before the name of its room.
    pub(crate) fn choose(uris: impl Iterator<Item = String>) -> Option<Arc<Self>> {
        let mut count = 0;
        let paths = uris.filter_map(|mut uri| {
            count += 1;
            uri.truncate(uri.find('?')? + 1);
            Some(uri)
        });
        let most = most(paths)?;
        match count {
            1 => Self::shared(&most[..=most.rfind('/')?]),
            _ => Some(Arc::new(Self(most.into()))),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The same for all that ask for this text. `None` if there are too many texts already.
    fn shared(text: &str) -> Option<Arc<Self>> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = known.iter().find(|base| base.as_str() == text) {
            return Some(base.clone());
        }
        if known.len() >= SHARED {
            known.retain(|base| Arc::strong_count(base) > 1);
        }
        if known.len() >= SHARED {
            return None;
        }
        let base = Arc::new(Self(text.into()));
        known.push(base.clone());
        Some(base)
    }
}

/// What more than half of them are. If there is no such one, any.
fn most(all: impl Iterator<Item = String>) -> Option<String> {
    let mut most = None;
    let mut lead = 0_usize;
    for one in all {
        if most.as_ref() == Some(&one) {
            lead += 1;
        } else if lead == 0 {
            (most, lead) = (Some(one), 1);
        } else {
            lead -= 1;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(uris: &[&str]) -> Option<Arc<Base>> {
        Base::choose(uris.iter().map(|uri| (*uri).to_owned()))
    }

    #[test]
    fn a_crowd_has_its_room_in_common_and_one_what_comes_before() {
        let crowd = choose(&["http://h/p/a?_pk=1", "https://g/p/a?x", "http://h/p/a?_pk=2", "odd"]);
        assert_eq!(crowd.unwrap().as_str(), "http://h/p/a?");
        let (one, other) = (choose(&["http://h/p/a?_pk=1"]), choose(&["http://h/p/b?_pk=1/2"]));
        assert_eq!(one.as_ref().unwrap().as_str(), "http://h/p/");
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
        assert_eq!((choose(&[]), choose(&["no query"]), choose(&["nothing?"])), (None, None, None));
    }

    #[test]
    fn invented_names_never_fill_the_memory() {
        let held: Vec<_> =
            (0..2 * SHARED).map(|n| choose(&[&format!("http://{n}/p/a?")])).collect();
        assert!(held.iter().flatten().count() <= SHARED);
        assert!(KNOWN.lock().unwrap().len() <= SHARED);
        drop(held);
        let after = choose(&["http://after/p/a?"]).expect("what no room has any more makes space");
        assert_eq!(after.as_str(), "http://after/p/");
    }
}
