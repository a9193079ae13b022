use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::HeaderMap;

use super::Visit;
use crate::{
    Route, RouteError, RoutePrefix,
    runtime::{InvalidOrigin, Origins},
};

/// Which URLs belong to rooms, and which pages may use them.
///
/// ```
/// use http::Request;
/// use partykit_core::runtime::front::{Asked, Decision, Routes, Wish};
///
/// let routes = Routes::default();
/// let (head, ()) = Request::get("http://h.com/parties/chat/lobby").body(())?.into_parts();
/// let asked = Asked { head: &head, host: None, peer_host: None, is_encrypted: false };
/// let (decision, _) = routes.find(&asked, |party| (party == "chat").then_some("the chat"));
/// let Decision::Room { party, route, wish: Wish::Request } = decision else { panic!() };
/// assert_eq!((party, route.room().as_str()), ("the chat", "lobby"));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Routes {
    prefix: RoutePrefix,
    origins: Origins,
    /// What some parties have of their own.
    own: BTreeMap<String, Own>,
    /// The parties that are there, for sharing their names.
    parties: BTreeSet<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    prefix: Option<RoutePrefix>,
    origins: Option<Origins>,
}

impl Routes {
    /// Tells the name of a party. The addresses of its rooms then share it. Without this, each address has a copy
    /// of the name.
    pub fn add_party(&mut self, name: Arc<str>) {
        self.parties.insert(name);
    }

    /// Where the URLs of rooms begin, or those of this party's rooms. Default: `parties`.
    pub fn set_prefix(&mut self, party: Option<&str>, prefix: RoutePrefix) {
        match party {
            None => self.prefix = prefix,
            Some(party) => self.own_of(party).prefix = Some(prefix),
        }
    }

    /// Lets pages of this origin talk to rooms, see [`Origins::allow`]; or to those of this party, which
    /// then has a list of its own in the place of the common one.
    ///
    /// # Errors
    ///
    /// When it is not an origin.
    pub fn allow(&mut self, party: Option<&str>, origin: &str) -> Result<(), InvalidOrigin> {
        self.origins_mut(party).allow(origin)
    }

    /// Lets every page talk to rooms, or to those of this party.
    pub fn allow_any(&mut self, party: Option<&str>) {
        self.origins_mut(party).allow_any();
    }

    /// Gives this party a list of its own, which lets in none but the host's own pages for now.
    pub fn own_origins(&mut self, party: &str) {
        self.origins_mut(Some(party));
    }

    /// Adds a name of this server, see [`Origins::add_host`].
    ///
    /// # Errors
    ///
    /// When it is not a host.
    pub fn add_host(&mut self, host: &str) -> Result<(), InvalidOrigin> {
        self.all_origins().try_for_each(|origins| origins.add_host(host))
    }

    /// Whether pages of this machine may talk to a server on it, see [`Origins::allow_localhost`].
    pub fn allow_localhost(&mut self, allowed: bool) {
        self.all_origins().for_each(|origins| origins.allow_localhost(allowed));
    }

    /// The parties that have something of their own.
    pub fn special_parties(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }

    /// Which pages may talk to the rooms of a party.
    pub fn origins_of(&self, party: &str) -> &Origins {
        let own = self.own.get(party).and_then(|own| own.origins.as_ref());
        own.unwrap_or(&self.origins)
    }

    /// Tells the client's browser, if it has one, whether its page may read this answer of a room.
    pub fn stamp(&self, visit: &Visit, headers: &mut HeaderMap) {
        let origins = visit.address().map(|address| self.origins_of(address.party()));
        if let Some(visitor) = &visit.visitor {
            origins.unwrap_or(&self.origins).stamp(visitor, headers);
        }
    }

