//! Randomness from the kernel: numbers and texts that nobody else has or guesses.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Letters and digits that are not mistaken for each other, and mean nothing to a shell, a URL or a language: 55 of them.
const LETTERS: &[u8; 55] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ2345678";

/// A random number: names a run, a new store, a question.
pub fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A text of so many letters and digits, each worth 5.8 bits.
pub fn text(chars: usize) -> io::Result<String> {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0; 64];
        fill(&mut bytes)?;
        // A byte beyond the last whole round of the letters would make the first ones likelier.
        let fair =
            bytes.iter().map(|byte| usize::from(*byte)).filter(|n| n / LETTERS.len() < 256 / LETTERS.len());
        let letters = fair.filter_map(|n| LETTERS.get(n % LETTERS.len()).copied().map(char::from));
        text.extend(letters.take(chars - text.len()));
    }
    Ok(text)
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(bytes.get_mut(filled..).unwrap_or_default(), GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn texts_have_their_length_differ_and_use_every_letter() {
        let texts: BTreeSet<String> = (0..100).map(|_| text(24).unwrap()).collect();
        assert_eq!(texts.len(), 100);
        assert!(texts.iter().all(|text| text.len() == 24));
        let used: BTreeSet<u8> = texts.iter().flat_map(|text| text.bytes()).collect();
        assert_eq!(used, LETTERS.iter().copied().collect());
    }
}
