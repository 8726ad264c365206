//! Makes messages out of arbitrary bytes, so that a fuzzer or a seeded test reaches what lies
//! behind the first checks of a decoder.

/// Where choices come from: bytes, and zeros after the last of them.
#[derive(Debug)]
pub(crate) struct Sampler<'a> {
    choices: &'a [u8],
    /// The version that the message is made for.
    pub(crate) version: i16,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(choices: &'a [u8], version: i16) -> Self {
        Self { choices, version }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.choices.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number of up to 8 bytes: often 0, -1 or a small one, as numbers of the protocol are.
    pub(crate) fn number(&mut self) -> i64 {
        match self.byte() % 8 {
            0 => 0,
            1 => -1,
            2 | 3 => i64::from(self.byte()),
            _ => i64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// Bytes up to `max_len` of them, mostly few, now and then too many to be copied.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let (len, fill) = (self.byte(), self.byte());
        let len = usize::from(len);
        let len = if len == 0xff { 1_000 } else { len % 24 };
        let mut bytes = vec![fill; len];
        bytes
            .iter_mut()
            .take(4)
            .for_each(|byte| *byte = self.byte());
        bytes
    }

    pub(crate) fn text(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'Z', '0', '.', '"', 'é', '€', '🐈'];
        let len = self.byte() % 8;
        (0..len)
            .map(|_| LETTERS[usize::from(self.byte()) % LETTERS.len()])
            .collect()
    }

    /// How many elements an array has.
    pub(crate) fn count(&mut self) -> usize {
        usize::from(self.byte()) % 4
    }
}
