//! Mistakes in files that people write.

use std::fmt;

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
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.path, self.message)
    }
}
