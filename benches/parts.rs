//! What the pure parts cost, and how that grows: `cargo bench --bench parts [FILTER]`.

#[path = "work/mod.rs"]
mod work;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for (name, of_size) in work::PARTS {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        // An archive may hold 100,000 entries, but no disk likes to be asked for them again and again.
        let sizes: &[usize] =
            if name == "archive" { &[10, 100, 1_000] } else { &[10, 100, 1_000, 10_000, 100_000] };
        for &size in sizes {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                let mut once = of_size(size);
                bencher.iter(&mut once);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
