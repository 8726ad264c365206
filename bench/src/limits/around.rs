//! The limits of a run, measured just before it and just after, so that they are of the same
//! machine in the same mood.

use std::path::PathBuf;
use std::time::Duration;

use super::{Binding, Gauge, Item, Reached};
use crate::BenchError;
use crate::options::{LimitsArgs, Load};
use crate::report::{Kind, Report};

/// Limits of which the first half is measured.
pub struct Around {
    binding: Binding,
    gauge: Gauge,
    each: Duration,
    before: Vec<Item>,
}

impl Around {
    /// Measures what binds this load, before it; `None` where that is not asked for.
    ///
    /// # Errors
    /// A limit cannot be measured, or it is not known on which device the broker writes.
    pub async fn begin(kind: Kind, load: &Load) -> Result<Option<Self>, BenchError> {
        if !load.limits.limits {
            return Ok(None);
        }
        let binding = Binding::of(kind, load);
        let mut around = Self {
            gauge: Gauge::new(&directory(load, &binding)?),
            each: load.limits.limits_duration,
            before: Vec::new(),
            binding,
        };
        for probe in around.binding.probes.clone() {
            around.gauge.prepare(probe).await?;
        }
        around.before = around.measure().await?;
        Ok(Some(around))
    }

    /// Measures them again, after it; `None` where the run has nothing to hold against them.
    ///
    /// # Errors
    /// A limit cannot be measured.
    pub async fn end(mut self, report: &Report) -> Result<Option<Reached>, BenchError> {
        let after = self.measure().await?;
        Ok(self.binding.judge(report, self.before, after))
    }

    async fn measure(&mut self) -> Result<Vec<Item>, BenchError> {
        if self.binding.probes.iter().any(|of| of.is_of_the_device()) {
            self.gauge.settle().await?;
        }
        let mut items = Vec::new();
        for probe in self.binding.probes.clone() {
            items.push(self.gauge.measure(probe, self.each).await?);
        }
        Ok(items)
    }
}

/// Where the broker writes.
fn directory(load: &Load, binding: &Binding) -> Result<PathBuf, BenchError> {
    let LimitsArgs { limits_dir, .. } = &load.limits;
    if let Some(directory) = limits_dir.as_ref().or(load.data_dir.as_ref()) {
        return Ok(directory.clone());
    }
    match load.broker {
        Some(_) if binding.probes.iter().any(|probe| probe.is_of_the_device()) => {
            Err(BenchError::Options(
                "--limits measures the device that the broker writes to: say with --limits-dir where \
                 a directory of it is on this machine"
                    .to_owned(),
            ))
        }
        _ => Ok(std::env::temp_dir()),
    }
}
