//! Reports of several runs side by side, as text and as a page.

use std::fs::File;
use std::io::BufReader;

use crate::BenchError;
use crate::html;
use crate::report::Report;

/// Reads reports that `--json` printed. `LABEL=FILE` gives one another name; those that would have the same
/// name are told apart by their files.
///
/// # Errors
/// A file that cannot be read, or is no report.
pub fn read(names: &[String]) -> Result<Vec<Report>, BenchError> {
    let read: Result<Vec<_>, _> = names.iter().map(|name| read_one(name)).collect();
    let mut reports = read?;
    let labels: Vec<String> = reports.iter().map(|report| report.label.clone()).collect();
    for (report, name) in reports.iter_mut().zip(names) {
        let namesakes = labels.iter().filter(|label| **label == report.label);
        if namesakes.count() > 1 {
            report.label = format!("{name}: {}", report.label);
        }
    }
    Ok(reports)
}

fn read_one(name: &str) -> Result<Report, BenchError> {
    let (label, path) = match name.split_once('=') {
        Some((label, path)) => (Some(label), path),
        None => (None, name),
    };
    let wrong = |why: String| BenchError::Report {
        file: path.to_owned(),
        why,
    };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let report = serde_json::from_reader(BufReader::new(file));
    let mut report: Report = report.map_err(|error| wrong(error.to_string()))?;
    if let Some(label) = label {
        label.clone_into(&mut report.label);
    }
    Ok(report)
}

/// A table with a column for each report.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut rows = vec![(
        String::new(),
        reports.iter().map(|report| report.label.clone()).collect(),
    )];
    rows.extend(html::figure_rows(reports));
    let width = |text: &String| text.chars().count();
    let names = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let columns: Vec<usize> = (0..reports.len())
        .map(|column| rows.iter().map(|(_, values)| width(&values[column])).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for (name, values) in &rows {
        let mut line = format!("{name:<names$}");
        for (value, column) in values.iter().zip(&columns) {
            line.push_str(&format!("  {value:>column$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Kind;
    use crate::report::tests::{load, measured};

    #[test]
    fn reports_of_the_same_name_are_told_apart_by_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        let names: Vec<String> = ["a.json", "b.json"]
            .iter()
            .map(|name| directory.path().join(name).display().to_string())
            .collect();
        for name in &names {
            serde_json::to_writer(File::create(name).unwrap(), &report).unwrap();
        }
        let reports = read(&names).unwrap();
        assert_ne!(reports[0].label, reports[1].label);
        assert!(reports[1].label.contains("b.json"));
    }

    #[test]
    fn reports_come_back_under_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        serde_json::to_writer(File::create(&path).unwrap(), &report).unwrap();
        let plain = path.display().to_string();
        let named = format!("other={plain}");
        let reports = read(&[plain, named]).unwrap();
        let table = table(&reports);
        let mut lines = table.lines();
        let heading = lines.next().unwrap();
        assert!(heading.ends_with("other"), "{heading}");
        let megabytes = lines.find(|line| line.starts_with("MB/s")).unwrap();
        assert_eq!(megabytes.matches("1.0").count(), 2, "{megabytes}");
    }

    #[test]
    fn what_is_no_report_is_named() {
        let error = read(&["/nowhere.json".to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere.json: "), "{error}");
    }
}
