use partykit_core::{ConnectionId, RoomId, RoutePrefix};

/// Parses a path and a query, whatever they are, and prints back what is found.
///
/// # Panics
///
/// When a limit is not kept, or what is printed reads back as something else.
pub fn route(bytes: &[u8]) {
    let url = Url::parse(bytes);
    let prefix = url.prefix.as_ref().map_or_else(RoutePrefix::default, RoutePrefix::new);
    let path = match (&url.prefix, url.below) {
        (_, false) => url.path.clone(),
        (None, true) => format!("/parties/{}", url.path),
        (Some(prefix), true) => format!("/{prefix}/{}", url.path),
    };
    match prefix.parse(&path) {
        Ok(None) => {}
        Ok(Some(route)) => {
            assert!((1..=RoomId::MAX_LEN).contains(&route.room().len()), "{route:?}");
            assert!(!route.party().is_empty(), "{route:?}");
            let printed = prefix.path(&route);
            assert_eq!(prefix.parse(&printed), Ok(Some(route)), "{printed}");
            let uri: http::Uri = printed.parse().expect("what is printed can stand in a URL");
            assert_eq!((uri.path(), uri.query()), (printed.as_str(), None));
        }
        Err(error) => assert!(matches!(error.status().as_u16(), 400 | 404), "{error}"),
    }

    match ConnectionId::from_query(Some(&url.query)) {
        Ok(None) => {}
        Ok(Some(id)) => {
            assert!((1..=ConnectionId::MAX_LEN).contains(&id.len()), "{id:?}");
            let mut query = form_urlencoded::Serializer::new(String::new());
            let query = query.append_pair("_pk", &id).finish();
            assert_eq!(ConnectionId::from_query(Some(&query)), Ok(Some(id)), "{query}");
        }
        Err(error) => assert_eq!(error.status(), 400, "{error}"),
    }
}

/// Where the rooms are, and what a client asks for.
struct Url {
    prefix: Option<String>,
    /// The path begins with the prefix, so that many lead to a room.
    below: bool,
    path: String,
    query: String,
}

impl Url {
    /// A byte of flags, then the parts with line feeds between them.
    fn parse(bytes: &[u8]) -> Self {
        let (flags, text) = bytes.split_first().unwrap_or((&0, &[]));
        let text = String::from_utf8_lossy(text);
        let mut parts = text.splitn(3, '\n').map(str::to_owned);
        let path = parts.next().unwrap_or_default();
        let query = parts.next().unwrap_or_default();
        let prefix = (flags & 1 == 1).then(|| parts.next().unwrap_or_default());
        Self { prefix, below: flags & 2 == 2, path, query }
    }
}
