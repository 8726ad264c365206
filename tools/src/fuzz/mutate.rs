//! Makes inputs that are nearly valid: a valid one with a few things changed. Most bugs of a
//! decoder lie behind its first checks, where random bytes never come.

use fastrand::Rng;

/// The longest input. Enough for several frames; what is longer only costs time.
const MAX_INPUT_LEN: usize = 64 << 10;

/// The most changes to one input.
const MAX_CHANGES: usize = 6;

/// The longest run of bytes that one change inserts, copies or removes.
const MAX_RUN_LEN: usize = 64;

/// Numbers at the edges of what lengths, counts and offsets can be.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// An input made from `corpus` with the chances of `rng`.
#[must_use]
pub fn input(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = rng.choice(corpus).cloned().unwrap_or_default();
    // Now and then a valid one, or two of them in a row.
    if rng.u8(..) < 8 {
        return input;
    }
    if rng.u8(..) < 16 {
        splice(rng, &mut input, corpus);
    }
    for _ in 0..rng.usize(1..=MAX_CHANGES) {
        change(rng, &mut input);
    }
    input.truncate(MAX_INPUT_LEN);
    input
}

fn splice(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if let Some(other) = rng.choice(corpus) {
        input.truncate(rng.usize(..=input.len()));
        input.extend_from_slice(&other[rng.usize(..=other.len())..]);
    }
}

fn change(rng: &mut Rng, input: &mut Vec<u8>) {
    if input.is_empty() {
        input.extend(std::iter::repeat_with(|| rng.u8(..)).take(MAX_RUN_LEN));
        return;
    }
    let at = rng.usize(..input.len());
    let run = rng.usize(1..=MAX_RUN_LEN).min(input.len() - at);
    match rng.u8(..9) {
        0 => input[at] ^= 1 << rng.u8(..8),
        1 => input[at] = rng.u8(..),
        2 | 3 => write_edge(rng, input, at),
        4 => nudge(rng, input, at),
        5 => input.truncate(at),
        6 => drop(input.drain(at..at + run)),
        7 => {
            let copied = input[at..at + run].to_vec();
            let into = rng.usize(..=input.len());
            input.splice(into..into, copied);
        }
        _ => input[at..at + run].fill(rng.u8(..)),
    }
}

/// Writes an edge of the numbers over 1, 2, 4 or 8 bytes, in either order of bytes.
fn write_edge(rng: &mut Rng, input: &mut [u8], at: usize) {
    let width = (1 << rng.usize(..4)).min(input.len() - at);
    let edge = EDGES[rng.usize(..EDGES.len())];
    let bytes = if rng.bool() {
        edge.to_le_bytes()
    } else {
        (edge << (64 - 8 * width as u64)).to_be_bytes()
    };
    input[at..at + width].copy_from_slice(&bytes[..width]);
}

/// Adds a little to, or takes a little from, what may be a number.
fn nudge(rng: &mut Rng, input: &mut [u8], at: usize) {
    input[at] = input[at].wrapping_add_signed(rng.i8(-4..=4));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let corpus = vec![b"valid input".to_vec(), b"another".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..500)
                .map(|_| input(&mut rng, &corpus))
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }

    #[test]
    fn inputs_without_a_corpus_are_random_bytes_within_the_bound() {
        let mut rng = Rng::with_seed(1);
        let inputs: Vec<_> = (0..500).map(|_| input(&mut rng, &[])).collect();
        assert!(inputs.iter().any(|input| !input.is_empty()));
        assert!(inputs.iter().all(|input| input.len() <= MAX_INPUT_LEN));
    }
}
