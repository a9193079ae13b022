//! A client that asks a room over HTTP, again and again on one connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bench_party::ANSWERED;
use partykit::Result;

pub(super) struct Asker {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Asker {
    pub(super) fn connect(address: SocketAddr, room: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // As many headers as a small client sends.
        let request = format!(
            "GET /parties/main/{room}?q=1 HTTP/1.1\r\n\
             Host: 127.0.0.1\r\n\
             User-Agent: bench\r\n\
             Accept: */*\r\n\
             Accept-Language: en\r\n\
             Accept-Encoding: identity\r\n\r\n"
        );
        Ok(Self { stream: BufReader::new(stream), request })
    }

    /// Asks once, and sees to it that the room has answered.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let status = self.line()?;
        if status != "HTTP/1.1 200 OK" {
            return Err(format!("the room has answered {status:?}").into());
        }
        let mut length = None;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                None if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length.ok_or("an answer without a length")?];
        self.stream.read_exact(&mut body)?;
        match body == ANSWERED.as_bytes() {
            true => Ok(()),
            false => Err(format!("the room has said {:?}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
