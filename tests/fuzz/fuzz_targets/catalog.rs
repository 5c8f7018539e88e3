//! The catalog's files: any bytes are refused, or become services that keep the rules.
#![no_main]

use std::collections::HashSet;

use deployd::catalog::check::{Host, Source, read};
use deployd::catalog::parse::{is_inner_path, is_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Two files, so that what must be unique is tried, too.
    let cut = bytes.windows(4).position(|four| four == b"\n%%\n");
    let (first, second) = cut.map_or((bytes, None), |cut| (&bytes[..cut], Some(&bytes[cut + 4..])));
    let source = |text: &[u8]| Source { file: "f.yaml".into(), text: text.to_vec() };
    let sources: Vec<Source> = std::iter::once(first).chain(second).map(source).collect();
    let is_root = bytes.len() % 2 == 0;
    let has_systemd = bytes.len() % 3 == 0;
    let host = Host { is_root, has_systemd, user: "root".into(), has_user: &|name| name != "nobody-there" };
    match read(&sources, &host) {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.mistake.line >= 1 && mistake.mistake.column >= 1, "{mistake}");
                assert!(!mistake.to_string().chars().any(char::is_control), "{mistake:?}");
            }
        }
        Ok(catalog) => {
            let mut names = HashSet::new();
            for service in catalog.services() {
                assert!(is_name(&service.name) && names.insert(service.name.clone()), "{service:?}");
                assert!(!service.containers.is_empty(), "{service:?}");
                let containers: HashSet<_> = service.containers.iter().map(|c| &c.name).collect();
                assert_eq!(containers.len(), service.containers.len(), "{service:?}");
                assert!(service.containers.iter().all(|c| is_name(&c.name)), "{service:?}");
                assert!(service.shared_paths.iter().all(|path| is_inner_path(path)), "{service:?}");
                if let Some(run) = &service.run {
                    assert!(!run.command.is_empty() && !run.command[0].is_empty(), "{service:?}");
                    assert!(!is_root || run.user.is_some(), "root by silence: {service:?}");
                }
            }
        }
    }
});
