//! Finds the word that somebody probably meant.

/// The word that was probably meant: close enough not to be a coincidence.
#[must_use]
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = words.map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    let longer = word.chars().count().max(best.chars().count());
    (distance <= 2.max(longer / 3) && distance < longer).then_some(best)
}
