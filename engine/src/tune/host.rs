//! A host, as far as the kernel tells of it in files.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a host, under a root.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This host.
    #[must_use]
    pub fn this() -> Self {
        Self::at("/")
    }

    /// The host whose `/proc` and `/sys` lie in this directory.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The content of a file, without the white space around it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that a file holds.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The word in brackets, as in `always [madvise] never`.
    pub(super) fn chosen(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, rest) = text.split_once('[')?;
        let (chosen, _) = rest.split_once(']')?;
        Some(chosen.to_owned())
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A soft limit of this process by its name in `/proc/self/limits`; `u64::MAX` for none.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        let limits = self.text("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    }

    /// The cores that this process may use.
    pub(super) fn cores(&self) -> Option<Vec<usize>> {
        let status = self.text("/proc/self/status")?;
        let mut lines = status.lines();
        parse_list(lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
    }

    /// The file system that a directory, or the nearest that exists of those above it, lies on.
    pub(super) fn mount(&self, directory: &Path) -> Option<Mount> {
        let directory = std::path::absolute(directory).ok()?;
        let info = self.text("/proc/self/mountinfo")?;
        let mounts = info.lines().filter_map(Mount::parse);
        mounts
            .filter(|mount| directory.starts_with(&mount.point))
            // The last of equally long ones hides those before it.
            .max_by_key(|mount| mount.point.components().count())
    }
}

/// The numbers of a list such as `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// Its type, for example `xfs`.
    pub(super) kind: String,
    /// Its options and those of its super block.
    pub(super) options: Vec<String>,
    /// Major and minor number of its device.
    pub(super) device: String,
}

impl Mount {
    /// A line of `mountinfo`: id, parent, device, root, point, options, any number of fields, a dash, type,
    /// source, options of the super block.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let (&[_, _, device, _, point, options, ..], &[kind, _, ref of_block @ ..]) =
            (before.as_slice(), after.as_slice())
        else {
            return None;
        };
        let options = options
            .split(',')
            .chain(of_block.iter().flat_map(|all| all.split(',')));
        Some(Self {
            point: PathBuf::from(unescape(point)),
            kind: kind.to_owned(),
            options: options.map(str::to_owned).collect(),
            device: device.to_owned(),
        })
    }

    /// Whether one of its options is this one.
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }
}

/// `mountinfo` writes white space and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escape, character);
    }
    out
}
