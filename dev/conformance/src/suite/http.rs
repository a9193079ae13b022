use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use partykit::http::{HeaderMap, HeaderValue, Request, header};
use tokio::net::TcpStream;

/// The answer to a plain request, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16, headers: HeaderMap, body: Bytes) -> Self {
        Self { status, headers, body }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of this name that are text.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as text, other bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub fn json(&self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: not JSON: {text}", self.status))
    }
}

/// Sends a request on a connection of its own.
pub(super) async fn send(authority: &str, mut request: Request<Bytes>) -> Answer {
    let host = HeaderValue::from_str(authority).expect("a host");
    request.headers_mut().entry(header::HOST).or_insert(host);
    let what = format!("{} {}", request.method(), request.uri());
    let stream = TcpStream::connect(authority).await.expect("the server listens");
    let connected = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.expect("a connection");
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await;
    let (head, body) = response.unwrap_or_else(|error| panic!("{what}: {error}")).into_parts();
    let body = body.collect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    connection.abort();
    Answer::new(head.status.as_u16(), head.headers, body.to_bytes())
}
