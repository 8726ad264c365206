//! Who is trusted, and what happens when nobody answers or nobody makes sense.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod fake;

use std::net::UdpSocket;
use std::time::Duration;

use fake::{FakeBroker, TOPIC};
use millrace_client::{
    Client, ClientError, ConnectOptions, ConsumerOptions, ErrorCode, ProducerOptions, Trust,
};
use millrace_wire::{Preface, Request, StreamKind};

fn trusting(broker: &FakeBroker, trust: Trust) -> ConnectOptions {
    ConnectOptions {
        trust,
        ..broker.options()
    }
}

#[tokio::test]
async fn a_certificate_is_remembered_and_another_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known_brokers");
    let trust = Trust::FirstUse(file.clone());
    let broker = FakeBroker::start(1);
    let address = broker.address;
    for _ in 0..2 {
        Client::connect(trusting(&broker, trust.clone()))
            .await
            .unwrap();
    }
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with(&format!("{address} sha256:")), "{lines}");

    let other = FakeBroker::start(1);
    std::fs::write(
        &file,
        lines.replace(&address.to_string(), &other.address.to_string()),
    )
    .unwrap();
    let error = Client::connect(trusting(&other, trust)).await.unwrap_err();
    let ClientError::CertificateChanged(change) = &error else {
        panic!("{error}")
    };
    assert_eq!((change.line, &change.file), (1, &file));
    assert_eq!(
        (change.pinned, change.found),
        (broker.fingerprint, other.fingerprint)
    );
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("has changed"), "{error}");
}

#[tokio::test]
async fn a_pem_file_and_a_fingerprint_pin_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broker.pem");
    let (broker, other) = (FakeBroker::start(1), FakeBroker::start(1));
    std::fs::write(&file, &broker.pem).unwrap();
    let trust = Trust::File(file.clone());
    Client::connect(trusting(&broker, trust.clone()))
        .await
        .unwrap();
    let error = Client::connect(trusting(&other, trust)).await.unwrap_err();
    assert!(
        matches!(error, ClientError::CertificateUntrusted { .. }),
        "{error}"
    );
    let trust = Trust::Fingerprint([0; 32]);
    let error = Client::connect(trusting(&broker, trust)).await.unwrap_err();
    assert!(
        matches!(error, ClientError::CertificateUntrusted { .. }),
        "{error}"
    );
    std::fs::write(&file, "not a certificate").unwrap();
    let error = Client::connect(trusting(&broker, Trust::File(file)))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::TrustFile { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_what_was_tried() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let options = ConnectOptions {
        connect_timeout: Duration::from_millis(100),
        ..ConnectOptions::new(address, Trust::Fingerprint([0; 32]))
    };
    let error = Client::connect(options).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Connect { .. }) && error.is_retriable(),
        "{error}"
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn another_version_of_the_protocol_is_named() {
    let broker = FakeBroker::start(1);
    let preface = Preface {
        kind: StreamKind::Control,
        message_len: 0,
    };
    let mut answer = preface.to_bytes();
    answer[4] = 9;
    broker.state().garbage = Some(answer.to_vec());
    let error = Client::connect(broker.options()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedVersion, "{error}");
}

/// Cut off, of the wrong kind, empty, or noise: errors, all of them, and none a panic.
#[tokio::test]
async fn garbage_is_an_error() {
    let broker = FakeBroker::start(1);
    let client = broker.client().await;
    let noise: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(37)).collect();
    let request = millrace_wire::encode(StreamKind::Control, &Request::Metrics).unwrap();
    let produce = Preface {
        kind: StreamKind::Produce,
        message_len: 8,
    }
    .to_bytes();
    let answers = [
        Vec::new(),
        noise,
        request.to_vec(),
        request[..20].to_vec(),
        produce.to_vec(),
    ];
    for answer in answers {
        broker.state().garbage = Some(answer);
        client.metrics().await.unwrap_err();
        client
            .producer(ProducerOptions::new(TOPIC))
            .await
            .unwrap_err();
        client
            .consumer(ConsumerOptions::new(TOPIC))
            .await
            .unwrap_err();
        let log = fake::log(0);
        client
            .produce_stream(log, millrace_client::Acks::All)
            .await
            .unwrap_err();
        client
            .consume_stream(log, millrace_client::OffsetSpec::Latest)
            .await
            .unwrap_err();
    }
    broker.state().garbage = None;
    client.metrics().await.unwrap();
}

/// The broker is gone and comes back at its address: the same client goes on.
#[tokio::test]
async fn a_broker_that_comes_back_is_found_again() {
    let broker = FakeBroker::start(1);
    let directory = tempfile::tempdir().unwrap();
    let pem = directory.path().join("brokers.pem");
    std::fs::write(&pem, &broker.pem).unwrap();
    let options = ConnectOptions {
        request_timeout: Duration::from_secs(5),
        ..trusting(&broker, Trust::File(pem.clone()))
    };
    let client = Client::connect(options).await.unwrap();
    let address = broker.address;
    drop(broker);
    // The old socket closes with the last of its tasks.
    while UdpSocket::bind(address).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = FakeBroker::start_at(address, 1);
    std::fs::write(&pem, &again.pem).unwrap();
    client.metrics().await.unwrap();
}
