//! Standard input as records: one a line, byte for byte, read in large blocks.
//!
//! A thread of its own reads, because a read of a terminal or pipe blocks; whole lines travel
//! in shared blocks, so that a line costs a slice and not an allocation. The newline is not
//! part of a record; a last line without one is a record like any other; a carriage return
//! belongs to the record.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// Bytes asked for in one read: large enough that the system calls do not show, and what a
/// pipe gives at most at once is 64 KiB.
const READ_LEN: usize = 128 << 10;

/// Bytes allocated at once. Several reads share an allocation, and so do the lines in it.
const ALLOCATION_LEN: usize = 1 << 20;

/// Blocks that may wait between the reading thread and the producer.
const BLOCKS_IN_FLIGHT: usize = 8;

const _: () = assert!(READ_LEN < ALLOCATION_LEN);

/// Why reading stopped before the end.
#[derive(Debug)]
pub enum LineError {
    /// The system's reason.
    Read(io::Error),
    /// A line is longer than a record may be.
    TooLong {
        /// Its number, counted from 1.
        line: u64,
    },
}

/// Whole lines, at least one, each but perhaps the last with its newline.
#[derive(Debug)]
pub struct Block {
    /// The number of the first line, counted from 1.
    pub first_line: u64,
    /// The lines.
    pub bytes: Bytes,
}

impl Block {
    /// The lines with their numbers, without their newlines.
    pub fn lines(&self) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        let ends = memchr::memchr_iter(b'\n', &self.bytes);
        let unterminated = self.bytes.last() != Some(&b'\n');
        let last = unterminated.then_some(self.bytes.len());
        let mut start = 0;
        (self.first_line..)
            .zip(ends.chain(last))
            .map(move |(number, end)| {
                let line = self.bytes.slice(start..end);
                start = end + 1;
                (number, line)
            })
    }
}

/// Cuts a stream of bytes into [`Block`]s.
#[derive(Debug)]
pub struct LineBlocks<R> {
    source: R,
    /// What was read after the last newline.
    rest: BytesMut,
    next_line: u64,
    max_line_len: usize,
    at_end: bool,
    /// A line that is too long, to be told after the lines before it.
    too_long: Option<u64>,
}

impl<R: Read> LineBlocks<R> {
    /// Blocks of `source`, whose lines may be up to `max_line_len` bytes.
    pub fn new(source: R, max_line_len: usize) -> Self {
        Self {
            source,
            rest: BytesMut::new(),
            next_line: 1,
            max_line_len,
            at_end: false,
            too_long: None,
        }
    }

    /// The next lines, as soon as a read brought at least one; `None` at the end.
    ///
    /// # Errors
    /// A failed read, or a line that is too long. The lines before come first; nothing more
    /// comes after.
    pub fn next_block(&mut self) -> Result<Option<Block>, LineError> {
        if let Some(line) = self.too_long.take() {
            return Err(LineError::TooLong { line });
        }
        while !self.at_end {
            let searched = self.rest.len();
            let read = self.read_more().map_err(LineError::Read)?;
            if read == 0 {
                self.at_end = true;
                let last = std::mem::take(&mut self.rest);
                return if last.is_empty() {
                    Ok(None)
                } else {
                    self.block(last).map(Some)
                };
            }
            if let Some(newline) = memchr::memrchr(b'\n', &self.rest[searched..]) {
                let whole = self.rest.split_to(searched + newline + 1);
                return self.block(whole).map(Some);
            }
            if self.rest.len() > self.max_line_len {
                self.at_end = true;
                return Err(LineError::TooLong {
                    line: self.next_line,
                });
            }
        }
        Ok(None)
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let len = self.rest.len();
        if self.rest.capacity() - len < READ_LEN {
            let mut larger = BytesMut::with_capacity(ALLOCATION_LEN.max(len * 2 + READ_LEN));
            larger.extend_from_slice(&self.rest);
            self.rest = larger;
        }
        self.rest.resize(len + READ_LEN, 0);
        let read = loop {
            match self.source.read(&mut self.rest[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.rest
            .truncate(len + read.as_ref().map_or(0, |read| *read));
        read
    }

    /// The lines before the first that is too long, or that error when it is the first.
    fn block(&mut self, whole: BytesMut) -> Result<Block, LineError> {
        let mut block = Block {
            first_line: self.next_line,
            bytes: whole.freeze(),
        };
        let mut valid_len = 0;
        let too_long = block.lines().find(|(number, line)| {
            let fits = line.len() <= self.max_line_len;
            if fits {
                valid_len += line.len() + 1;
                self.next_line = number + 1;
            }
            !fits
        });
        if let Some((line, _)) = too_long {
            self.at_end = true;
            if valid_len == 0 {
                return Err(LineError::TooLong { line });
            }
            self.too_long = Some(line);
            block.bytes.truncate(valid_len);
        }
        Ok(block)
    }
}

/// Reads `source` on a thread of its own. The receiver ends after the last block, or after an
/// error; dropping it ends the thread at its next block.
///
/// # Errors
/// When the system has no thread to give.
pub fn read_in_background(
    source: impl Read + Send + 'static,
    max_line_len: usize,
) -> io::Result<tokio::sync::mpsc::Receiver<Result<Block, LineError>>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(BLOCKS_IN_FLIGHT);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut blocks = LineBlocks::new(source, max_line_len);
            while let Some(block) = blocks.next_block().transpose() {
                let failed = block.is_err();
                if sender.blocking_send(block).is_err() || failed {
                    break;
                }
            }
        })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its pieces one a read.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    /// The lines, and the number of the one that is too long.
    type Cut = (Vec<(u64, Bytes)>, Option<u64>);

