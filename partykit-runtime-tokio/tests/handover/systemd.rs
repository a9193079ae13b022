//! What systemd is told, and by which process.

use std::{io::IoSliceMut, mem::MaybeUninit, os::unix::net::UnixDatagram};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};

use crate::house::{NEVER, Site, process_of};

/// Where `NOTIFY_SOCKET` leads to.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(NEVER)).unwrap();
        sockopt::set_socket_passcred(&socket, true).unwrap();
        Self { socket, directory }
    }

    fn start(&self, mode: &str) -> Site {
        let path = self.directory.path().join("notify");
        Site::start_as(mode, |mut command| {
            command.env("NOTIFY_SOCKET", path);
            command
        })
    }

    /// The next message, and the process that the kernel says it is from.
    fn hear(&self) -> (u32, Vec<String>) {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&self.socket, slices, &mut control, RecvFlags::empty()).unwrap().bytes;
        let from = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(from) => Some(from.pid),
            _ => None,
        });
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let pid = from.unwrap().as_raw_nonzero().get();
        (u32::try_from(pid).unwrap(), text.lines().map(str::to_owned).collect())
    }
}

#[test]
fn systemd_hears_of_a_hand_over_from_the_process_that_it_knows() {
    let manager = Manager::new();
    let mut site = manager.start("");
    let mut main = site.process;
    assert_eq!(manager.hear(), (main, vec!["READY=1".to_owned()]));
    for _ in 0..2 {
        site.replace();
        let (from, lines) = manager.hear();
        assert_eq!((from, &*lines[0]), (main, "RELOADING=1"));
        let now = lines[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(now.parse::<u64>().unwrap() > 0);
        // The old process is the last that systemd listens to before it knows the next one, which may speak first.
        let mut both = [manager.hear(), manager.hear()];
        both.sort_by_key(|(from, _)| *from != main);
        let [(from, lines), next] = both;
        assert_eq!(from, main);
        assert_eq!(lines, [format!("MAINPID={}", site.process), "READY=1".to_owned()]);
        assert_eq!(next, (site.process, vec!["READY=1".to_owned()]));
        main = site.process;
    }
    site.tell("-TERM");
    assert_eq!(manager.hear(), (main, vec!["STOPPING=1".to_owned()]));
}

#[test]
fn systemd_hears_that_a_reload_was_given_up() {
    let manager = Manager::new();
    let mut site = manager.start("dies");
    let main = site.process;
    assert_eq!(manager.hear().1, ["READY=1"]);
    site.tell("-USR2");
    let line = site.wait_for("a hand-over to the next process begins");
    assert_ne!(process_of(&line), main);
    let (from, lines) = manager.hear();
    assert_eq!((from, &*lines[0]), (main, "RELOADING=1"));
    assert_eq!(manager.hear(), (main, vec!["READY=1".to_owned()]));
}
