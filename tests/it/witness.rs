//! What the containers of a test write down themselves.

/// What a container wrote down when it was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub container: String,
    pub operation: String,
    pub pid: i32,
    /// Seconds since the epoch.
    pub at: f64,
}

impl Start {
    /// A line of the witness.
    pub fn of(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [container, operation, pid, at] = words.as_slice() else { panic!("{line}") };
        Self {
            container: (*container).into(),
            operation: (*operation).into(),
            pid: pid.parse().unwrap(),
            at: at.parse().unwrap(),
        }
    }
}
