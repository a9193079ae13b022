use http::HeaderMap;

/// Headers with this prefix are PartyKit's own, between its parts. None comes from outside.
pub const INTERNAL_HEADERS: &str = "x-partykit-";

/// Removes the [`INTERNAL_HEADERS`] that a client has sent.
///
/// ```
/// use http::HeaderMap;
/// use partykit_core::runtime::strip_internal;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-partykit-props", "{}".parse().unwrap());
/// headers.insert("cookie", "a=1".parse().unwrap());
/// strip_internal(&mut headers);
/// assert_eq!(headers.len(), 1);
/// ```
pub fn strip_internal(headers: &mut HeaderMap) {
    let internal = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_HEADERS));
    for name in internal.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}