    fn lines(pieces: Vec<&'static [u8]>, max: usize) -> Cut {
        let mut blocks = LineBlocks::new(Pieces(pieces), max);
        let mut all = Vec::new();
        loop {
            match blocks.next_block() {
                Ok(Some(block)) => all.extend(block.lines()),
                Ok(None) => return (all, None),
                Err(LineError::TooLong { line }) => {
                    assert!(matches!(blocks.next_block(), Ok(None)));
                    return (all, Some(line));
                }
                Err(LineError::Read(error)) => panic!("{error}"),
            }
        }
    }

    fn numbered(lines: &[&'static [u8]]) -> Vec<(u64, Bytes)> {
        (1..)
            .zip(lines.iter().map(|line| Bytes::from_static(line)))
            .collect()
    }

    #[test]
    fn lines_are_cut_wherever_the_reads_end() {
        let expected = numbered(&[b"one", b"", b"two\r", b"\xff\x00", b"last"]);
        let whole = lines(vec![b"one\n\ntwo\r\n\xff\x00\nlast"], 10);
        assert_eq!(whole, (expected.clone(), None));
        let bytewise = b"one\n\ntwo\r\n\xff\x00\nlast".chunks(1).collect();
        assert_eq!(lines(bytewise, 10), (expected, None));
    }

    #[test]
    fn nothing_is_no_record_and_a_newline_is_an_empty_one() {
        assert_eq!(lines(vec![], 10), (vec![], None));
        assert_eq!(lines(vec![b"\n"], 10), (numbered(&[b""]), None));
    }

    #[test]
    fn a_line_that_is_too_long_is_named_after_the_lines_before_it() {
        let before = numbered(&[b"1", b"2"]);
        assert_eq!(lines(vec![b"1\n2\n12345\nx\n"], 4), (before, Some(3)));
        let unterminated = lines(vec![b"1\n", b"123", b"45", b"6789"], 4);
        assert_eq!(unterminated, (numbered(&[b"1"]), Some(2)));
        assert_eq!(lines(vec![b"12345\n"], 4), (vec![], Some(1)));
        assert_eq!(
            lines(vec![b"1\n1234"], 4),
            (numbered(&[b"1", b"1234"]), None)
        );
    }

    #[test]
    fn the_thread_delivers_and_ends() {
        let mut receiver = read_in_background(&b"a\nb"[..], 10).unwrap();
        let mut all = Vec::new();
        while let Some(block) = receiver.blocking_recv() {
            all.extend(block.unwrap().lines());
        }
        assert_eq!(all, numbered(&[b"a", b"b"]));
    }
}
