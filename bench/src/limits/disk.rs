//! The device, through a file and a ring of its own: O_DIRECT, so that no cache takes part, and
//! for appends O_DSYNC, so that each write is durable when it completes.
//!
//! Invariant: nothing is in flight between two measurements, so the buffers may be dropped.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use tempfile::TempPath;

use super::{Ground, Item, Probe};
use crate::BenchError;
use crate::measure::Latencies;

/// What O_DIRECT wants of addresses, lengths and offsets on every common device.
const ALIGNMENT: usize = 4096;

/// A field of zeros: as long as a segment. Writes start again at its beginning.
const ZEROED_LEN: u64 = 128 << 20;

/// A field of reserved blocks for each size. None is written twice: a measurement that comes to
/// the end of its field is over.
const RESERVED_LEN: u64 = 128 << 20;

/// Sizes that have a field of their own.
const RESERVED_FIELDS: u64 = super::AppendSize::ALL.len() as u64;

/// Bytes of a sequential write or read, and how many are in flight.
const SEQUENTIAL: usize = 1 << 20;
const SEQUENTIAL_DEPTH: usize = 4;

/// A file whose blocks are prepared.
#[derive(Debug)]
pub(super) struct Field {
    path: TempPath,
    ground: Ground,
}

impl Field {
    /// Makes it under `directory`; it is removed when dropped.
    pub(super) fn prepare(directory: &Path, ground: Ground) -> Result<Self, BenchError> {
        let refused = |what: &str, error: io::Error| {
            BenchError::Limits(format!("{what} in {}: {error}", directory.display()))
        };
        let path = tempfile::Builder::new()
            .prefix("millrace-limits.")
            .tempfile_in(directory)
            .map_err(|error| refused("cannot make a file", error))?
            .into_temp_path();
        let field = Self { path, ground };
        match ground {
            Ground::Zeroed => field
                .fill()
                .map_err(|error| refused("cannot write past the cache (O_DIRECT)", error))?,
            Ground::Reserved => field
                .reserve(RESERVED_LEN * RESERVED_FIELDS)
                .map_err(|error| refused("cannot reserve blocks", error))?,
        }
        Ok(field)
    }

    /// One item; for less than `time` where reserved blocks come to their end.
    pub(super) fn measure(&mut self, probe: Probe, time: Duration) -> Result<Item, BenchError> {
        let done = match probe {
            Probe::Append(size, ground) => {
                assert_eq!(ground, self.ground, "an append goes to its own ground");
                let (from, again) = match ground {
                    Ground::Zeroed => (0, true),
                    Ground::Reserved => (size as u64 * RESERVED_LEN, false),
                };
                let len = if again { ZEROED_LEN } else { RESERVED_LEN };
                self.run(&Pattern {
                    way: Way::Append,
                    piece: size.bytes(),
                    depth: 1,
                    from,
                    len,
                    again,
                    time,
                })
            }
            Probe::Write => self.run(&sequential(Way::Write, time)),
            Probe::Read => self.run(&sequential(Way::Read, time)),
            other => panic!("{} is not of the device", other.name()),
        };
        let (latencies, bytes, took) = done.map_err(|error| {
            BenchError::Limits(format!(
                "{} in {}: {error}",
                probe.name(),
                self.path.display()
            ))
        })?;
        let rate = Item::rate(probe, latencies.count(), bytes, took);
        Ok(match probe {
            Probe::Append(..) => Item {
                megabytes_per_second: rate.megabytes_per_second,
                ..Item::latency(probe, &latencies)
            },
            _ => rate,
        })
    }

    /// Writes zeros everywhere and makes them durable.
    fn fill(&self) -> io::Result<()> {
        let file = self.open(Way::Write)?;
        let zeros = AlignedBytes::zeroed(SEQUENTIAL);
        let mut at = 0;
        while at < ZEROED_LEN {
            std::os::unix::fs::FileExt::write_all_at(&file, zeros.as_slice(), at)?;
            at += SEQUENTIAL as u64;
        }
        file.sync_all()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let file = self.open(Way::Write)?;
        let len = i64::try_from(len).map_err(io::Error::other)?;
        // SAFETY: a system call with an open descriptor and plain numbers.
        match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) } {
            0 => file.sync_all(),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn open(&self, way: Way) -> io::Result<File> {
        let durable = match way {
            Way::Append => libc::O_DSYNC,
            Way::Write | Way::Read => 0,
        };
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | durable)
            .open(&self.path)
    }

    /// Latencies, bytes moved, and how long it took.
    fn run(&self, pattern: &Pattern) -> io::Result<(Latencies, u64, Duration)> {
        let file = self.open(pattern.way)?;
        let mut flight = Flight::new(pattern);
        let mut ring = IoUring::new(pattern.depth as u32)?;
        let mut latencies = Latencies::default();
        let began = Instant::now();
        let deadline = began + pattern.time;
        for slot in 0..pattern.depth {
            flight.submit(&mut ring, &file, slot)?;
        }
        while flight.pending > 0 {
            ring.submit_and_wait(1)?;
            let now = Instant::now();
            loop {
                let next = ring.completion().next();
                let Some(done) = next else { break };
                latencies.record(flight.landed(done.user_data(), done.result(), now)?);
                if now < deadline {
                    flight.submit(&mut ring, &file, done.user_data() as usize)?;
                }
            }
        }
        let bytes = latencies.count() * pattern.piece as u64;
        Ok((latencies, bytes, began.elapsed()))
    }
}

