//! Cases that are run in turn with each other, and the table of what they took.

use std::collections::BTreeMap;

use anyhow::Result;

/// What one run of a case measured, by name. All of it is the less, the better.
pub type Measured = Vec<(&'static str, f64)>;

/// One way of doing the work.
pub struct Case<'a> {
    name: String,
    /// Ran so often at most: some take minutes.
    most: usize,
    run: Box<dyn FnMut() -> Result<Measured> + 'a>,
}

/// The cases of a workload. The first one is the limit.
#[derive(Default)]
pub struct Series<'a> {
    cases: Vec<Case<'a>>,
}

impl<'a> Series<'a> {
    /// One more case.
    pub fn case(&mut self, name: impl Into<String>, run: impl FnMut() -> Result<Measured> + 'a) {
        self.at_most(usize::MAX, name, run);
    }

    /// One more case, which is run so often at most.
    pub fn at_most(
        &mut self,
        most: usize,
        name: impl Into<String>,
        run: impl FnMut() -> Result<Measured> + 'a,
    ) {
        self.cases.push(Case { name: name.into(), most, run: Box::new(run) });
    }

    /// Runs all of them in turn, and prints the table.
    pub fn run(mut self, rounds: usize) {
        let mut seen: BTreeMap<(usize, &'static str), Vec<f64>> = BTreeMap::new();
        let mut order: Vec<&'static str> = Vec::new();
        for round in 0..rounds {
            for (index, case) in self.cases.iter_mut().enumerate().filter(|(_, case)| round < case.most) {
                match (case.run)() {
                    Ok(measured) => {
                        for (what, value) in measured {
                            if !order.contains(&what) {
                                order.push(what);
                            }
                            seen.entry((index, what)).or_default().push(value);
                        }
                    }
                    Err(error) => {
                        eprintln!("{}: {error:#}", case.name);
                        case.most = 0;
                    }
                }
            }
        }
        println!("| case | what | median | min–max | × limit |\n|---|---|---|---|---|");
        for what in order {
            let limit = seen.get(&(0, what)).map(|values| median(values));
            for (index, case) in self.cases.iter().enumerate() {
                let Some(values) = seen.get(&(index, what)) else { continue };
                let ratio = limit.map_or_else(String::new, |limit| format!("{:.2}", median(values) / limit));
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(0.0, f64::max);
                println!(
                    "| {} | {what} | {} | {}–{} | {ratio} |",
                    case.name,
                    shown(what, median(values)),
                    shown(what, low),
                    shown(what, high)
                );
            }
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Seconds, unless the name says otherwise.
fn shown(what: &str, value: f64) -> String {
    if what.contains("KiB") || what.contains("per ") || what.contains("switches") {
        format!("{value:.1}")
    } else if value < 0.001 {
        format!("{:.0} µs", value * 1e6)
    } else if value < 1.0 {
        format!("{:.1} ms", value * 1e3)
    } else {
        format!("{value:.2} s")
    }
}
