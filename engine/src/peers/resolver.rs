//! Addresses of hosts. The system's lookup blocks, for seconds when a name server is away, so it
//! happens on a thread of its own that starts with the first name.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Lookups that wait. There is one for each connection in the making at most.
const MAX_WAITING: usize = 256;

struct Lookup {
    host: String,
    port: u16,
    reply: flume::Sender<Result<SocketAddr, String>>,
}

/// Looks names up. The thread ends when it is dropped.
#[derive(Default)]
pub(super) struct Resolver {
    lookups: OnceCell<flume::Sender<Lookup>>,
}

impl Resolver {
    /// The address of `host`, which may be an address itself.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let (reply, answer) = flume::bounded(1);
        let host = host.to_owned();
        let asked = self.thread()?.try_send(Lookup { host, port, reply });
        asked.map_err(|_| "too many names are looked up".to_owned())?;
        let ended = |_| "the thread that looks names up has ended".to_owned();
        answer.recv_async().await.map_err(ended)?
    }

    fn thread(&self) -> Result<&flume::Sender<Lookup>, String> {
        if let Some(lookups) = self.lookups.get() {
            return Ok(lookups);
        }
        let (sender, lookups) = flume::bounded(MAX_WAITING);
        std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || look_up(&lookups))
            .map_err(|error| format!("no thread to look it up: {error}"))?;
        Ok(self.lookups.get_or_init(|| sender))
    }
}

fn look_up(lookups: &flume::Receiver<Lookup>) {
    while let Ok(Lookup { host, port, reply }) = lookups.recv() {
        // Who asked has given up meanwhile.
        if reply.is_disconnected() {
            continue;
        }
        let found = (host.as_str(), port).to_socket_addrs();
        let found = found
            .map_err(|error| error.to_string())
            .and_then(|mut all| {
                all.next()
                    .ok_or_else(|| "the name has no address".to_owned())
            });
        let _ = reply.send(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn names_and_addresses_are_resolved() {
        let resolver = Resolver::default();
        let found = block_on(resolver.resolve("::1", 7));
        assert_eq!(found, Ok("[::1]:7".parse().expect("an address")));
        assert!(
            resolver.lookups.get().is_none(),
            "an address needs no thread"
        );
        let found = block_on(resolver.resolve("localhost", 7)).expect("every system has it");
        assert!(found.ip().is_loopback() && found.port() == 7, "{found}");
        assert!(block_on(resolver.resolve("no such host", 7)).is_err());
    }
}
