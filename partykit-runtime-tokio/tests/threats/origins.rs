use partykit_runtime_tokio::Runtime;

use crate::{
    support::serve,
    witness::{Echo, Witness},
};

#[tokio::test]
async fn threat_05_cross_site_hijacking() {
    // As in a release build.
    let builder = Runtime::builder().party::<Echo>("echo").allow_localhost(false);
    let site = serve(builder.allow_origins(["https://app.com"])).await;
    let (host, port) = (site.addr.to_string(), site.addr.port());
    let mut witness = Witness::of(&site).await;
    let attack = async {
        for (origin, is_allowed) in [
            (format!("http://{host}"), true),
            (format!("https://{host}"), true),
            (format!("HTTP://{host}"), true),
            ("https://app.com".into(), true),
            ("https://APP.com:443".into(), true),
            ("http://app.com".into(), false),
            ("https://app.com:8443".into(), false),
            ("https://app.com.".into(), false),
            ("https://app.com.evil.com".into(), false),
            ("https://evil-app.com".into(), false),
            ("https://evil.com#app.com".into(), false),
            ("https://app.com@evil.com".into(), false),
            ("https://аpp.com".into(), false),
            ("https://xn--pp-6kc.com".into(), false),
            ("null".into(), false),
            (String::new(), false),
            ("http://127.0.0.1".into(), false),
            (format!("http://127.0.0.1:{}", port ^ 1), false),
            (format!("http://localhost:{port}"), false),
            (format!("http://{host}/"), false),
            (format!("ftp://{host}"), false),
            (host.clone(), false),
        ] {
            // Written by hand: no client lets a header have all of these values.
            let request = format!(
                "GET /parties/echo/a HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\n\
                 upgrade: websocket\r\nconnection: Upgrade, close\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x08\x00"
            );
            let answer = site.raw(request.as_bytes()).await;
            let status = if is_allowed { "HTTP/1.1 101" } else { "HTTP/1.1 403" };
            assert!(answer.starts_with(status), "{origin:?}: {answer}");
        }
    };
    witness.during(attack).await;
    witness.is_alone().await;
}
