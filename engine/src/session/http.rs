//! Metrics and health over HTTP, served by shard 0.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | counters, gauges and histograms of every shard |
//! | `/hist`, `/slow` | latencies by stage, the slowest batches: see [`crate::observe`] |
//! | `/healthz` | 200 if every shard answers within [`HEALTH_TIMEOUT`] |
//! | `/readyz` | 200 while the broker takes new work: it has joined its cluster and does not shut down |

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::sleep;
use hyper::StatusCode;
use millrace_net::http::{Asked, HttpLimits, Reply, serve};

use super::control::metrics_text;
use crate::mesh::Message;
use crate::metrics::CONTENT_TYPE;
use crate::observe::{self, Shown, Unseen};
use crate::shard::Shard;

/// A shard that has not answered for so long is stuck.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves HTTP for as long as the shard lives.
pub(crate) fn serve_http(shard: &Rc<Shard>, listener: TcpListener) {
    let server = Rc::clone(shard);
    shard.spawn(async move {
        let handler = async move |asked: Asked| reply(&server, &asked).await;
        if let Err(error) = serve(listener, HttpLimits::default(), handler).await {
            tracing::error!(%error, "HTTP is not served");
        }
    });
}

async fn reply(shard: &Rc<Shard>, asked: &Asked) -> Reply {
    match asked.path.as_str() {
        "/metrics" => match metrics_text(shard).await {
            Ok(text) => Reply {
                status: StatusCode::OK,
                content_type: CONTENT_TYPE,
                body: text.into(),
            },
            Err(refusal) => unavailable(refusal.message),
        },
        "/healthz" => health(shard).await,
        "/readyz" => match shard.draining().raised() {
            None if shard.check_joined().is_ok() => Reply::text(StatusCode::OK, "ready\n"),
            None => unavailable("the broker has not joined its cluster yet".to_owned()),
            Some(()) => unavailable("the broker is shutting down".to_owned()),
        },
        path => observed(shard, &format!("{path}?{}", asked.query)).await,
    }
}

async fn observed(shard: &Rc<Shard>, asked: &str) -> Reply {
    let told = observe::answer(shard, asked).await;
    let error = match told {
        Ok(Shown { content_type, text }) => {
            return Reply {
                status: StatusCode::OK,
                content_type,
                body: text.into(),
            };
        }
        Err(error) => error,
    };
    let status = match &error {
        Unseen::Path(_) => return Reply::not_found(),
        Unseen::Query(_) => StatusCode::BAD_REQUEST,
        Unseen::Missing(_) => StatusCode::NOT_FOUND,
        Unseen::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        Unseen::Shard(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Reply::text(status, format!("{error}\n"))
}

async fn health(shard: &Rc<Shard>) -> Reply {
    for other in shard.all_shards() {
        let asked = async { shard.ask(other, Message::Ping).await.is_ok() };
        let timeout = async {
            sleep(HEALTH_TIMEOUT).await;
            false
        };
        if !or(asked, timeout).await {
            return unavailable(format!("shard {other} does not answer"));
        }
    }
    Reply::text(StatusCode::OK, "alive\n")
}

fn unavailable(message: String) -> Reply {
    Reply::text(StatusCode::SERVICE_UNAVAILABLE, message + "\n")
}
