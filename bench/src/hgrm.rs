//! A distribution in HdrHistogram's text form (`.hgrm`), which its plotters read. Values are in
//! milliseconds.

use std::io::{self, Write};

use crate::report::Summary;

/// Writes the distribution.
///
/// # Errors
/// `out` fails.
pub fn write(out: &mut impl Write, latency: &Summary) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    for step in &latency.distribution {
        let (value, quantile, count) = (step.us / 1e3, step.quantile, step.count);
        write!(out, "{value:12.3} {quantile:14.12} {count:10}")?;
        match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        latency.mean_us / 1e3,
        latency.stddev_us / 1e3
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        latency.max_us / 1e3,
        latency.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Step;

    #[test]
    fn plotters_find_their_columns() {
        let step = |quantile, us, count| Step {
            quantile,
            us,
            count,
        };
        let latency = Summary {
            count: 4,
            mean_us: 2_500.0,
            stddev_us: 1_118.0,
            min_us: 1_000.0,
            p50_us: 2_000.0,
            p90_us: 4_000.0,
            p99_us: 4_000.0,
            p99_9_us: 4_000.0,
            p99_99_us: 4_000.0,
            max_us: 4_000.0,
            distribution: vec![step(0.25, 1_000.0, 1), step(1.0, 4_000.0, 4)],
        };
        let mut out = Vec::new();
        write(&mut out, &latency).expect("memory does not fail");
        let text = String::from_utf8(out).expect("it is text");
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)

       1.000 0.250000000000          1           1.33
       4.000 1.000000000000          4
#[Mean    =        2.500, StdDeviation   =        1.118]
#[Max     =        4.000, Total count    =            4]
";
        assert_eq!(text, expected);
    }
}
