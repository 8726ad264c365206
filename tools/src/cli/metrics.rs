//! `millctl metrics`: the broker's counters and histograms.

use millrace_client::Client;
use serde::Serialize;

use super::connect::failure;
use super::exit::Failure;
use super::output::Output;

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics {
        prometheus: String,
    }

    let prometheus = client.metrics().await.map_err(|error| failure(&error))?;
    output.result(&Metrics { prometheus }, |metrics| {
        metrics.prometheus.clone()
    })
}
