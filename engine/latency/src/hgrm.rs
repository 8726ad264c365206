//! A distribution in HdrHistogram's text form (`.hgrm`), which its plotters read. Values are in milliseconds.

use std::fmt::{self, Write};

use crate::Counts;

/// Steps of the distribution for each halving of the distance to 100 %: enough for a smooth line.
const STEPS_PER_HALF: u32 = 8;

impl Counts {
    /// The distribution as text that HdrHistogram's plotters read.
    #[must_use]
    pub fn hgrm(&self) -> String {
        let mut out = String::new();
        self.write_hgrm(&mut out)
            .expect("writing to a string does not fail");
        out
    }

    fn write_hgrm(&self, out: &mut String) -> fmt::Result {
        let histogram = self.histogram();
        let millis = |nanos: f64| nanos / 1e6;
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut below = 0;
        for step in histogram.iter_quantiles(STEPS_PER_HALF) {
            below += step.count_since_last_iteration();
            let quantile = step.quantile_iterated_to();
            let value = millis(step.value_iterated_to() as f64);
            write!(out, "{value:12.6} {quantile:14.12} {below:10}")?;
            match quantile < 1.0 {
                true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
                false => writeln!(out)?,
            }
        }
        writeln!(
            out,
            "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]",
            millis(histogram.mean()),
            millis(histogram.stdev())
        )?;
        writeln!(
            out,
            "#[Max     = {:12.6}, Total count    = {:12}]",
            millis(self.longest() as f64),
            self.count()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Latency;

    #[test]
    fn plotters_find_their_columns() {
        let mut latency = Latency::fine();
        latency.record(1_000_000, 3);
        latency.record(4_000_000, 1);
        let text = Counts::from(&latency).hgrm();
        let mut lines = text.lines();
        assert!(
            lines
                .next()
                .is_some_and(|line| line.contains("1/(1-Percentile)"))
        );
        let rows: Vec<Vec<f64>> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .filter_map(|cell| cell.parse().ok())
                    .collect()
            })
            .collect();
        assert!(rows.len() > 2);
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().map(|row| row[1..].to_vec());
        assert_eq!(last, Some(vec![1.0, 4.0]));
        assert!(text.ends_with("Total count    =            4]\n"));
    }
}
