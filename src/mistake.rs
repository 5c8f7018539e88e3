//! Mistakes in files that people write: all of them at once, each with its place.

use std::fmt;

/// More mistakes than these are not reported.
pub const MAX_MISTAKES: usize = 1000;

/// One mistake: where, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The key's path: `deployPlanItems[2].deployment`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub suggestion: Option<String>,
}

/// A mistake in one of several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMistake {
    /// The file's name.
    pub file: String,
    /// The mistake.
    pub mistake: Mistake,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        self.suggestion.as_ref().map_or(Ok(()), |suggestion| write!(f, "; {suggestion}"))
    }
}

impl fmt::Display for FileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.mistake)
    }
}

/// The known word that was most likely meant.
pub fn similar<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let distance = |word: &&&str| strsim::damerau_levenshtein(&word.to_lowercase(), &lower);
    let best = known.iter().min_by_key(distance)?;
    let allowed = if best.len() > 5 { 2 } else { 1 };
    (written.len() < 64 && distance(&best) <= allowed).then_some(*best)
}
