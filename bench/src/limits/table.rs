//! The limits as a table for the terminal.

use std::fmt;

use super::probe::RESERVED;
use super::{Item, Limits, Measure, Reached};

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "limits, {:.2} s each, device under {}",
            self.seconds_each,
            self.directory.display()
        )?;
        write_items(f, &self.items)?;
        writeln!(
            f,
            "  in {:.1} s: this process {:.2} CPU-s, all else {:.2} CPU-s, stolen {:.2} CPU-s",
            self.usage.seconds,
            self.usage.load_cpu_seconds,
            self.usage.other_cpu_seconds,
            self.usage.stolen_cpu_seconds
        )?;
        writeln!(f, "  on {}", self.place)
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binding, ratio, .. } = self;
        let (limit, unit) = (self.limit, self.measure.unit());
        let reached = self.reached;
        writeln!(
            f,
            "  {ratio:.2} of the binding limit: {reached:.1} of {limit:.1} {unit}, {binding}"
        )?;
        write_items(f, &self.items)
    }
}

impl Measure {
    /// The unit of limit and reached.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Latency => "us",
            Self::Throughput => "MB/s",
        }
    }
}

/// A row for each item; appends to reserved blocks stand beside those to zeroed ones.
pub(super) fn write_items(f: &mut fmt::Formatter<'_>, items: &[Item]) -> fmt::Result {
    let reserved = |name: &str| {
        items
            .iter()
            .find(|of| of.name == format!("{name}{RESERVED}"))
    };
    let beside = items.iter().any(|of| of.name.ends_with(RESERVED));
    write!(f, "  {:<24}{HEADING}", "")?;
    if beside {
        write!(f, "   into reserved blocks: {HEADING}")?;
    }
    writeln!(f)?;
    for item in items.iter().filter(|of| !of.name.ends_with(RESERVED)) {
        write!(f, "  {:<24}{}", item.name, figures(item))?;
        if let Some(reserved) = reserved(&item.name) {
            write!(f, "                          {}", figures(reserved))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

const HEADING: &str = "     MB/s   p50 us   p99 us p99.9 us";

fn figures(item: &Item) -> String {
    let rate = item.megabytes_per_second;
    let rate = rate.map_or_else(String::new, |of| format!("{of:.1}"));
    let latency = |of: fn(&super::Quantiles) -> f64| {
        let latency = item.latency.as_ref().map(of);
        latency.map_or_else(String::new, |us| format!("{us:.1}"))
    };
    let (p50, p99) = (latency(|of| of.p50_us), latency(|of| of.p99_us));
    let p99_9 = latency(|of| of.p99_9_us);
    let line = format!("{rate:>9}{p50:>9}{p99:>9}{p99_9:>9}");
    line.trim_end().to_owned()
}
