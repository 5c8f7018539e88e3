//! One part, once: what `benches/instructions` counts the instructions of.

#[path = "work/mod.rs"]
mod work;

/// Many enough that a cost which grows too fast is seen.
const SIZE: usize = 500;

/// Only what happens in here is counted.
#[inline(never)]
fn counted(once: &mut dyn FnMut()) {
    once();
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, of_size) in work::PARTS.iter().filter(|part| part.0.replace(' ', "-") == wanted) {
        let mut once = of_size(SIZE);
        counted(&mut once);
        assert!(!name.is_empty());
    }
}
