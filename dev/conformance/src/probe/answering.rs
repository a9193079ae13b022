use partykit::{
    Body, Request, RequestExt, Response, Result, Room,
    http::{HeaderName, Method, StatusCode},
};
use serde_json::{Value, json};

use super::Wanted;

/// Where a probe counts how many answers of [`as_asked`] it gave.
pub(super) const ANSWERED: &str = "answered";

/// What names of headers begin with that the answer shall have, before a number and the name. The number
/// keeps two of one name apart: platforms join those of a request.
const WANTED: &str = "x-answer-";

/// The answer that a request describes: the status of its query, each of its headers
/// `x-answer-0-name` as the header `name`, and its body.
pub(super) async fn as_asked(room: &Room, request: Request) -> Result<Response> {
    let answered: u32 = room.storage().get(ANSWERED).await?.unwrap_or(0);
    room.storage().put(ANSWERED, &(answered + 1))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        StatusCode::from_u16(request.query("status").as_deref().unwrap_or("200").parse()?)?;
    for (name, value) in request.headers() {
        let wanted = name.as_str().strip_prefix(WANTED).and_then(|rest| rest.split_once('-'));
        if let Some((_, name)) = wanted {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            response.headers_mut().append(name, value.clone());
        }
    }
    *response.body_mut() = request.into_body();
    Ok(response)
}

/// Asks another room for such an answer, and says what came: `status`, `headers` and `body`, its bytes.
pub(super) async fn ask(room: &Room, party: &str, id: &str, wanted: &Wanted) -> Result<Value> {
    let mut request = Request::new(wanted.body.clone().into());
    *request.method_mut() = Method::POST;
    let status = wanted.status;
    *request.uri_mut() = format!("/parties/{party}/{id}/answer?status={status}").parse()?;
    for (n, (name, value)) in wanted.headers.iter().enumerate() {
        let name = HeaderName::from_bytes(format!("{WANTED}{n}-{name}").as_bytes())?;
        request.headers_mut().append(name, value.parse()?);
    }
    let response = room.party(party).room(id).request(request).await?;
    let headers = response.headers().iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let body = response.body().bytes().map(|body| body.to_vec());
    Ok(json!({
        "re": "ask", "status": response.status().as_u16(), "headers": headers, "body": body,
    }))
}
