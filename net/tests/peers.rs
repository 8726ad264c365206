//! Brokers of a cluster know each other by certificate, and nobody else is taken for one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_model::{BrokerId, ClusterId};
use millrace_net::tls::{PeerFault, TlsError};
use millrace_net::{
    ConnectionLimits, EndpointOptions, Forwarding, PeerIdentity, ServerIdentity, ShardEndpoint,
    SocketGroup, SocketOptions, TransportLimits, bind_group, proven_peer,
};
use millrace_wire::PeerName;
use quinn::{ClientConfig, ConnectionError};
use support::certificates::{Authority, Until};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const OTHER_CLUSTER: ClusterId = ClusterId([0xc2; 16]);

fn broker(number: u32) -> PeerName {
    PeerName {
        broker: BrokerId(number),
        cluster: CLUSTER,
    }
}

fn identity(authority: &Authority, name: PeerName) -> PeerIdentity {
    PeerIdentity::from_files(authority.broker(name).paths(), name).unwrap()
}

/// A broker that says of each connection whom it proves to be.
struct Called {
    addr: SocketAddr,
    callers: flume::Receiver<Option<PeerName>>,
    end: flume::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Called {
    fn start(identity: ServerIdentity) -> Self {
        let (say, callers) = flume::unbounded();
        let (end, ended) = flume::bounded(1);
        let group = bind_group(
            (Ipv4Addr::LOCALHOST, 0).into(),
            support::shards(1),
            &SocketOptions::default(),
        );
        let SocketGroup { addr, sockets, .. } = group.unwrap();
        let serve = move || async move {
            let endpoint = ShardEndpoint::start(EndpointOptions {
                socket: sockets.into_iter().next().unwrap(),
                forwarding: Forwarding::between(support::shards(1)).remove(0),
                identity,
                transport: TransportLimits::broker(),
                limits: ConnectionLimits::default(),
                queue: glommio::executor().current_task_queue(),
                spin: Duration::ZERO,
            });
            let endpoint = endpoint.unwrap();
            let accepting = endpoint.clone();
            let accept = glommio::spawn_local(async move {
                while let Some(connection) = accepting.accept().await {
                    say.send(proven_peer(&connection)).unwrap();
                    glommio::spawn_local(support::echo(connection)).detach();
                }
            });
            let _ = ended.recv_async().await;
            endpoint
                .shut_down("the test is over", Duration::from_secs(1))
                .await;
            accept.cancel().await;
        };
        let executor = support::executor("called").spawn(serve).unwrap();
        let thread = std::thread::spawn(move || executor.join().unwrap());
        Self {
            addr,
            callers,
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        let _ = self.end.send(());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Calls as this broker, demands that name, and says whom the other proved to be, or why it ended.
fn call(
    caller: &PeerIdentity,
    addr: SocketAddr,
    wanted: PeerName,
) -> Result<Option<PeerName>, ConnectionError> {
    let mut config = ClientConfig::new(caller.client());
    config.transport_config(Arc::new(TransportLimits::peer().to_quinn()));
    support::ClientExecutor::run(move || async move {
        let endpoint = millrace_net::client_endpoint((Ipv4Addr::LOCALHOST, 0).into(), config);
        let endpoint = endpoint.unwrap();
        let connection = endpoint.connect(addr, &wanted.to_string()).unwrap().await?;
        // A caller that is refused learns of it only when it says something.
        let (mut send, mut receive) = connection.open_bi().await?;
        let answered = async {
            send.write_all(b"hello").await.ok()?;
            send.finish().ok()?;
            receive.read_to_end(5).await.ok()
        };
        match answered.await {
            Some(echo) => {
                assert_eq!(echo, b"hello");
                let proved = proven_peer(&connection);
                connection.close(0_u32.into(), b"");
                endpoint.wait_idle().await;
                Ok(proved)
            }
            None => Err(connection.closed().await),
        }
    })
}

fn fault(outcome: Result<Option<PeerName>, ConnectionError>) -> PeerFault {
    let error = outcome.unwrap_err();
    PeerFault::of(&error).unwrap_or_else(|| panic!("not a fault of certificates: {error}"))
}

#[test]
fn two_brokers_prove_to_each_other_who_they_are() {
    let authority = Authority::new("ours");
    let called = Called::start(identity(&authority, broker(2)).server().clone());
    let proved = call(&identity(&authority, broker(1)), called.addr, broker(2)).unwrap();
    assert_eq!(proved, Some(broker(2)));
    assert_eq!(called.callers.recv().unwrap(), Some(broker(1)));
}

#[test]
fn a_client_without_a_certificate_is_served_and_is_no_broker() {
    let authority = Authority::new("ours");
    let files = authority.broker(broker(2));
    let server = PeerIdentity::from_files(files.paths(), broker(2)).unwrap();
    let called = Called::start(server.server().clone());
    let (addr, trust) = (called.addr, authority.file());
    support::ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let connection = endpoint.connect(addr, "localhost").unwrap().await.unwrap();
        assert_eq!(support::echo_once(&connection, b"hello").await, b"hello");
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
    });
    assert_eq!(called.callers.recv().unwrap(), None);
}

#[test]
fn another_authoritys_broker_is_refused_by_both() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let called = Called::start(identity(&ours, broker(2)).server().clone());
    // The caller does not believe the called one.
    let outcome = call(&identity(&theirs, broker(1)), called.addr, broker(2));
    assert_eq!(fault(outcome), PeerFault::UnknownAuthority);
    // The caller believes both, but is not believed.
    let mut files = theirs.broker(broker(1));
    let both = [ours.file(), theirs.file()].map(|file| std::fs::read_to_string(file).unwrap());
    files.authority = files.certificate.with_file_name("both.pem");
    std::fs::write(&files.authority, both.concat()).unwrap();
    let caller = PeerIdentity::from_files(files.paths(), broker(1)).unwrap();
    const UNKNOWN_CA: u8 = 48;
    let outcome = call(&caller, called.addr, broker(2));
    assert_eq!(fault(outcome), PeerFault::Refused(UNKNOWN_CA));
    assert!(called.callers.try_recv().is_err(), "nobody was let in");
}

#[test]
fn a_broker_that_signed_for_itself_is_no_peer() {
    let authority = Authority::new("ours");
    let alone = tempfile::tempdir().unwrap();
    let called = Called::start(ServerIdentity::in_data_dir(alone.path()).unwrap());
    let outcome = call(&identity(&authority, broker(1)), called.addr, broker(2));
    assert_eq!(fault(outcome), PeerFault::UnknownAuthority);
}

#[test]
fn who_answers_for_another_broker_or_cluster_is_refused() {
    let authority = Authority::new("ours");
    let called = Called::start(identity(&authority, broker(2)).server().clone());
    let caller = identity(&authority, broker(1));
    let other_cluster = PeerName {
        cluster: OTHER_CLUSTER,
        ..broker(2)
    };
    for wanted in [broker(3), other_cluster] {
        let outcome = call(&caller, called.addr, wanted);
        assert_eq!(fault(outcome), PeerFault::AnotherBroker, "{wanted}");
    }
}

#[test]
fn a_caller_of_another_cluster_is_known_as_such() {
    let authority = Authority::new("signs for two");
    let called = Called::start(identity(&authority, broker(2)).server().clone());
    let stranger = PeerName {
        cluster: OTHER_CLUSTER,
        ..broker(1)
    };
    call(&identity(&authority, stranger), called.addr, broker(2)).unwrap();
    assert_eq!(called.callers.recv().unwrap(), Some(stranger));
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new("ours");
    let old = authority.issue(&[broker(2)], Until::LongAgo);
    let server = ServerIdentity::from_files(&old.certificate, &old.key).unwrap();
    let called = Called::start(server);
    let outcome = call(&identity(&authority, broker(1)), called.addr, broker(2));
    assert_eq!(fault(outcome), PeerFault::Expired);
}

#[test]
fn a_broker_does_not_start_with_a_certificate_that_its_peers_would_refuse() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let refused = |files: &support::certificates::Files| {
        PeerIdentity::from_files(files.paths(), broker(1)).unwrap_err()
    };
    let mut foreign = theirs.broker(broker(1));
    foreign.authority = ours.file();
    let error = refused(&foreign).to_string();
    assert!(
        error.contains("UnknownIssuer") && error.contains("millctl certs"),
        "{error}"
    );

    let error = refused(&ours.issue(&[broker(1)], Until::LongAgo)).to_string();
    assert!(error.contains("expired"), "{error}");

    let error = refused(&ours.broker(broker(2)));
    assert!(matches!(&error, TlsError::Another { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("broker-1.") && error.contains("broker-2."),
        "{error}"
    );

    let error = refused(&ours.issue(&[broker(1), broker(2)], Until::Later));
    assert!(
        matches!(&error, TlsError::Another { .. }),
        "two names are nobody's: {error}"
    );
    let error = refused(&ours.issue(&[], Until::Later)).to_string();
    assert!(error.contains("of no broker"), "{error}");

    let mut without = ours.broker(broker(1));
    std::fs::write(without.certificate.with_file_name("empty.pem"), "").unwrap();
    without.authority = without.certificate.with_file_name("empty.pem");
    let error = refused(&without).to_string();
    assert!(error.contains("empty.pem: no certificate"), "{error}");
}