    /// The path of a party's rooms up to the room's name, for a short way to them. If a path begins with this, and
    /// letters, digits, `-` and `_` follow up to its end or the next `/`, then these are the name of a room of the
    /// party. `None` if that is not certain, because another party has a prefix that leads there too.
    ///
    /// ```
    /// use partykit_core::{RoutePrefix, runtime::front::Routes};
    ///
    /// let mut routes = Routes::default();
    /// assert_eq!(routes.beginning("chat").as_deref(), Some("/parties/chat/"));
    /// routes.set_prefix(Some("game"), RoutePrefix::new("parties/chat"));
    /// assert_eq!(routes.beginning("chat"), None, "/parties/chat/game/a is a room of the game");
    /// ```
    pub fn beginning(&self, party: &str) -> Option<String> {
        let prefix = |own: &'_ Own| own.prefix.clone();
        let own = self.own.get(party).and_then(prefix);
        let beginning = own.as_ref().unwrap_or(&self.prefix).beginning(party);
        let others = self.own.iter().filter(|(other, _)| *other != party);
        let mut others = others.filter_map(|(name, own)| Some(prefix(own)?.beginning(name)));
        let is_alone =
            others.all(|other| !other.starts_with(&beginning) && !beginning.starts_with(&other));
        is_alone.then_some(beginning)
    }

    /// Those of all parties that have none of their own.
    pub(super) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The room that a path means; `None` if it is for no room.
    pub(super) fn parse(&self, path: &str) -> Result<Option<Route>, RouteError> {
        let own = self.own.iter().filter_map(|(party, own)| Some((party, own.prefix.as_ref()?)));
        let meant = own.into_iter().find(|(party, prefix)| prefix.leads_to(path, party));
        let prefix = meant.map_or(&self.prefix, |(_, prefix)| prefix);
        prefix.parse_with(path, |party| match self.parties.get(&*party) {
            Some(name) => name.clone(),
            None => party.into(),
        })
    }

    /// Whether the room's party is under this path.
    pub(super) fn is_at(&self, route: &Route, path: &str) -> bool {
        let own = self.own.get(route.party()).and_then(|own| own.prefix.as_ref());
        own.is_none_or(|prefix| prefix.leads_to(path, route.party()))
    }

    pub(super) fn is_short(&self, path: &str) -> bool {
        self.prefix.is_short(path)
    }

    fn own_of(&mut self, party: &str) -> &mut Own {
        self.own.entry(party.to_owned()).or_default()
    }

    fn origins_mut(&mut self, party: Option<&str>) -> &mut Origins {
        let Some(party) = party else { return &mut self.origins };
        let own = self.own.entry(party.to_owned()).or_default();
        own.origins.get_or_insert_with(|| self.origins.without_pages())
    }

    fn all_origins(&mut self) -> impl Iterator<Item = &mut Origins> {
        let own = self.own.values_mut().filter_map(|own| own.origins.as_mut());
        std::iter::once(&mut self.origins).chain(own)
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, header::ORIGIN};

    use super::*;
    use crate::runtime::{
        Visitor,
        front::{Asked, Decision},
        parse_host,
    };

    const PARTIES: [&str; 3] = ["chat", "game", "main"];

    /// Where a path leads, in words, and whether a page may go there.
    fn ask(routes: &Routes, path: &str, origin: &str) -> (String, bool) {
        let request = Request::get(path).header(ORIGIN, origin).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let host = parse_host("rooms.example");
        let host = host.as_ref();
        let asked = Asked { head: &head, host, peer_host: host, is_encrypted: false };
        let (decision, visit) = routes.find(&asked, |name| PARTIES.contains(&name).then_some(()));
        let what = match decision {
            Decision::Room { route, .. } => route.address().to_string(),
            Decision::Fallback => "fallback".to_owned(),
            Decision::Refuse(refused) => refused.to_string(),
            Decision::Respond(_) => "answered".to_owned(),
        };
        (what, matches!(visit.visitor(), Visitor::Allowed(_)))
    }

    fn find(routes: &Routes, path: &str) -> String {
        ask(routes, path, "null").0
    }

    #[test]
    fn a_party_with_a_prefix_of_its_own_is_there_and_nowhere_else() {
        let mut routes = Routes::default();
        routes.set_prefix(Some("game"), RoutePrefix::new("play"));
        for (path, leads) in [
            ("/play/game/a", "game/a"),
            ("/play/game/a/more", "game/a"),
            ("//play/ga%6De/a", "game/a"),
            ("/play/chat/a", "fallback"),
            ("/play", "fallback"),
            ("/parties/chat/a", "chat/a"),
            ("/party/a", "main/a"),
            ("/parties/game/a", "no such party"),
        ] {
            assert_eq!(find(&routes, path), leads, "{path}");
        }
        assert_ne!(find(&routes, "/play/game"), "fallback", "it is a room's, without its name");
    }

