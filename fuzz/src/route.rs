use arbitrary::Arbitrary;
use partykit_core::{ConnectionId, RoomId, RoutePrefix};

/// Where the rooms are, and what a client asks for.
#[derive(Arbitrary, Clone, Debug)]
pub struct Url {
    prefix: Option<String>,
    /// The path begins with the prefix, so that most of them lead to a room.
    below: bool,
    path: String,
    query: String,
}

/// Parses a path and a query, whatever they are, and prints back what is found.
///
/// # Panics
///
/// When a limit is not kept, or what is printed reads back as something else.
pub fn route(url: &Url) {
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
