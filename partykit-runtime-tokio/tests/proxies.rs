//! The guide's page about reverse proxies, in the real nginx, HAProxy and Caddy: its blocks are the input.
//! `cargo xtask proxies` installs them where they are missing.
#![cfg(unix)]

use std::{
    fs,
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use partykit_core::{Connection, Request, Response, Result, Room, Server};
use partykit_runtime_tokio::{Builder, ClientAddress, Runtime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

const PAGE: &str = include_str!("../../docs/src/proxies.md");

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

/// What a client makes up.
const FORGED: &str = "x-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: http\r\n\
    x-forwarded-host: evil.example\r\nforwarded: for=203.0.113.7;host=evil.example\r\n";

/// Tells how a request has arrived.
#[derive(Default)]
struct Mirror;

impl Server for Mirror {
    async fn on_connect(&mut self, _: &Room, connection: &Connection, request: &Request) -> Result {
        connection.send(seen(request));
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        Ok(Response::new(seen(&request).into()))
    }
}

fn seen(request: &Request) -> String {
    let client = request.extensions().get::<ClientAddress>();
    let client = client.map_or_else(|| "nobody".into(), |client| client.0.to_string());
    format!("seen {} {}", request.uri(), client)
}

/// The block of this language under this heading.
fn block(heading: &str, language: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("{heading}\n")).expect("the heading is there");
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect("a block follows");
    rest.split_once("```").unwrap().0
}

/// A proxy, in front of a runtime.
struct Site {
    proxy: Child,
    addr: SocketAddr,
    runtime: SocketAddr,
    tls: Option<TlsConnector>,
    _directory: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Site {
    async fn start(program: &str, config: &str, builder: Builder) -> Self {
        let listener = partykit_runtime_tokio::bind("127.0.0.1:0").await.unwrap();
        let runtime = listener.local_addr().unwrap();
        let served = builder.party::<Mirror>("main").in_memory().build().unwrap();
        tokio::spawn(async move { served.serve_on(listener).await });

        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let key = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
        let (chain, secret) = (key.cert.pem(), key.signing_key.serialize_pem());
        fs::write(at("chain.pem"), &chain).unwrap();
        fs::write(at("key.pem"), &secret).unwrap();
        fs::write(at("both.pem"), chain + &secret).unwrap();
        let port = free_port();
        let public = if config.contains("8443") { "8443" } else { "8080" };
        let config = config
            .replace("127.0.0.1:1999", &runtime.to_string())
            .replace("chain.pem", &at("chain.pem").display().to_string())
            .replace("key.pem", &at("key.pem").display().to_string())
            .replace("both.pem", &at("both.pem").display().to_string());
        let proxy = run(program, &config, public, port, directory.path());
        let tls = config.contains("8443").then(|| {
            let mut roots = RootCertStore::empty();
            roots.add(key.cert.der().clone()).unwrap();
            let config =
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            TlsConnector::from(Arc::new(config))
        });
        let addr = ([127, 0, 0, 1], port).into();
        let site = Self { proxy, addr, runtime, tls, _directory: directory };
        let listens = async {
            while TcpStream::connect(addr).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(NEVER, listens).await.unwrap_or_else(|_| panic!("{program} does not listen"));
        site
    }

    /// What browsers have in their address line.
    fn host(&self) -> String {
        format!("app.example:{}", if self.tls.is_some() { 8443 } else { 8080 })
    }

    fn origin(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.host())
    }

    /// A connection of a client that is not where the proxy is.
    async fn stream(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        socket.connect(self.addr).await.unwrap()
    }

    /// What comes back for this request through the proxy, up to what the room has seen, or to its end.
    async fn ask(&self, is_upgrade: bool, headers: &str) -> String {
        let stream = self.stream().await;
        match &self.tls {
            None => exchange(stream, &self.host(), is_upgrade, headers).await,
            Some(tls) => {
                let name = ServerName::try_from("app.example").unwrap();
                let stream = tls.connect(name, stream).await.unwrap();
                exchange(stream, &self.host(), is_upgrade, headers).await
            }
        }
    }

    /// A page of this origin connects: what the room has seen, or the status.
    async fn connect(&self, origin: &str, headers: &str) -> String {
        let answer = self.ask(true, &format!("origin: {origin}\r\n{headers}")).await;
        let told = answer.split_once("seen ").map(|(_, seen)| seen.trim().to_owned());
        told.unwrap_or_else(|| answer.get(9..12).unwrap_or("none").to_owned())
    }

    /// A plain request: what the room has seen.
    async fn get(&self, headers: &str) -> String {
        let answer = self.ask(false, headers).await;
        answer.split_once("seen ").unwrap_or_else(|| panic!("{answer}")).1.trim().to_owned()
    }

    /// Pages of our own get in and others do not; what rooms see is this address and this client.
    async fn lets_its_pages_in(&self, base: &str, client: &str) {
        let seen = format!("{base}/parties/main/a {client}");
        assert_eq!(self.connect(&self.origin(), "").await, seen);
        assert_eq!(self.connect("http://evil.example", "").await, "403");
        assert_eq!(self.connect("null", "").await, "403");
        assert_eq!(self.get("").await, seen);
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    is_upgrade: bool,
    headers: &str,
) -> String {
    let how = match is_upgrade {
        true => {
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
        false => "connection: close\r\n",
    };
    let request = format!("GET /parties/main/a HTTP/1.1\r\nhost: {host}\r\n{how}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let reading = async {
        let mut some = [0; 4096];
        loop {
            match stream.read(&mut some).await {
                Ok(0) | Err(_) => break,
                Ok(length) => all.extend(&some[..length]),
            }
            // The room's words come in one frame, behind the head of the answer.
            let text = String::from_utf8_lossy(&all);
            let refused = !text.starts_with("HTTP/1.1 101") && text.contains("\r\n\r\n");
            if text.contains("seen ") || (is_upgrade && refused) {
                break;
            }
        }
    };
    timeout(NEVER, reading).await.expect("no answer");
    String::from_utf8_lossy(&all).into_owned()
}

/// Runs a proxy in the foreground with a block of the page.
fn run(program: &str, config: &str, public: &str, port: u16, directory: &Path) -> Child {
    let at = |name: &str| directory.join(name).display().to_string();
    let here = format!("127.0.0.1:{port}");
    let (text, arguments) = match program {
        "nginx" => {
            let server = config.replace(&format!("listen {public}"), &format!("listen {here}"));
            let text = format!(
                "daemon off;\nmaster_process off;\npid {};\nerror_log {} warn;\nevents {{}}\nhttp {{\n\
                 access_log off;\nclient_body_temp_path {};\nproxy_temp_path {};\n\
                 fastcgi_temp_path {};\nuwsgi_temp_path {};\nscgi_temp_path {};\n{server}\n}}\n",
                at("pid"),
                at("error.log"),
                at("t1"),
                at("t2"),
                at("t3"),
                at("t4"),
                at("t5"),
            );
            (
                text,
                vec!["-c".to_owned(), at("config"), "-p".into(), directory.display().to_string()],
            )
        }
        "haproxy" => {
            let text = config.replace(&format!("bind :{public}"), &format!("bind {here}"));
            (text, vec!["-db".to_owned(), "-f".into(), at("config")])
        }
        "caddy" => {
            let site = format!("http://app.example:{public}");
            let server = config.replace(&site, &format!("http://:{port}"));
            let text = format!("{{\nadmin off\n}}\n{server}");
            let adapter = ["--adapter".to_owned(), "caddyfile".into()];
            let start = ["run".to_owned(), "--config".into(), at("config")];
            (text, start.into_iter().chain(adapter).collect())
        }
        _ => unreachable!("{program}"),
    };
    fs::write(at("config"), text).unwrap();
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("HOME", directory)
        .env("XDG_DATA_HOME", directory)
        .env("XDG_CONFIG_HOME", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}: run `cargo xtask proxies`"))
}

#[tokio::test]
#[ignore = "needs nginx: cargo xtask proxies"]
async fn nginx_with_the_host_as_the_browser_has_it() {
    let config = block("### The host as the browser has it", "nginx");
    let site = Site::start("nginx", config, Runtime::builder()).await;
    site.lets_its_pages_in("http://app.example:8080", "127.0.0.1").await;
    // nginx passes these on, and nobody is trusted.
    let seen = "http://app.example:8080/parties/main/a 127.0.0.1";
    assert_eq!(site.get(FORGED).await, seen);
    assert_eq!(site.connect("http://evil.example", FORGED).await, "403");
}

#[tokio::test]
#[ignore = "needs nginx: cargo xtask proxies"]
async fn nginx_with_the_usual_block() {
    let config = block("### The usual block", "nginx");
    let site = Site::start("nginx", config, Runtime::builder().hosts(["app.example:8080"])).await;
    site.lets_its_pages_in(&format!("http://{}", site.runtime), "127.0.0.1").await;
    // The setting is what lets them in.
    let site = Site::start("nginx", config, Runtime::builder()).await;
    assert_eq!(site.connect(&site.origin(), "").await, "403");
}

#[tokio::test]
#[ignore = "needs nginx: cargo xtask proxies"]
async fn nginx_with_the_host_without_its_port() {
    let config = block("### The host without its port", "nginx");
    let site = Site::start("nginx", config, Runtime::builder().hosts(["app.example:8080"])).await;
    site.lets_its_pages_in("http://app.example", "127.0.0.1").await;
    let site = Site::start("nginx", config, Runtime::builder()).await;
    assert_eq!(site.connect(&site.origin(), "").await, "403");
}

#[tokio::test]
#[ignore = "needs nginx: cargo xtask proxies"]
async fn nginx_with_tls() {
    let config = block("### TLS, and where clients are", "nginx");
    believes(Site::start("nginx", config, trusting()).await).await;
}

#[tokio::test]
#[ignore = "needs haproxy: cargo xtask proxies"]
async fn haproxy_without_tls() {
    let config = block("## HAProxy", "haproxy");
    let site = Site::start("haproxy", config, Runtime::builder()).await;
    site.lets_its_pages_in("http://app.example:8080", "127.0.0.1").await;
}

#[tokio::test]
#[ignore = "needs haproxy: cargo xtask proxies"]
async fn haproxy_with_tls() {
    let config = block("### HAProxy with TLS", "haproxy");
    believes(Site::start("haproxy", config, trusting()).await).await;
}

#[tokio::test]
#[ignore = "needs caddy: cargo xtask proxies"]
async fn caddy_without_tls() {
    let config = block("## Caddy", "caddy");
    let site = Site::start("caddy", config, trusting()).await;
    site.lets_its_pages_in("http://app.example:8080", "127.0.0.2").await;
    assert_eq!(site.get(FORGED).await, "http://app.example:8080/parties/main/a 127.0.0.2");
}

fn trusting() -> Builder {
    Runtime::builder().trusted_proxies(["127.0.0.1"])
}

/// A proxy with TLS that is trusted, and what its clients may make up.
async fn believes(site: Site) {
    site.lets_its_pages_in("https://app.example:8443", "127.0.0.2").await;
    let plain = format!("http://{}", site.host());
    assert_eq!(site.connect(&plain, "").await, "403", "its page came without TLS");
    let seen = "https://app.example:8443/parties/main/a 127.0.0.2";
    assert_eq!(site.get(FORGED).await, seen);
    assert_eq!(site.connect(&site.origin(), FORGED).await, seen);
    assert_eq!(site.connect("https://evil.example", FORGED).await, "403");
}
