//! The progress of a run, on a terminal: how far it is, and what it does at the moment. Where
//! standard error is no terminal nothing is shown.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::AbortHandle;

use crate::stage::Live;
use crate::window::{Clock, Window};

/// How often it is drawn.
const DRAW: Duration = Duration::from_millis(250);

/// What a run goes towards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The end of its window.
    Time,
    /// This many records.
    Records(u64),
}

/// A bar that moves until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    drawing: Option<AbortHandle>,
}

impl Progress {
    /// The progress of a run.
    pub(crate) fn start(clock: Clock, window: Window, goal: Goal, live: Arc<Live>) -> Self {
        let (whole, unit) = match (goal, window.to) {
            (Goal::Time, Some(to)) => (millis(to), Goal::Time),
            (Goal::Records(count), _) => (count, goal),
            (Goal::Time, None) => (0, Goal::Time),
        };
        let bar = bar(whole, "{elapsed_precise} {bar:30} {percent:>3} %  {msg}");
        if bar.is_hidden() {
            return Self { bar, drawing: None };
        }
        let drawn = bar.clone();
        let drawing = tokio::spawn(async move {
            let mut before = 0;
            loop {
                tokio::time::sleep(DRAW).await;
                let records = live.records();
                let rate = (records - before) as f64 / DRAW.as_secs_f64();
                before = records;
                drawn.set_position(match unit {
                    Goal::Time => millis(clock.now()).min(whole),
                    Goal::Records(_) => records.min(whole),
                });
                drawn.set_message(match clock.now() < window.from {
                    true => "warming up".to_owned(),
                    false => format!("{rate:.0} records/s"),
                });
            }
        });
        Self {
            bar,
            drawing: Some(drawing.abort_handle()),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// A bar for work that is counted in bytes, before the run.
pub(crate) fn filling(bytes: u64) -> ProgressBar {
    bar(
        bytes,
        "filling {bar:30} {bytes} of {total_bytes}  {binary_bytes_per_sec}",
    )
}

fn bar(whole: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(whole).with_style(style)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
