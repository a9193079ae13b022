//! The header `Forwarded`, RFC 7239.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header::FORWARDED};

/// What one proxy says about its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// The client's address. `None` if the proxy does not name it.
    pub(super) address: Option<IpAddr>,
    pub(super) proto: Option<String>,
    pub(super) host: Option<String>,
}

/// All elements, the one of the nearest proxy last.
pub(super) fn elements(headers: &HeaderMap) -> Vec<Element> {
    let values = headers.get_all(FORWARDED).into_iter().map(|value| value.to_str().unwrap_or(""));
    values.flat_map(|value| split(value, ',')).map(element).collect()
}

/// An address, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
pub(super) fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()));
    address.map(|address| address.to_canonical())
}

fn element(text: &str) -> Element {
    let mut element = Element::default();
    for pair in split(text, ';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value = unquote(value.trim());
        match &*name.trim().to_ascii_lowercase() {
            "for" => element.address = node(&value),
            "proto" => element.proto = Some(value),
            "host" => element.host = Some(value),
            _ => {}
        }
    }
    element
}

/// Splits at separators outside of quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
    .collect()
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let keeps = |c: &char| {
        let drops = *c == '\\' && !escaped;
        escaped = drops;
        !drops
    };
    inner.chars().filter(keeps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_separators() {
        assert_eq!(split(r#"a="x,y";b, c="\",",d"#, ','), [r#"a="x,y";b"#, r#" c="\",""#, "d"]);
        assert_eq!(unquote(r#""a\"b\\c""#), r#"a"b\c"#);
        assert_eq!(unquote("plain"), "plain");
    }

    #[test]
    fn an_element_has_what_it_says() {
        let whole = element(r#"For="[2001:db8::1]:80";proto=https;by=10.0.0.1;host="a.example""#);
        assert_eq!(whole.address, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(whole.proto.as_deref(), Some("https"));
        assert_eq!(whole.host.as_deref(), Some("a.example"));
        for hidden in ["for=unknown", "for=_secret", "for", "", "for=\"", "=;;="] {
            assert_eq!(element(hidden).address, None, "{hidden}");
        }
    }
}
