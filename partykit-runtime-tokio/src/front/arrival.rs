use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Uri, Version,
    header::HOST,
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use partykit_core::{
    BoxError,
    runtime::{
        front::{Asked, BadHost, Refused},
        parse_host, strip_internal,
    },
};

use crate::{ClientAddress, ingress::Ingress, limits::Place, proxies::Proxies};

/// A request that has come in. Its head is ready for the application: the URL is absolute, internal headers
/// are removed, and the extensions have only the peer's address and what this program put there.
pub(crate) struct Arrival {
    pub(crate) head: Parts,
    pub(crate) body: ArrivalBody,
    /// The host that the client asked for. Only HTTP/1.0 may leave it out.
    pub(crate) host: Option<Authority>,
    /// The host that the peer of the connection asked for. Behind a proxy it can differ from the host that the
    /// client asked for.
    pub(crate) peer_host: Option<Authority>,
    /// Whether it is certain that the client used TLS.
    pub(crate) is_encrypted: bool,
    /// The client's place. `None` if another server accepted the connection.
    pub(crate) place: Option<Arc<Place>>,
}

/// The body of a request, from this server or from another one.
pub(crate) type ArrivalBody = UnsyncBoxBody<Bytes, BrokenBody>;

/// The body of a request broke off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct BrokenBody(BoxError);

/// A request with its body in a box: from here on it does not matter which server it came through.
pub(crate) fn boxed<B>(request: http::Request<B>) -> http::Request<ArrivalBody>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    request.map(|body| body.map_err(|error| BrokenBody(error.into())).boxed_unsync())
}

/// The body of a request that has none.
pub(super) fn no_body() -> ArrivalBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Arrival {
    /// # Errors
    ///
    /// When it is unclear which host the client asked for, or when it is not this server.
    pub(crate) fn new(
        mut head: Parts,
        body: ArrivalBody,
        place: Option<Arc<Place>>,
        ingress: Ingress,
        proxies: &Proxies,
    ) -> Result<Self, Refused> {
        if head.method == Method::CONNECT {
            return Err(Refused::Connect);
        }
        let peer_host = peer_host(&head)?;
        let told = proxies.read(&head, ingress.peer).map_err(|_| BadHost::Forwarded)?;
        let told = told.unwrap_or_default();
        let host = told.host.or_else(|| peer_host.clone());
        let is_encrypted = told.is_encrypted.unwrap_or(ingress.is_encrypted);
        if let Some(host) = &host {
            let scheme = if is_encrypted { Scheme::HTTPS } else { Scheme::HTTP };
            head.uri = absolute(scheme, host, &head.uri);
        }
        strip_internal(&mut head.headers);
        if !ingress.keeps_extensions {
            head.extensions.clear();
        }
        if let Some(peer) = ingress.peer {
            head.extensions.insert(peer);
        }
        if let Some(client) = told.client.or_else(|| ingress.peer.map(|peer| peer.ip())) {
            head.extensions.insert(ClientAddress(client));
        }
        Ok(Self { head, body, host, peer_host, is_encrypted, place })
    }

    /// What routing needs to know of the request.
    pub(super) fn asked(&self) -> Asked<'_> {
        let (host, peer_host) = (self.host.as_ref(), self.peer_host.as_ref());
        Asked { head: &self.head, host, peer_host, is_encrypted: self.is_encrypted }
    }
}

thread_local! {
    /// The last host that was asked for. Most servers have one name, which nearly all clients say.
    static LAST: RefCell<Option<Authority>> = const { RefCell::new(None) };
}

/// Reads a `Host`.
fn read_host(value: &HeaderValue) -> Option<Authority> {
    LAST.with_borrow_mut(|last| match last {
        Some(last) if last.as_str().as_bytes() == value.as_bytes() => Some(last.clone()),
        // Copied, because the text of the request is to be freed with the request.
        _ => last.insert(parse_host(value.to_str().ok()?)?).clone().into(),
    })
}

/// The host that a head names.
fn peer_host(head: &Parts) -> Result<Option<Authority>, BadHost> {
    let mut values = head.headers.get_all(HOST).iter();
    let host = match (values.next(), values.next()) {
        (_, Some(_)) => return Err(BadHost::Repeated),
        (Some(value), None) => read_host(value).ok_or(BadHost::Malformed)?,
        (None, None) if head.version < Version::HTTP_11 => return Ok(None),
        (None, None) if head.version > Version::HTTP_11 && head.uri.authority().is_some() => {
            return Ok(head.uri.authority().cloned());
        }
        (None, None) => return Err(BadHost::Missing),
    };
    match head.uri.authority() {
        Some(target) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
            Err(BadHost::NotTarget)
        }
        _ => Ok(Some(host)),
    }
}

/// The absolute URL. Its scheme is `http` also behind a proxy that ends TLS and is not trusted, because any
/// client can send the headers of such a proxy.
fn absolute(scheme: Scheme, host: &Authority, uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(host.clone());
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn head(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The host, whether it is the last one or not.
    fn host(head: &Parts) -> Result<Option<Authority>, BadHost> {
        LAST.set(None);
        let host = peer_host(head);
        assert_eq!(peer_host(head), host);
        LAST.set(parse_host("another"));
        assert_eq!(peer_host(head), host);
        host
    }

    #[test]
    fn a_request_has_one_host() {
        assert!(host(&head("/a", &["h.com:80"])).unwrap().is_some());
        assert!(host(&head("http://H.com/a", &["h.com"])).unwrap().is_some());
        for bad in
            [&[][..], &["a", "a"], &["a", "b"], &[""], &["a/b"], &["u@a"], &["a b"], &["a:b"]]
        {
            assert!(host(&head("/a", bad)).is_err(), "{bad:?}");
        }
        assert!(host(&head("http://other.com/a", &["h.com"])).is_err());
        let mut old = head("/a", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(host(&old), Ok(None));
        let mut new = head("https://h.com/a", &[]);
        new.version = Version::HTTP_2;
        assert_eq!(host(&new).unwrap().unwrap(), "h.com");
    }

    #[test]
    fn an_address_becomes_whole() {
        let host = parse_host("h.com:1999").unwrap();
        for (uri, whole) in [
            ("/a/b?c=d", "http://h.com:1999/a/b?c=d"),
            ("/", "http://h.com:1999/"),
            ("http://h.com:1999/a", "http://h.com:1999/a"),
        ] {
            assert_eq!(absolute(Scheme::HTTP, &host, &uri.parse().unwrap()).to_string(), whole);
        }
    }

    #[test]
    fn internal_headers_stay_outside() {
        let mut headers = HeaderMap::new();
        for name in ["x-partykit-props", "x-partykit-room", "x-party", "cookie"] {
            headers.append(name, "1".parse().unwrap());
            headers.append(name, "2".parse().unwrap());
        }
        strip_internal(&mut headers);
        assert_eq!(headers.keys_len(), 2);
        assert_eq!(headers.get_all("x-party").iter().count(), 2);
    }
}
