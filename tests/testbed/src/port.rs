//! Loopback ports that are reserved for this process.

use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::background::lock;

/// A loopback port without a listener, for a server that another process starts.
///
/// Taken from below the range that the kernel gives to outgoing connections, so that none of these takes it before
/// the server that it is meant for has started.
///
/// # Errors
/// When 200 random ports are in use.
pub fn free_port() -> Result<u16> {
    Ok(bound()?.1.port())
}

/// A loopback port that this process keeps, and on which it listens from time to time.
///
/// To close a listener does not end it while another thread starts a process: until it runs its program, the child
/// has a copy of the descriptor, and the port cannot be bound again. So this is one socket that stays bound; it stops
/// listening by `shutdown`, which holds for all copies.
#[derive(Debug)]
pub struct Port {
    socket: Socket,
    address: SocketAddr,
}

impl Port {
    /// Takes a port. Connections are refused.
    ///
    /// # Errors
    /// When 200 random ports are in use.
    pub fn new() -> Result<Self> {
        let (socket, address) = bound()?;
        Ok(Self { socket, address })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to listen. Connections are also taken after the listener was dropped, until [`Self::refuse`].
    ///
    /// # Errors
    /// Outside of a runtime.
    pub fn listen(&self) -> Result<TcpListener> {
        let listening = || {
            self.socket.set_nonblocking(true)?;
            self.socket.listen(1024)?;
            TcpListener::from_std(self.socket.try_clone()?.into())
        };
        listening().with_context(|| format!("cannot listen on {}", self.address))
    }

    /// Refuses connections. A listener that is still there fails.
    ///
    /// # Errors
    /// When the port does not listen.
    pub fn refuse(&self) -> Result<()> {
        let refused = self.socket.shutdown(Shutdown::Both);
        refused.with_context(|| format!("cannot stop listening on {}", self.address))
    }
}

/// A socket that is bound and does not listen.
fn bound() -> Result<(Socket, SocketAddr)> {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    for _ in 0..200 {
        let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes();
        // Below, `terraform login` listens on a port of its own choice.
        let port = 10_100 + u16::from_be_bytes([a, b]) % 19_900;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot make a socket")?;
        // Without it, a copy of the socket in a child that is just starting keeps the port from its server.
        socket.set_reuse_address(true).context("cannot share an address")?;
        let mut taken = lock(&TAKEN);
        if !taken.contains(&port) && socket.bind(&address.into()).is_ok() {
            taken.push(port);
            return Ok((socket, address));
        }
    }
    Err(anyhow!("no free port on 127.0.0.1 between 10100 and 30000"))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::fd::AsFd as _;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_port_refuses_and_accepts_in_turn_whoever_has_a_copy_of_its_listener() {
        let port = Port::new().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.address()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = port.listen().unwrap();
            // As a child that does not yet run its program.
            let _copy = listener.as_fd().try_clone_to_owned().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(port.address()), listener.accept());
            drop((client.unwrap(), accepted.unwrap()));
            drop(listener);
            port.refuse().unwrap();
        }
    }

    #[test]
    fn a_free_port_is_given_once_and_can_be_listened_on() {
        let ports = [(); 20].map(|()| free_port().unwrap());
        for (nth, port) in ports.iter().enumerate() {
            assert!(!ports[..nth].contains(port));
            std::net::TcpListener::bind(("127.0.0.1", *port)).unwrap();
        }
    }
}
