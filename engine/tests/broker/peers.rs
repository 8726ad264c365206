//! A broker of a cluster, and callers that are none of its peers, or lie.

use bytes::BytesMut;
use millrace_client::ErrorCode;
use millrace_engine::config::{Config, OptionalPath, Voter, Voters};
use millrace_model::{BrokerEpoch, BrokerId, ClusterId, ShardId};
use millrace_net::{PeerFiles, PeerIdentity};
use millrace_wire::{
    MAX_MESSAGE_LEN, Message, PeerName, QuorumOpen, ReplicaOpen, Request, Response, StreamKind,
    encode, put_quorum_message, reset_code,
};

use crate::certificates::{Authority, Files};
use crate::raw::Raw;
use crate::rig::Rig;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const OTHER_CLUSTER: ClusterId = ClusterId([0xc2; 16]);
const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);
const THREE: BrokerId = BrokerId(3);

fn name(broker: BrokerId, cluster: ClusterId) -> PeerName {
    PeerName { broker, cluster }
}

/// Makes a configuration that of broker 1, the only voter of its cluster.
fn make_member(config: &mut Config, files: &Files) {
    config.node_id = ONE.0;
    config.cluster_id = Some(CLUSTER);
    config.controller_quorum_voters = Voters(vec![Voter {
        broker: ONE,
        host: "127.0.0.1".into(),
        port: 1,
    }]);
    config.tls_certificate = OptionalPath(Some(files.certificate.clone()));
    config.tls_key = OptionalPath(Some(files.key.clone()));
    config.tls_ca = OptionalPath(Some(files.authority.clone()));
}

fn member(authority: &Authority) -> Rig {
    let files = authority.broker(name(ONE, CLUSTER));
    Rig::start_with(|config| make_member(config, &files))
}

async fn peer(rig: &Rig, authority: &Authority, who: PeerName) -> Raw {
    let files = authority.broker(who);
    let files = PeerFiles {
        certificate: &files.certificate,
        key: &files.key,
        authority: &files.authority,
    };
    let identity = PeerIdentity::from_files(files, who).unwrap();
    Raw::connect_as_peer(rig.addr(), &identity, name(ONE, CLUSTER)).await
}

fn quorum_open(broker: BrokerId, cluster: ClusterId) -> QuorumOpen {
    QuorumOpen { cluster, broker }
}

fn replica_open(broker: BrokerId, cluster: ClusterId) -> ReplicaOpen {
    ReplicaOpen {
        cluster,
        broker,
        life: BrokerEpoch(1),
        shard: ShardId(0),
        partitions: Vec::new(),
    }
}

async fn refusal<M: Message>(raw: &Raw, kind: StreamKind, open: &M) -> ErrorCode {
    raw.open(kind, open).await.refusal().await
}

async fn request(raw: &Raw, request: &Request) -> ErrorCode {
    match raw.request(request).await {
        Response::Error(error) => ErrorCode::from_i16(error.code),
        _ => ErrorCode::None,
    }
}

/// Whoever has not proved to be a broker of the cluster gets nothing that is for brokers.
async fn assert_is_no_peer(raw: &Raw, broker: BrokerId, cluster: ClusterId) {
    const REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;
    let open = quorum_open(broker, cluster);
    assert_eq!(refusal(raw, StreamKind::Quorum, &open).await, REFUSED);
    let open = replica_open(broker, cluster);
    assert_eq!(refusal(raw, StreamKind::Replicate, &open).await, REFUSED);
    assert_eq!(request(raw, &Request::Peer(vec![1])).await, REFUSED);
    assert_eq!(
        request(raw, &Request::Metrics).await,
        ErrorCode::None,
        "a client it is"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_alone_has_no_peers() {
    let rig = Rig::start();
    let raw = Raw::connect(rig.addr(), 0, 2).await;
    assert_is_no_peer(&raw, TWO, CLUSTER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_proved_to_be_a_broker_of_the_cluster_is_none() {
    let authority = Authority::new("ours");
    let rig = member(&authority);
    let without = Raw::connect(rig.addr(), 0, 2).await;
    assert_is_no_peer(&without, TWO, CLUSTER).await;
    let other_cluster = peer(&rig, &authority, name(TWO, OTHER_CLUSTER)).await;
    assert_is_no_peer(&other_cluster, TWO, CLUSTER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_about_itself_is_refused() {
    let authority = Authority::new("ours");
    let rig = member(&authority);
    let two = peer(&rig, &authority, name(TWO, CLUSTER)).await;
    let stolen = quorum_open(THREE, CLUSTER);
    let code = refusal(&two, StreamKind::Quorum, &stolen).await;
    assert_eq!(code, ErrorCode::ClusterAuthorizationFailed);
    let elsewhere = quorum_open(TWO, OTHER_CLUSTER);
    let code = refusal(&two, StreamKind::Quorum, &elsewhere).await;
    assert_eq!(code, ErrorCode::InconsistentClusterId);
    let stolen = replica_open(THREE, CLUSTER);
    let code = refusal(&two, StreamKind::Replicate, &stolen).await;
    assert_eq!(code, ErrorCode::ClusterAuthorizationFailed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_talks_nonsense_harms_nobody() {
    let authority = Authority::new("ours");
    let rig = member(&authority);
    let two = peer(&rig, &authority, name(TWO, CLUSTER)).await;
    // Messages that are none, and then one that is announced too long.
    let open = encode(StreamKind::Quorum, &quorum_open(TWO, CLUSTER)).unwrap();
    let mut bytes = BytesMut::from(&open[..]);
    for nonsense in [&b""[..], b"x", &[0xff; 300]] {
        put_quorum_message(&mut bytes, nonsense);
    }
    let too_long = u32::try_from(MAX_MESSAGE_LEN).unwrap() + 1;
    bytes.extend_from_slice(&too_long.to_le_bytes());
    let stream = two.open_with(&bytes).await;
    let stopped = stream.send.stopped().await.unwrap().unwrap();
    assert_eq!(
        stopped.into_inner(),
        u64::from(reset_code(ErrorCode::InvalidRequest))
    );
    for nonsense in [vec![], vec![1], vec![0xff; 300]] {
        assert_ne!(
            request(&two, &Request::Peer(nonsense)).await,
            ErrorCode::None
        );
    }
    assert_eq!(request(&two, &Request::Metrics).await, ErrorCode::None);
}
