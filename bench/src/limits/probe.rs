//! The things that are measured, by name.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Writes that are durable when they complete, one after the other.
    Append(AppendSize, Ground),
    /// Sequential writes of 1 MiB, several in flight, not made durable.
    Write,
    /// Sequential reads of 1 MiB, several in flight.
    Read,
    /// Bytes of one QUIC stream from client to shard.
    StreamUp,
    /// Bytes of one QUIC stream from shard to client.
    StreamDown,
    /// 1 KiB from client to shard and back, on a stream that stays.
    RoundTrip,
    /// CRC-32C of memory that no cache holds.
    Crc,
    /// Copies of memory that no cache holds.
    Copy,
    /// A question to another shard and its answer, while neither sleeps.
    MeshAwake,
    /// The same from sleep.
    MeshAsleep,
}

/// Bytes of a durable append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppendSize {
    /// 4 KiB, the least that the log writes.
    Kib4,
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
    /// 256 KiB.
    Kib256,
    /// 1 MiB.
    Mib1,
}

/// What the blocks were before an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Written with zeros, as a recycled segment or one that was prepared is.
    Zeroed,
    /// Reserved (`fallocate`) and never written.
    Reserved,
}

impl AppendSize {
    /// All, the smallest first.
    pub const ALL: [Self; 5] = [
        Self::Kib4,
        Self::Kib16,
        Self::Kib64,
        Self::Kib256,
        Self::Mib1,
    ];

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Kib4 => 4 << 10,
            Self::Kib16 => 16 << 10,
            Self::Kib64 => 64 << 10,
            Self::Kib256 => 256 << 10,
            Self::Mib1 => 1 << 20,
        }
    }

    /// The smallest that holds so many bytes, if any does.
    #[must_use]
    pub fn holding(bytes: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|size| size.bytes() as u64 >= bytes)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kib4 => "4KiB",
            Self::Kib16 => "16KiB",
            Self::Kib64 => "64KiB",
            Self::Kib256 => "256KiB",
            Self::Mib1 => "1MiB",
        }
    }
}

impl Probe {
    /// All, in the order in which they are measured and shown.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let appends = |ground| AppendSize::ALL.map(|size| Self::Append(size, ground));
        let others = [
            Self::Write,
            Self::Read,
            Self::StreamUp,
            Self::StreamDown,
            Self::RoundTrip,
            Self::Crc,
            Self::Copy,
            Self::MeshAwake,
            Self::MeshAsleep,
        ];
        let appends = appends(Ground::Zeroed)
            .into_iter()
            .chain(appends(Ground::Reserved));
        appends.chain(others).collect()
    }

    /// Whether it needs to know on which device.
    #[must_use]
    pub fn is_of_the_device(self) -> bool {
        matches!(self, Self::Append(..) | Self::Write | Self::Read)
    }

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> String {
        let name = match self {
            Self::Append(size, Ground::Zeroed) => return format!("disk.append.{}", size.name()),
            Self::Append(size, Ground::Reserved) => {
                return format!("disk.append.{}{RESERVED}", size.name());
            }
            Self::Write => "disk.write.1MiB",
            Self::Read => "disk.read.1MiB",
            Self::StreamUp => "quic.stream.up",
            Self::StreamDown => "quic.stream.down",
            Self::RoundTrip => "quic.round_trip.1KiB",
            Self::Crc => "crc32c",
            Self::Copy => "copy",
            Self::MeshAwake => "mesh.round_trip",
            Self::MeshAsleep => "mesh.round_trip.asleep",
        };
        name.to_owned()
    }
}

/// How the name of an append to reserved blocks ends.
pub(super) const RESERVED: &str = ".reserved";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_one_name() {
        let mut names: Vec<String> = Probe::all().into_iter().map(Probe::name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_size_class_holds_what_it_is_chosen_for() {
        assert_eq!(AppendSize::holding(1), Some(AppendSize::Kib4));
        assert_eq!(AppendSize::holding(4096), Some(AppendSize::Kib4));
        assert_eq!(AppendSize::holding(4097), Some(AppendSize::Kib16));
        assert_eq!(AppendSize::holding(1 << 20), Some(AppendSize::Mib1));
        assert_eq!(AppendSize::holding((1 << 20) + 1), None);
    }
}
