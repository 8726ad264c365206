//! `millctl top`: what each core of the broker does, now and again.
//!
//! Each round asks for the broker's histograms and counters and shows what has come since the round before.
//! `view` makes tables of that and knows no terminal, `screen` shows them. A broker that goes away is asked
//! for again each round; what it counted before is forgotten.

mod screen;
mod view;

use std::time::Duration;

use clap::Args;
use millrace_client::Client;
use millrace_latency::{Document, VERSION};
use tokio::time::timeout;

use super::connect::{BrokerOptions, failure};
use super::exit::{Exit, Failure};
use super::interrupt::Interrupt;
use super::output::Output;
use screen::{Pressed, Screen};
use view::View;

/// Everything by shard, since the broker's start.
const PATH: &str = "/hist?format=json&per=shard";

/// A broker that has not answered for so long is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Show what each core of the broker does, again and again. `q` ends it.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Seconds between two rounds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print one round and end; with --json as JSON.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(top: &Top, broker: &BrokerOptions, output: &Output) -> Result<(), Failure> {
    let interval = Duration::from_secs(top.interval);
    if top.once || output.is_json() {
        return once(interval, broker, output).await;
    }
    let Some(mut screen) = Screen::open() else {
        return Err(Failure::usage("top needs a terminal; --once does without"));
    };
    let interrupt = Interrupt::listen();
    let mut eye = Eye::default();
    loop {
        let shown = match eye.look(broker).await {
            Ok(Some(view)) => view.to_string(),
            Ok(None) => "one moment\n".to_owned(),
            Err(failure) => format!("the broker is away: {failure}\n"),
        };
        screen.show(&shown)?;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            Pressed::Quit = screen.pressed() => return Ok(()),
            () = interrupt.pressed() => return Ok(()),
        }
    }
}

async fn once(interval: Duration, broker: &BrokerOptions, output: &Output) -> Result<(), Failure> {
    let mut eye = Eye::default();
    eye.look(broker).await?;
    tokio::time::sleep(interval).await;
    let view = eye.look(broker).await?;
    let view = view.ok_or_else(|| Failure::new(Exit::Connection, "the broker began anew"))?;
    output.result(&view, View::to_string)
}

/// Looks at a broker again and again.
#[derive(Default)]
struct Eye {
    client: Option<Client>,
    before: Option<Document>,
}

impl Eye {
    /// What has happened since the last look; nothing to tell at the first.
    async fn look(&mut self, broker: &BrokerOptions) -> Result<Option<View>, Failure> {
        let slow = || Failure::new(Exit::Connection, "it does not answer");
        let looked = timeout(PATIENCE, self.read(broker)).await;
        let now = match looked.map_err(|_| slow()).flatten() {
            Ok(now) => now,
            Err(failure) => {
                *self = Self::default();
                return Err(failure);
            }
        };
        let before = self.before.replace(now.clone());
        // One that was started again has counted less.
        let before = before.filter(|before| before.uptime_seconds < now.uptime_seconds);
        Ok(before.map(|before| View::new(&now.since(&before))))
    }

    async fn read(&mut self, broker: &BrokerOptions) -> Result<Document, Failure> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(broker.connect().await?),
        };
        let json = client.observe(PATH).await;
        let json = json.map_err(|error| failure(&error))?;
        let document: Option<Document> = serde_json::from_str(&json).ok();
        document
            .filter(|document| document.version == VERSION)
            .ok_or_else(|| Failure::new(Exit::Other, "the broker is of another version"))
    }
}
