//! Notices the moment in which a broker's process ends.
//!
//! A connection to its listener for Kafka clients is kept, over which nothing is ever said. The system
//! ends it with the process, and says so; QUIC cannot, for its connections end with those who would
//! have to say it. That alone proves nothing, so it is knocked at the broker's port then ([`super::knock`]). Where the
//! listener is not reached, knocking now and then is all there is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::AsyncReadExt as _;
use futures_lite::future::or;
use glommio::net::TcpStream;
use glommio::timer::sleep;
use millrace_model::BrokerId;

use super::Peers;

/// How long one watch takes, when nothing happens.
const WATCH: Duration = Duration::from_secs(1);

/// How long a connection may take; a listener that does not answer is given up for this watch.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// The connections, one for each broker that is watched.
pub(super) struct Vigil {
    kept: RefCell<HashMap<BrokerId, TcpStream>>,
    doubt: Box<dyn Fn(BrokerId, bool)>,
}

impl Vigil {
    pub(super) fn new(doubt: impl Fn(BrokerId, bool) + 'static) -> Self {
        Self {
            kept: RefCell::default(),
            doubt: Box::new(doubt),
        }
    }

    /// Watches a broker for a while: whether its process has ended. One call at a time for each broker.
    pub(super) async fn is_gone(&self, peers: &Peers, broker: BrokerId) -> bool {
        let kept = self.kept.borrow_mut().remove(&broker);
        let kept = match kept {
            Some(stream) => Some(stream),
            None => connect(peers, broker).await,
        };
        if let Some(mut stream) = kept {
            if !ends(&mut stream).await {
                self.kept.borrow_mut().insert(broker, stream);
                return false;
            }
            (self.doubt)(broker, true);
        }
        let is_gone = peers.is_gone(broker).await;
        // Who is gone is doubted until the cluster knows it.
        if !is_gone {
            (self.doubt)(broker, false);
        }
        is_gone
    }
}

async fn connect(peers: &Peers, broker: BrokerId) -> Option<TcpStream> {
    let address: SocketAddr = peers.listener(broker).await?;
    TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
        .await
        .ok()
}

/// Whether the connection ends before the watch does.
async fn ends(stream: &mut TcpStream) -> bool {
    let ended = async {
        let mut nothing = [0; 1];
        // A byte is as little expected as an end: the listener is not what it should be.
        let _ = stream.read(&mut nothing).await;
        true
    };
    let over = async {
        sleep(WATCH).await;
        false
    };
    or(ended, over).await
}
