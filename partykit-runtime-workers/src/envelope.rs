use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use partykit_core::{
    Admission, BoxError, Refusal, Request, RequestExt, Response, RoomAddress, RoomId,
    runtime::{Chain, Visitor},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The header that carries an [`Envelope`]. Entries remove it from requests from outside.
pub(crate) const ENVELOPE: &str = "x-partykit-envelope";

/// How each envelope begins. No method of HTTP begins like this.
pub(crate) const BEGINNING: char = '{';

/// Says in the answer to a call that the room did not answer, and why.
pub(crate) const REFUSAL: &str = "x-partykit-refusal";

/// A header's value is printable ASCII.
const UNSAFE: &AsciiSet = &CONTROLS.add(b'%');

/// A request for a room's object: everything except the body, exactly as it came, and what the entry adds. It
/// travels in one header of another request, because the platform allows no body in a GET and changes
/// headers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Envelope {
    pub(crate) kind: Asked,
    pub(crate) method: String,
    pub(crate) uri: String,
    /// Name and value; each byte of a value is one character.
    headers: Vec<(String, String)>,
    props: Option<Box<RawValue>>,
    /// The origin of the page that may read the answer.
    page: Option<String>,
    /// The rooms that wait for the answer, innermost first.
    chain: Vec<(String, String)>,
}

/// What is wanted.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Asked {
    /// A WebSocket with this id, for a client that asked for this address.
    Connect { id: String, address: String, protocol: Option<String> },
    /// An answer.
    Request,
    /// An answer for another room, or the reason why there is no answer.
    Call,
    /// Nothing.
    Tell,
}

impl Envelope {
    pub(crate) fn new(kind: Asked, request: &Request, chain: &Chain) -> Self {
        let chain = chain.rooms().map(|room| (room.party().to_owned(), room.room().to_string()));
        Self {
            kind,
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            headers: pairs(request.headers()),
            // The props were JSON a moment ago, so this does not fail.
            props: request.props::<Box<RawValue>>().ok().flatten(),
            page: None,
            chain: chain.collect(),
        }
    }

    /// Adds the origin of the visitor's page.
    pub(crate) fn for_page_of(self, visitor: &Visitor) -> Self {
        let Visitor::Allowed(origin) = visitor else { return self };
        Self { page: Some(latin1(origin.as_bytes())), ..self }
    }

    /// The visitor, as far as the answer's headers depend on it.
    pub(crate) fn visitor(&self) -> Visitor {
        let origin = self.page.as_deref().and_then(|page| header_value(page).ok());
        origin.map_or(Visitor::Unknown, Visitor::Allowed)
    }

    /// The value of the header.
    pub(crate) fn encode(&self) -> String {
        // JSON can encode all texts and lists of texts, so this does not fail.
        let json = serde_json::to_string(self).unwrap_or_default();
        utf8_percent_encode(&json, UNSAFE).to_string()
    }

    pub(crate) fn decode(value: &str) -> Result<Self, BoxError> {
        let json = percent_decode_str(value).decode_utf8()?;
        Ok(serde_json::from_str(&json)?)
    }

    /// The request that it was made of, with this body.
    pub(crate) fn request(&self, body: Bytes) -> Result<Request, BoxError> {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes())?;
        *request.uri_mut() = self.uri.parse::<Uri>()?;
        *request.headers_mut() = self.headers()?;
        match &self.props {
            Some(props) => Ok(Admission::new(request).props(props)?.into_request()),
            None => Ok(request),
        }
    }

    pub(crate) fn chain(&self) -> Result<Chain, BoxError> {
        let mut outermost_first = self.chain.iter().rev();
        outermost_first.try_fold(Chain::new(), |chain, (party, room)| {
            Ok(chain.then(RoomAddress::new(party.as_str(), RoomId::new(room)?)))
        })
    }

    fn headers(&self) -> Result<HeaderMap, BoxError> {
        from_pairs(&self.headers)
    }
}

/// The headers of an answer to a call. They travel in one header of the platform's response. Otherwise the
/// platform would act on them, for example decode a body.
#[derive(Debug, Deserialize, Serialize)]
struct Reply {
    headers: Vec<(String, String)>,
    streams: bool,
}

/// Packs the headers of an answer to a call into one.
pub(crate) fn pack(response: &mut Response) {
    let reply = Reply { headers: pairs(response.headers()), streams: response.body().is_stream() };
    // JSON can encode all texts, and the escaped result is printable, so this does not fail.
    let json = serde_json::to_string(&reply).unwrap_or_default();
    let packed = HeaderValue::try_from(utf8_percent_encode(&json, UNSAFE).to_string());
    response.headers_mut().clear();
    if let Ok(packed) = packed {
        response.headers_mut().insert(ENVELOPE, packed);
    }
}

/// The reverse of [`pack`]: the headers, and whether the body is a stream.
pub(crate) fn unpack(header: &str) -> Result<(HeaderMap, bool), BoxError> {
    let json = percent_decode_str(header).decode_utf8()?;
    let reply: Reply = serde_json::from_str(&json)?;
    Ok((from_pairs(&reply.headers)?, reply.streams))
}

/// Names and values as JavaScript has them.
pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let headers = headers.iter();
    headers.map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))).collect()
}

