//! Bodies of fuzz targets: any bytes may come in, none may panic, and what is accepted must
//! come out the same when it is written again.

use crate::footer::{Footer, Trailer};
use crate::position::Position;
use crate::producers;
use crate::scan::{Scanner, Step};
use crate::start_file::StartFile;
use millrace_model::Offset;

/// The seed and the segment that the bodies assume; a target that wants to get past the
/// checksum seals its input with [`seal`].
const SEED: u32 = 0;

/// Puts a right magic and checksum before `bytes`, for footer, trailer and log-start alike.
#[must_use]
pub fn seal(magic: [u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; 8];
    sealed.extend(bytes);
    crate::footer::seal(&mut sealed, u32::from_le_bytes(magic), SEED);
    sealed
}

/// A footer.
pub fn footer(bytes: &[u8]) {
    let (base, next) = (Offset(0), Offset(0));
    if let Ok(footer) = Footer::decode(bytes, SEED, base, next) {
        let again = Footer::decode(&footer.encode(SEED), SEED, base, next);
        let again = again.expect("what was accepted is accepted again");
        assert_eq!((again.index, again.epochs), (footer.index, footer.epochs));
    }
}

/// A trailer block.
pub fn trailer(bytes: &[u8]) {
    if let Ok(trailer) = Trailer::decode(bytes, SEED, Offset(0), 3 * bytes.len() as u64) {
        assert_eq!(trailer.encode(SEED), bytes, "one meaning has one form");
    }
}

/// A log-start file.
pub fn start_file(bytes: &[u8]) {
    if let Ok(file) = StartFile::decode(bytes, SEED) {
        assert_eq!(StartFile::decode(&file.encode(SEED), SEED), Ok(file));
    }
}

/// A snapshot of producer state.
pub fn producer_snapshot(bytes: &[u8]) {
    if let Ok(known) = producers::decode(bytes) {
        let mut again = Vec::new();
        producers::encode(&known, &mut again);
        assert_eq!(again.len(), bytes.len(), "one meaning has one form");
    }
}

/// A segment, as recovery scans it.
pub fn segment(bytes: &[u8]) {
    let mut scanner = Scanner::new(SEED, Offset(0));
    loop {
        let before = scanner.position();
        let Some(window) = bytes.get(before.since(Position::ZERO)..) else {
            return;
        };
        match scanner.step(window, true) {
            Step::Item(at, _) => assert!(at == before && scanner.position() > before),
            Step::Need(_) => unreachable!("the scanner was told that there is no more"),
            Step::Stop(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short run of every body, on noise and on sealed noise.
    #[test]
    fn noise() {
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..20_000 {
            let len = if round % 50 == 0 {
                4088
            } else {
                rng.usize(0..200)
            };
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.u8(..) & rng.u8(..)).collect();
            if let (true, Some(low)) = (rng.bool(), bytes.get_mut(1..80)) {
                low.fill(0);
            }
            if let Some(field) = bytes.get_mut(..4) {
                field.copy_from_slice(&(len as u32 + 8).to_le_bytes());
            }
            for body in [footer, trailer, start_file, producer_snapshot, segment] {
                body(&bytes);
                for magic in [*b"MRX1", *b"MRT1", *b"MRS1", *b"MRW1"] {
                    body(&seal(magic, &bytes));
                }
            }
        }
    }
}
