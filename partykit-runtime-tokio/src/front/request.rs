use http::Method;
use partykit_core::{
    Options, Request, Response, Route,
    runtime::{
        Chain, Chosen,
        front::{self, Refused},
    },
};

use super::{
    Front,
    arrival::Arrival,
    body::{Read, Reading, read},
};
use crate::{Handle, party::Party};

impl Front {
    /// Passes a plain request to a room. Its body counts as memory until it is answered.
    pub(super) async fn request(
        &self,
        party: &Party,
        route: &Route,
        arrival: Arrival,
    ) -> Result<Response, Refused> {
        let is_head = arrival.head.method == Method::HEAD;
        let client = self.room_rate.address(&arrival.head);
        let limit = Chosen::of(party.options()).max_request_body;
        let (request, _memory) = self.read(arrival, limit).await?;
        let request = party.server().before_request(&*self.host, route, request).await?;
        self.count_if_new(route, client)?;
        let answer = self
            .host
            .enter(party, route.address(), |cell| cell.request(request, Chain::new()))?
            .await?;
        front::fit(&*self.host, "on_request", is_head, answer)
    }

    /// Passes a request that is not for a room to the fallback.
    pub(super) async fn fall_back(&self, arrival: Arrival) -> Result<Response, Refused> {
        let Some(fallback) = &self.fallback else { return Err(Refused::NotFound) };
        let is_head = arrival.head.method == Method::HEAD;
        let limit = Chosen::of(&Options::default()).max_request_body;
        let (mut request, _memory) = self.read(arrival, limit).await?;
        let handle = Handle::new(self.host.clone(), self.shutdown.clone());
        request.extensions_mut().insert(handle);
        let work = Box::pin(async move { fallback(request).await });
        front::fall_back(&*self.host, is_head, work).await
    }

    async fn read(&self, arrival: Arrival, limit: usize) -> Result<(Request, Read), Refused> {
        let Arrival { head, body, place, .. } = arrival;
        let client = self.room_rate.client(&head);
        let reading = Reading { limit, memory: &self.memory, client, place: place.as_ref() };
        let read = read(body, reading).await?;
        Ok((Request::from_parts(head, read.bytes.clone().into()), read))
    }
}
