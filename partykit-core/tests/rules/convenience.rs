//! What spares users glue.

use std::time::Duration;

use partykit_core::{Body, Request, RequestExt, Timestamp};
use serde::Deserialize;

use crate::script::{heard, inside, test, wish};

#[test]
fn a_state_of_nothing_is_none() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.connection().set_state(&None::<String>).unwrap();
        assert_eq!(ada.connection().state::<String>().unwrap(), None);
        ada.connection().set_state(&Some("here")).unwrap();
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("here"));
        assert!(ada.connection().state::<u32>().is_err(), "another shape is an error all the same");
    });
}

#[test]
fn states_are_those_of_the_listed_connections_in_order() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        let _eve = room.connect("eve").await;
        bob.send("state:second").await;
        ada.send("state:first").await;
        let states = || inside(&room, |room| Box::pin(async { room.states::<String>().unwrap() }));
        assert_eq!(states().await, ["first", "second"]);
        room.hibernate().await.unwrap();
        assert_eq!(states().await, ["first", "second"]);
        ada.send("close:4000").await;
        assert_eq!(states().await, ["second"]);
        assert!(!ada.connection().is_open() && bob.connection().is_open());
        bob.vanish().await;
        assert!(!bob.connection().is_open());
    });
}

#[test]
fn json_goes_to_one_and_to_all() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        let ada_there = ada.connection().clone();
        inside(&room, move |room| {
            Box::pin(async move {
                ada_there.send_json(&[1, 2]).unwrap();
                room.broadcast_json("to others").unwrap().except(&ada_there).send();
            })
        })
        .await;
        assert_eq!(
            (heard(&ada), heard(&bob)),
            (vec!["[1,2]".into()], vec!["\"to others\"".into()])
        );
    });
}

#[derive(Debug, Deserialize, PartialEq)]
struct Wanted {
    name: String,
    #[serde(default)]
    page: u32,
    #[serde(default)]
    tag: Vec<String>,
}

#[test]
fn a_query_has_types() {
    test(async |stage| {
        let room = stage.room();
        let query = "_pk=ada&name=J%C3%BCrgen+B&page=7&tag=a&tag=b";
        let ada = room.connect_with("ada", wish(query)).await;
        let wanted =
            Wanted { name: "Jürgen B".into(), page: 7, tag: vec!["a".into(), "b".into()] };
        assert_eq!(ada.connection().query_as::<Wanted>().unwrap(), wanted);
        assert_eq!(ada.connection().query("name").as_deref(), Some("Jürgen B"));
        assert_eq!(ada.connection().query("other"), None);
        let of = |query: &str| {
            let uri = format!("/parties/main/a{query}");
            let request: Request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            request
                .query_as::<Wanted>()
                .map_err(|reject| (reject.status(), reject.text().to_owned()))
        };
        assert_eq!(of("?name=x").unwrap().page, 0);
        for wrong in ["", "?page=1", "?name=x&page=seven", "?name=x&name=y"] {
            let (status, text) = of(wrong).unwrap_err();
            assert_eq!(status, 400);
            assert!(text.starts_with("the query does not fit: "), "{text}");
        }
    });
}

#[test]
fn an_alarm_is_set_in_a_duration() {
    test(async |stage| {
        let room = stage.room();
        room.advance(Duration::from_secs(100)).await;
        inside(&room, |room| {
            Box::pin(async { room.storage().set_alarm_in(Duration::from_secs(5)).unwrap() })
        })
        .await;
        let at = room.alarm().await.unwrap();
        assert_eq!(at - Duration::from_secs(105), Timestamp::from_millis(1_704_067_200_000));
        assert_eq!(Timestamp::from_millis(1) - Duration::from_secs(1), Timestamp::from_millis(0));
    });
}

#[test]
fn a_close_may_have_no_code() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.connection().close_without_code();
        room.settle().await;
        assert_eq!(u16::from(ada.closed().unwrap().code()), 1005);
    });
}
