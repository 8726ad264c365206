//! A broker that was killed and comes back on its port tells the clients of its former life
//! that their connections are gone, at once and not after their idle timeout.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use quinn::ConnectionError;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Broker, BrokerOptions, ClientExecutor};

/// Set in the child process, which is the first broker: its data directory.
const CHILD: &str = "MILLRACE_TEST_DATA_DIR";

#[test]
fn a_restarted_broker_resets_old_connections() {
    let options = BrokerOptions {
        shards: 2,
        ..BrokerOptions::default()
    };
    if let Some(data_dir) = std::env::var_os(CHILD) {
        let broker = Broker::at((Ipv4Addr::LOCALHOST, 0).into(), data_dir.as_ref(), options);
        println!("\naddr={}", broker.addr());
        loop {
            std::thread::park();
        }
    }
    let data_dir = tempfile::tempdir().unwrap();
    let (mut child, addr) = start_child(data_dir.path());
    let trust = data_dir.path().join("tls/cert.pem");
    let (connected, connect) = flume::bounded::<()>(0);
    let (restarted, restart) = flume::bounded::<()>(0);
    let client = std::thread::spawn(move || {
        ClientExecutor::run(move || async move {
            let endpoint = support::client(&trust);
            let connection = endpoint.connect(addr, SERVER_NAME).unwrap().await.unwrap();
            support::echo_once(&connection, b"hello").await;
            connected.send_async(()).await.unwrap();
            restart.recv_async().await.unwrap();
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(b"are you there?").await.unwrap();
            connection.closed().await
        })
    });
    connect.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let _again = Broker::at(addr, data_dir.path(), options);
    restarted.send(()).unwrap();
    assert_eq!(client.join().unwrap(), ConnectionError::Reset);
}

/// Runs this test in a process of its own, as a broker.
fn start_child(data_dir: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_restarted_broker_resets_old_connections",
            "--nocapture",
        ])
        .env(CHILD, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let addr = lines
        .filter_map(|line| line.strip_prefix("addr=").map(str::to_owned))
        .next();
    (
        child,
        addr.expect("the child says its address").parse().unwrap(),
    )
}
