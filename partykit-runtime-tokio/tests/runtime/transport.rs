//! What the bytes of a test binary go over: each binary has a constant `TRANSPORT`.

use std::{io, net::SocketAddr};

use tokio::net::TcpStream;

use crate::support::Stream;

#[derive(Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "each binary has one")]
pub(crate) enum Transport {
    Tcp,
    #[cfg(unix)]
    Unix,
    #[cfg(feature = "tls")]
    Tls,
}

impl Transport {
    /// Whether clients have addresses.
    pub(crate) fn has_addresses(self) -> bool {
        match self {
            Self::Tcp => true,
            #[cfg(unix)]
            Self::Unix => false,
            #[cfg(feature = "tls")]
            Self::Tls => true,
        }
    }
}

/// Where clients come in.
pub(crate) enum Door {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(tempfile::TempDir),
    #[cfg(feature = "tls")]
    Tls(SocketAddr, tls::Connector),
}

impl Door {
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(addr) => *addr,
            #[cfg(unix)]
            Self::Unix(_) => ([127, 0, 0, 1], 1999).into(),
            #[cfg(feature = "tls")]
            Self::Tls(addr, _) => *addr,
        }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "http",
            #[cfg(unix)]
            Self::Unix(_) => "http",
            #[cfg(feature = "tls")]
            Self::Tls(..) => "https",
        }
    }

    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(addr) => Box::new(TcpStream::connect(addr).await?),
            #[cfg(unix)]
            Self::Unix(directory) => {
                let path = directory.path().join("socket");
                Box::new(tokio::net::UnixStream::connect(path).await?)
            }
            #[cfg(feature = "tls")]
            Self::Tls(addr, connector) => {
                Box::new(connector.connect(TcpStream::connect(addr).await?).await?)
            }
        })
    }
}

#[cfg(feature = "tls")]
pub(crate) use tls::pair as tls;

#[cfg(feature = "tls")]
mod tls {
    use std::{io, sync::Arc};

    use partykit_runtime_tokio::rustls::{
        ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer,
    };
    use tokio::net::TcpStream;
    use tokio_rustls::{TlsConnector, client::TlsStream};

    /// Trusts the server whose configuration was made with it, and no other.
    pub(crate) struct Connector(TlsConnector);

    impl Connector {
        pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            self.0.connect("localhost".try_into().unwrap(), stream).await
        }
    }

    /// Both ends of TLS, with a certificate that was made just now.
    pub(crate) fn pair() -> (ServerConfig, Connector) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        (server, Connector(TlsConnector::from(Arc::new(client))))
    }
}