/// Waits for what the file system of this directory has not written yet.
pub(super) fn settle(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    // SAFETY: a system call with an open descriptor.
    match unsafe { libc::syncfs(directory.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn sequential(way: Way, time: Duration) -> Pattern {
    Pattern {
        way,
        piece: SEQUENTIAL,
        depth: SEQUENTIAL_DEPTH,
        from: 0,
        len: ZEROED_LEN,
        again: true,
        time,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Append,
    Write,
    Read,
}

/// What is asked of the device.
#[derive(Debug)]
struct Pattern {
    way: Way,
    piece: usize,
    depth: usize,
    from: u64,
    len: u64,
    /// Whether to start again at the end of the field.
    again: bool,
    time: Duration,
}

/// What is in flight: a buffer and a start for each place.
struct Flight<'a> {
    pattern: &'a Pattern,
    slots: Vec<(AlignedBytes, Instant)>,
    next: u64,
    pending: usize,
}

impl<'a> Flight<'a> {
    fn new(pattern: &'a Pattern) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let slots = (0..pattern.depth).map(|_| {
            let mut bytes = AlignedBytes::zeroed(pattern.piece);
            // A device may know zeros, or blocks that it has already.
            random.fill(bytes.as_mut_slice());
            (bytes, Instant::now())
        });
        Self {
            pattern,
            slots: slots.collect(),
            next: 0,
            pending: 0,
        }
    }

    /// Sends the next piece in this place, unless the field has ended.
    fn submit(&mut self, ring: &mut IoUring, file: &File, slot: usize) -> io::Result<()> {
        let Pattern { piece, len, .. } = *self.pattern;
        if self.next + piece as u64 > len {
            if !self.pattern.again {
                return Ok(());
            }
            self.next = 0;
        }
        let at = self.pattern.from + self.next;
        self.next += piece as u64;
        let (bytes, started) = &mut self.slots[slot];
        let (fd, piece) = (types::Fd(file.as_raw_fd()), piece as u32);
        let entry = match self.pattern.way {
            Way::Append | Way::Write => opcode::Write::new(fd, bytes.as_ptr(), piece)
                .offset(at)
                .build(),
            Way::Read => opcode::Read::new(fd, bytes.as_mut_ptr(), piece)
                .offset(at)
                .build(),
        };
        *started = Instant::now();
        // SAFETY: file and buffer outlive the operation: `run` returns when nothing is pending, or
        // with an error, after which `Drop` leaks the buffers of what is.
        unsafe { ring.submission().push(&entry.user_data(slot as u64)) }
            .map_err(|_| io::Error::other("the submission queue is full"))?;
        self.pending += 1;
        Ok(())
    }

    /// How long the operation in this place took.
    fn landed(&mut self, slot: u64, result: i32, now: Instant) -> io::Result<Duration> {
        self.pending -= 1;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        if result as usize != self.pattern.piece {
            return Err(io::Error::other("the device took only a part of it"));
        }
        Ok(now - self.slots[slot as usize].1)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.pending > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// Memory as O_DIRECT wants it.
struct AlignedBytes {
    start: std::ptr::NonNull<u8>,
    layout: Layout,
}

impl AlignedBytes {
    fn zeroed(len: usize) -> Self {
        assert!(len > 0, "a buffer has bytes");
        let layout = Layout::from_size_align(len, ALIGNMENT).expect("a power of two, and small");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        let Some(start) = std::ptr::NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        // SAFETY: `len` bytes from `start` were allocated just now.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Self { start, layout }
    }

    fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: initialised at its creation, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.layout.size()) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: initialised at its creation, and borrowed mutably with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
