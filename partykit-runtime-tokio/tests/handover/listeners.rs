//! Listeners other than the server's own TCP port.

use std::{
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use crate::house::Site;

#[test]
fn a_unix_socket_is_handed_over_with_its_connections() {
    let mut site = Site::start("unix");
    let (mut ada, mut eve) = (site.connect_by_path("a", "ada"), site.connect_by_path("a", "eve"));
    ada.say("who");
    assert_eq!(ada.text(), r#"ada Some("ada") of 2, Some(First)"#);
    let mut stay = Vec::new();
    for count in 3..5 {
        // Half a message is on its way.
        let frame = crate::house::frame("half");
        std::io::Write::write_all(&mut eve.0, &frame[..7]).unwrap();
        site.replace();
        ada.say("who");
        assert!(ada.text().starts_with(r#"ada Some("ada") of "#));
        std::io::Write::write_all(&mut eve.0, &frame[7..]).unwrap();
        assert_eq!(eve.text(), "half");
        let mut late = site.connect_by_path("a", &format!("late{count}"));
        late.say("who");
        assert!(late.text().contains(&format!("of {count}, Some(Wake)")));
        stay.push(late);
    }
}

/// A client would wait for ever at one that nobody serves.
#[test]
fn a_listener_that_the_next_process_does_not_serve_is_closed() {
    let mut site = Site::start("moves");
    site.replace();
    assert_eq!(site.first_ended(), Some(0));
    assert!(TcpStream::connect(site.addr).is_err());
}

#[test]
fn the_file_of_a_process_that_is_gone_is_replaced_and_that_of_another_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("party.sock");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = tokio.enter();
    drop(partykit_runtime_tokio::bind_unix(&path).unwrap());
    let listener = partykit_runtime_tokio::bind_unix(&path).unwrap();
    let error = partykit_runtime_tokio::bind_unix(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {}", path.display())), "{error}");
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file of somebody").unwrap();
    assert!(partykit_runtime_tokio::bind_unix(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of somebody");
}

/// As systemd starts a process for a socket: descriptor 3, and two variables.
fn activated(command: &Command, listener: OwnedFd) -> Command {
    const SCRIPT: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.stdin(Stdio::from(listener));
    shell
}

#[test]
fn the_socket_of_systemd_is_served_and_handed_over() {
    // The unit says all addresses, and the program `localhost`: the port decides.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A client that came before the server.
    let early = std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
    let mut site = Site::start_as("activated", |command| activated(&command, listener.into()));
    assert_eq!(site.addr, address);
    drop(early);
    site.addr = ([127, 0, 0, 1], address.port()).into();
    let mut ada = site.connect("a", "ada");
    for _ in 0..2 {
        site.replace();
        ada.say("here");
        assert_eq!(ada.text(), "here");
        let mut late = site.connect("a", "late");
        late.say("here too");
        assert_eq!(late.text(), "here too");
    }
}

#[test]
fn a_socket_of_systemd_that_does_not_fit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let site = Site::start_as("", |command| activated(&command, listener.into()));
    let warning = site.log.iter().find(|line| line.contains("systemd gave a socket at"));
    assert!(warning.unwrap().contains(path.to_str().unwrap()), "{:?}", site.log);
}
