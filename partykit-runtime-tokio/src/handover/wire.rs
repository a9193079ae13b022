use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// The most descriptors of one message. Linux allows 253.
pub(super) const DESCRIPTORS: usize = 250;

/// The most bytes of one message. A socket can have 64 MiB that wait for its client, and 32 MiB that wait for
/// its room.
const LONGEST: usize = 256 << 20;

/// How long to wait before descriptors are sent again. The system allows as many on their way as a process
/// may have open.
const PAUSE: Duration = Duration::from_millis(1);

/// The length of a message, and the number of its descriptors.
const HEADER: usize = 6;

/// Messages with descriptors over a Unix socket. It blocks.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    arrived: VecDeque<OwnedFd>,
}

/// Closes a wire on which another thread waits.
pub(super) struct HangUp(UnixStream);

impl HangUp {
    /// That thread sees the end of the wire, and so does the other process.
    pub(super) fn now(self) {
        // It fails if the other process has gone, and then the end is seen too.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self { stream, arrived: VecDeque::new() })
    }

    /// How long one step of a message may take.
    pub(super) fn patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))
    }

    /// What closes it from another thread.
    pub(super) fn hang_up(&self) -> io::Result<HangUp> {
        self.stream.try_clone().map(HangUp)
    }

    pub(super) fn send(&mut self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let count = u16::try_from(descriptors.len()).map_err(io::Error::other)?;
        let header = [&length.to_le_bytes()[..], &count.to_le_bytes()].concat();
        let sent = self.send_header(&header, descriptors)?;
        self.stream.write_all(&header[sent..])?;
        self.stream.write_all(body)
    }

    /// The descriptors go with the first byte.
    fn send_header(&self, header: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let begin = Instant::now();
        let patience = self.stream.write_timeout()?.unwrap_or(Duration::MAX);
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty()
                && !control.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::Error::other("too many descriptors for one message"));
            }
            match sendmsg(&self.stream, &[IoSlice::new(header)], &mut control, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(Errno::TOOMANYREFS) if begin.elapsed() < patience => thread::sleep(PAUSE),
                sent => return Ok(sent?),
            }
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the other process has closed the socket, as it does when it dies.
    pub(super) fn receive(&mut self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut header = [0; HEADER];
        self.fill(&mut header)?;
        let [a, b, c, d, e, f] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let count = usize::from(u16::from_le_bytes([e, f]));
        if length > LONGEST {
            return Err(io::Error::other(format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        if self.arrived.len() < count {
            let what = "descriptors are missing: is the limit of open files lower here?";
            return Err(io::Error::other(what));
        }
        Ok((body, self.arrived.drain(..count).collect()))
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(buffer)];
            let received = match recvmsg(&self.stream, &mut slices, &mut control, FLAGS) {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    for descriptor in descriptors {
                        keep_from_children(&descriptor)?;
                        self.arrived.push_back(descriptor);
                    }
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) {
                let what = "descriptors were lost: is the limit of open files lower here?";
                return Err(io::Error::other(what));
            }
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[received.bytes..];
        }
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FLAGS: RecvFlags = RecvFlags::empty();

/// Where the flag does not do it.
fn keep_from_children(descriptor: &OwnedFd) -> io::Result<()> {
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    let _ = descriptor;
    Ok(())
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, io::Seek};

    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().unwrap();
        let wires = (Wire::new(one).unwrap(), Wire::new(other).unwrap());
        wires.0.patience(Duration::from_secs(20)).unwrap();
        wires.1.patience(Duration::from_secs(20)).unwrap();
        wires
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn messages_keep_their_order_and_their_descriptors() {
        let (mut here, mut there) = pair();
        let files: Vec<_> = (0..600).map(|n| file(&n.to_string())).collect();
        let sending = thread::spawn(move || {
            here.send(b"first", &[]).unwrap();
            for (n, some) in files.chunks(DESCRIPTORS).enumerate() {
                let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
                here.send(&vec![n as u8; n * 300_000], &some).unwrap();
            }
        });
        assert_eq!(there.receive().unwrap().0, b"first");
        let mut next = 0;
        for n in 0..3 {
            let (body, descriptors) = there.receive().unwrap();
            assert_eq!(body, vec![n as u8; n * 300_000]);
            for descriptor in descriptors {
                let mut text = String::new();
                File::from(descriptor).read_to_string(&mut text).unwrap();
                assert_eq!(text, next.to_string());
                next += 1;
            }
        }
        assert_eq!(next, 600);
        sending.join().unwrap();
        let ended = there.receive().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_without_end_is_refused() {
        let (here, mut there) = pair();
        (&here.stream).write_all(&[0xFF; HEADER]).unwrap();
        assert!(there.receive().unwrap_err().to_string().contains("a message of"));
    }
}