    #[test]
    fn what_follows_a_beginning_is_a_room_of_the_party() {
        const PREFIXES: [Option<&str>; 5] =
            [None, Some(""), Some("parties"), Some("parties/chat"), Some("/a b/\u{fc}/")];
        let mut certain = 0;
        for common in PREFIXES {
            for (chat, game) in PREFIXES.iter().flat_map(|a| PREFIXES.iter().map(move |b| (*a, *b)))
            {
                let mut routes = Routes::default();
                for (party, prefix) in [(None, common), (Some("chat"), chat), (Some("game"), game)]
                {
                    if let Some(prefix) = prefix {
                        routes.set_prefix(party, RoutePrefix::new(prefix));
                    }
                }
                for party in PARTIES {
                    let Some(beginning) = routes.beginning(party) else { continue };
                    certain += 1;
                    for room in ["a", "party", "parties", "main", "chat", "game", "-_0Z-z9"] {
                        for rest in ["", "/", "/main/a", "/game", "//x", "?a=/parties/game/b"] {
                            let path = format!("{beginning}{room}{rest}");
                            assert_eq!(
                                find(&routes, &path),
                                format!("{party}/{room}"),
                                "{routes:?} {path}"
                            );
                        }
                    }
                }
            }
        }
        assert!((200..5 * 5 * 5 * 3).contains(&certain), "{certain}");
    }

    #[test]
    fn prefixes_may_be_empty_or_stand_in_one_another() {
        let mut routes = Routes::default();
        routes.set_prefix(None, RoutePrefix::new("live"));
        routes.set_prefix(Some("game"), RoutePrefix::new(""));
        routes.set_prefix(Some("main"), RoutePrefix::new("live/deep"));
        for (path, leads) in [
            ("/game/a", "game/a"),
            ("/chat/a", "fallback"),
            ("/live/chat/a", "chat/a"),
            ("/live/deep/main/a", "main/a"),
            ("/live/main/a", "no such party"),
            ("/party/a", "fallback"),
        ] {
            assert_eq!(find(&routes, path), leads, "{path}");
        }
    }

    #[test]
    fn a_party_with_pages_of_its_own_has_no_others() {
        let mut routes = Routes::default();
        routes.allow(None, "https://common.example").unwrap();
        routes.allow(Some("game"), "https://game.example").unwrap();
        routes.own_origins("main");
        routes.add_host("www.rooms.example").unwrap();
        routes.add_host("rooms.example").unwrap();
        let may =
            |party: &str, origin: &str| ask(&routes, &format!("/parties/{party}/a"), origin).1;
        for (origin, chat, game, main) in [
            ("https://common.example", true, false, false),
            ("https://game.example", false, true, false),
            ("https://rooms.example", true, true, true),
            ("https://www.rooms.example", true, true, true),
            ("https://evil.example", false, false, false),
        ] {
            assert_eq!(
                (may("chat", origin), may("game", origin), may("main", origin)),
                (chat, game, main),
                "{origin}"
            );
        }
        routes.allow_any(Some("game"));
        let may =
            |party: &str| ask(&routes, &format!("/parties/{party}/a"), "https://evil.example").1;
        assert_eq!((may("chat"), may("game")), (false, true));
    }

    #[test]
    fn answers_are_stamped_by_the_list_of_the_party() {
        let mut routes = Routes::default();
        routes.allow_any(Some("game"));
        let stamped = |path: &str| {
            let request =
                Request::get(path).header(ORIGIN, "https://rooms.example").body(()).unwrap();
            let (head, ()) = request.into_parts();
            let host = parse_host("rooms.example");
            let host = host.as_ref();
            let asked = Asked { head: &head, host, peer_host: host, is_encrypted: false };
            let (_, visit) = routes.find(&asked, |_| Some(()));
            let mut headers = HeaderMap::new();
            routes.stamp(&visit, &mut headers);
            headers["access-control-allow-origin"].clone()
        };
        assert_eq!(stamped("/parties/game/a"), "*");
        assert_eq!(stamped("/parties/chat/a"), "https://rooms.example");
    }
}
