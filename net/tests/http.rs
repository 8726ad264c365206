//! The HTTP server answers, refuses what it should, and gets rid of slow clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use glommio::timer::Timer;
use millrace_net::bind_tcp;
use millrace_net::http::{Asked, HttpLimits, Reply, StatusCode, serve};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A server on an executor of its own, until dropped.
struct Server {
    addr: SocketAddr,
    stop: Option<flume::Sender<()>>,
    executor: Option<glommio::ExecutorJoinHandle<()>>,
}

const LONG: usize = 4 << 20;

async fn pages(Asked { path, query }: Asked) -> Reply {
    match path.as_str() {
        "/metrics" => Reply::text(StatusCode::OK, "a_counter 1\n"),
        "/slow" => {
            Timer::new(Duration::from_millis(50)).await;
            Reply::text(StatusCode::OK, "at last\n")
        }
        "/query" => Reply::text(StatusCode::OK, format!("asked for {query}\n")),
        "/long" => Reply::text(StatusCode::OK, vec![b'x'; LONG]),
        _ => Reply::not_found(),
    }
}

impl Server {
    fn start(limits: HttpLimits) -> Self {
        let listener = bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = flume::bounded::<()>(0);
        let serving = move || async move {
            let _serving = glommio::spawn_local(serve(listener, limits, pages));
            stopped.recv_async().await.ok();
        };
        let executor = support::executor("http").spawn(serving).unwrap();
        Self {
            addr,
            stop: Some(stop),
            executor: Some(executor),
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).unwrap()
    }

    /// Sends `request` and reads until the server closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        self.executor.take().unwrap().join().unwrap();
    }
}

/// What the server sends until it closes or resets the connection.
fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn pages_are_served() {
    let server = Server::start(HttpLimits::default());
    let answer = server.ask("GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 12\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\na_counter 1\n"), "{answer}");
    let answer = server.ask("GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nat last\n"), "{answer}");
    let answer = server.ask("GET /query?x=1&y HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.ends_with("asked for x=1&y\n"), "{answer}");
    let answer = server.ask("GET /long HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.len() > LONG);
}

#[test]
fn head_has_no_body() {
    let server = Server::start(HttpLimits::default());
    let answer = server.ask("HEAD /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 12\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::start(HttpLimits::default());
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let last = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = server.ask(&format!("{}{last}", request.repeat(9)));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 10, "{answer}");
}

#[test]
fn what_is_not_served_is_refused() {
    let server = Server::start(HttpLimits::default());
    let end = "host: a\r\nconnection: close\r\n\r\n";
    let answer = server.ask(&format!("GET /elsewhere HTTP/1.1\r\n{end}"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"] {
        let answer = server.ask(&format!("{method} /metrics HTTP/1.1\r\n{end}"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(
            answer.contains("allow: GET, HEAD\r\n"),
            "{method}: {answer}"
        );
    }
}

#[test]
fn bad_requests_are_refused() {
    let server = Server::start(HttpLimits::default());
    for request in [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "\0\0\0\0",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = server.ask(request);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{request:?}: {answer}"
        );
    }
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let answer = server.ask(&long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let answer = server.ask(&many);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let answer = server.ask("GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_client_that_dribbles_its_request_is_cut() {
    let head_timeout = Duration::from_millis(200);
    let server = Server::start(HttpLimits {
        head_timeout,
        ..HttpLimits::default()
    });
    let mut stream = server.connect();
    let mut reader = stream.try_clone().unwrap();
    let dribbling = std::thread::spawn(move || {
        for byte in b"GET /metrics HTTP/1.1\r\nhost: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let answer = read_all(&mut reader);
    assert!(!answer.contains("200 OK"), "{answer}");
    dribbling.join().unwrap();
}

#[test]
fn a_client_that_is_silent_is_cut() {
    let idle_timeout = Duration::from_millis(100);
    let limits = HttpLimits {
        idle_timeout,
        ..HttpLimits::default()
    };
    let server = Server::start(limits);
    assert_eq!(read_all(&mut server.connect()), "");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let idle_timeout = Duration::from_millis(100);
    let limits = HttpLimits {
        connections: 1,
        idle_timeout,
        ..HttpLimits::default()
    };
    let server = Server::start(limits);
    let mut stream = server.connect();
    let request = "GET /long HTTP/1.1\r\nhost: a\r\n\r\n".repeat(4);
    stream.write_all(request.as_bytes()).unwrap();
    // Its place is free for the next client, while it still does not read.
    support::until(|| {
        let answer = server.ask("GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        answer.contains("200 OK").then_some(())
    });
}

#[test]
fn a_client_over_the_limit_is_turned_away() {
    let server = Server::start(HttpLimits {
        connections: 2,
        ..HttpLimits::default()
    });
    let held = [server.connect(), server.connect()];
    let answer = support::until(|| {
        let answer = read_all(&mut server.connect());
        (!answer.is_empty()).then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(held);
    support::until(|| {
        let answer = server.ask("GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        answer.contains("200 OK").then_some(())
    });
}
