//! A plan's file: any bytes are refused with mistakes that lie in the file, or become a plan that compiles.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use deployd::catalog::Catalog;
use deployd::catalog::check::{Host, Source, read as read_catalog};
use deployd::compile::compile;
use deployd::plan::check::{Policy, read};
use libfuzzer_sys::fuzz_target;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let service = |id: u32, name: &str| {
        let text = format!(
            "serviceId: {id}\nname: {name}\ncontainers:\n  - name: {name}-1\n    labels: [label1, canary]\n  - name: {name}-2\n    labels: [label2]\nrun: {{ command: [/bin/true] }}\nbuild: {{ command: [make], output: dist }}\n"
        );
        Source { file: format!("{name}.yaml"), text: text.into_bytes() }
    };
    let host = Host { is_root: false, has_systemd: false, user: "u".into(), has_user: &|_| true };
    let sources = [service(111, "web"), service(222, "api"), service(1, "a"), service(2, "b")];
    read_catalog(&sources, &host).expect("this catalog is right")
});

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
    repositories: Some(vec!["web".into()]),
    repository_dir: "/var/lib/deployd/git".into(),
    allowed_repositories: vec!["https://git.example.org/".into()],
    allowed_uris: None,
});

fuzz_target!(|text: &[u8]| {
    match read(text, &CATALOG, &POLICY) {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
            for mistake in mistakes {
                assert!(mistake.line >= 1 && mistake.line as usize <= lines + 1, "{mistake}");
                assert!(mistake.column >= 1, "{mistake}");
                assert!(!mistake.to_string().chars().any(char::is_control), "{mistake:?}");
            }
        }
        Ok(plan) => {
            let deployments = compile(&plan, &CATALOG).expect("a checked plan compiles");
            assert_eq!(deployments.len(), plan.items.len());
            assert!(deployments.is_sorted_by_key(|deployment| std::cmp::Reverse(deployment.priority)));
            assert!(deployments.iter().all(|deployment| !deployment.containers.is_empty()));
            let once: HashSet<_> = plan.items.iter().map(|item| (item.service, item.priority)).collect();
            assert_eq!(once.len(), plan.items.len(), "a service stands twice in a batch");
        }
    }
});
