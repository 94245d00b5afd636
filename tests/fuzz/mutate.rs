//! Changing inputs: bytes, blocks, numbers, words of the format, and parts of other inputs.

/// Bytes that an input may have.
pub const LONGEST: usize = 64 << 10;

/// Random numbers, the same in every run with one seed (xorshift).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % bound.max(1)
    }

    /// One of several.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        // Mostly short.
        let most = if self.below(4) == 0 { length } else { 16 };
        let end = start + self.below((length - start).min(most) + 1);
        start..end
    }
}

/// Numbers at which readers of numbers err.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "00000000000",
    "7777777",
    "77777777777",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "0.5",
    "99999999999999999999999",
    "512",
    "511",
    "65536",
];

/// Changes an input a few times over. `words` are what its format knows, `other` is another input.
pub fn mutate(input: &mut Vec<u8>, dice: &mut Dice, words: &[&str], other: &[u8]) {
    for _ in 0..=dice.below(6) {
        once(input, dice, words, other);
    }
    input.truncate(LONGEST);
}

fn once(input: &mut Vec<u8>, dice: &mut Dice, words: &[&str], other: &[u8]) {
    let length = input.len();
    let at = dice.below(length + 1);
    match dice.below(12) {
        0 if length > 0 => input[dice.below(length)] ^= 1 << dice.below(8),
        1 if length > 0 => input[dice.below(length)] = u8::try_from(dice.below(256)).unwrap_or(0),
        2 => drop(input.drain(dice.range(length))),
        3 => {
            let part = input[dice.range(length)].to_vec();
            input.splice(at..at, part);
        }
        4 => {
            let part = other[dice.range(other.len())].to_vec();
            let over = if dice.below(2) == 0 { at..at } else { at..(at + part.len()).min(length) };
            input.splice(over, part);
        }
        5 | 6 if !words.is_empty() => {
            let word = dice.one(words).as_bytes();
            let over = if dice.below(2) == 0 { at..at } else { at..(at + word.len()).min(length) };
            input.splice(over, word.iter().copied());
        }
        7 => {
            // In place of a number that is there, if there is one.
            let digit = |byte: &u8| byte.is_ascii_digit();
            let start = (at..length).find(|at| digit(&input[*at])).unwrap_or(at);
            let end = (start..length).find(|at| !digit(&input[*at])).unwrap_or(length);
            input.splice(start..end, dice.one(NUMBERS).bytes());
        }
        8 if length > 0 => {
            let byte = *dice.one(&[0, 0xff, 0x80, b'/', b'"', b'\\', b'.', b' ', b'\n', b':', b'@']);
            input[dice.below(length)] = byte;
        }
        9 => {
            // A block of a tar archive moves, goes, or comes twice.
            let blocks = length / 512;
            if blocks > 0 {
                let from = dice.below(blocks) * 512;
                let block = input[from..from + 512].to_vec();
                let to = dice.below(blocks + 1) * 512;
                match dice.below(3) {
                    0 => drop(input.drain(from..from + 512)),
                    1 => drop(input.splice(to..to, block)),
                    _ => drop(input.splice(from.min(to)..from.min(to), other.iter().take(512).copied())),
                }
            }
        }
        10 => {
            let byte = u8::try_from(dice.below(256)).unwrap_or(0);
            input.splice(at..at, std::iter::repeat_n(byte, 1 << dice.below(11)));
        }
        _ => input.truncate(at.max(length / 2)),
    }
}