/// The reverse of [`pairs`].
pub(crate) fn from_pairs(pairs: &[(String, String)]) -> Result<HeaderMap, BoxError> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes())?, header_value(value)?);
    }
    Ok(headers)
}

/// A header's value as JavaScript has it: one character for each byte.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The reverse of [`latin1`]. Text with characters above one byte is taken as UTF-8.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    HeaderValue::from_bytes(&bytes.unwrap_or_else(|| text.as_bytes().to_vec()))
}

/// The answer of a room that did not answer a call.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    let mut response = refusal.response();
    let text = match refusal {
        Refusal::Failed(id) => format!("failed {id}"),
        Refusal::Full => "full".to_owned(),
        Refusal::Unavailable(after) => format!("unavailable {}", after.as_millis()),
        Refusal::ShuttingDown => "shutting-down".to_owned(),
        _ => "overloaded".to_owned(),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(REFUSAL, value);
    }
    response
}

/// The reverse of [`refuse`].
pub(crate) fn refusal(headers: &HeaderMap) -> Option<Refusal> {
    let text = headers.get(REFUSAL)?.to_str().ok()?;
    let (name, detail) = text.split_once(' ').unwrap_or((text, ""));
    Some(match name {
        "failed" => Refusal::Failed(detail.parse().ok()?),
        "full" => Refusal::Full,
        "unavailable" => {
            Refusal::Unavailable(std::time::Duration::from_millis(detail.parse().ok()?))
        }
        "shutting-down" => Refusal::ShuttingDown,
        _ => Refusal::Overloaded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(kind: Asked, request: &Request, chain: &Chain) -> Envelope {
        let value = Envelope::new(kind, request, chain).encode();
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value}");
        Envelope::decode(&value).unwrap()
    }

    #[test]
    fn a_request_arrives_as_it_left() {
        let mut request = Request::new("%".into());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = "http://h.com/parties/main/caf%C3%A9?a=%25&b=é".parse().unwrap();
        let odd = HeaderValue::from_bytes(b"\xff \xe9 100%").unwrap();
        request.headers_mut().append("x-odd", odd);
        request.headers_mut().append("x-odd", HeaderValue::from_static("two"));
        let props = serde_json::json!({ "name": "Jürgen\n", "n": u64::MAX });
        let request = Admission::new(request).props(&props).unwrap().into_request();

        let envelope = there_and_back(Asked::Request, &request, &Chain::new());
        let arrived = envelope.request("body".into()).unwrap();
        assert_eq!(arrived.method(), Method::PUT);
        assert_eq!(arrived.uri(), request.uri());
        assert_eq!(arrived.headers(), request.headers());
        assert_eq!(arrived.props::<serde_json::Value>().unwrap(), Some(props));
        assert_eq!(arrived.body().bytes().unwrap(), "body");
    }

    #[test]
    fn a_chain_keeps_its_order() {
        let room = |name| RoomAddress::new("main", RoomId::new(name).unwrap());
        let chain = Chain::new().then(room("outer")).then(room("inner ü"));
        let envelope = there_and_back(Asked::Call, &Request::default(), &chain);
        let arrived = envelope.chain().unwrap();
        assert_eq!(arrived.rooms().collect::<Vec<_>>(), chain.rooms().collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_arrives_with_its_detail() {
        let id = "00c0ffee00c0ffee".parse().unwrap();
        let after = std::time::Duration::from_millis(1234);
        for it in [
            Refusal::Failed(id),
            Refusal::Full,
            Refusal::Overloaded,
            Refusal::Unavailable(after),
            Refusal::ShuttingDown,
        ] {
            assert_eq!(refusal(refuse(it).headers()), Some(it));
        }
        assert_eq!(refusal(Response::default().headers()), None);
    }

    #[test]
    fn the_headers_of_an_answer_arrive_as_they_left() {
        let mut response = Response::default();
        for (name, value) in
            [("content-encoding", "gzip"), ("set-cookie", "a=1, 2"), ("set-cookie", "b%20")]
        {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let odd = HeaderValue::from_bytes(b"\xff \xe9").unwrap();
        response.headers_mut().append("x-odd", odd);
        let left = response.headers().clone();
        pack(&mut response);
        assert_eq!(response.headers().len(), 1, "the platform sees none of them");
        let (arrived, streams) = unpack(response.headers()[ENVELOPE].to_str().unwrap()).unwrap();
        assert_eq!((arrived, streams), (left, false));
        assert!(unpack("").is_err() && unpack("%ff").is_err());
    }

    #[test]
    fn whose_page_may_read_arrives() {
        let page = Visitor::Allowed(HeaderValue::from_static("https://app.com"));
        for (visitor, arrives) in [(&page, &page), (&Visitor::Foreign, &Visitor::Unknown)] {
            let envelope = Envelope::new(Asked::Request, &Request::default(), &Chain::new())
                .for_page_of(visitor);
            assert_eq!(Envelope::decode(&envelope.encode()).unwrap().visitor(), *arrives);
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for value in ["", "{}", "%7B", "[1]", "%ff"] {
            assert!(Envelope::decode(value).is_err(), "{value}");
        }
    }
}
