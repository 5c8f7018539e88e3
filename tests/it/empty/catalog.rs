//! Empty keys of the catalog, and what its values mean.

use std::fs;
use std::path::Path;

use deployd::catalog::check::{Host, Source};
use deployd::catalog::{self, keys};
use deployd::reading::Key;

use super::plan::{PLANS, plan};
use super::{NOTHING, catalog_of, refused, with};

/// A catalog file in which every key has a good value, with one section in block style at its end.
const SERVICE: &str = "serviceId: 1\nname: web\ndescription: x\nruntime: systemd\nsharedPaths: [var]\n\
    stripComponents: 0\nreleases: {keep: 5}\ncontainers: [{name: web-1}]\nrun: {command: [/bin/true]}\n";

/// Each section of a catalog file: how its const is called, what stands before its keys, and their indentation.
const SECTIONS: [(&str, &[Key], &str, &str, &str); 9] = [
    ("SERVICE", &keys::SERVICE, "", "", ""),
    ("CONTAINER", &keys::CONTAINER, "containers", "  - # first\n    name: web-1\n", "    "),
    ("RUN", &keys::RUN, "run", "  command: [/bin/true]\n", "  "),
    (
        "LIMITS",
        &keys::LIMITS,
        "build",
        "  command: [make]\n  output: dist\n  limits:\n    openFiles: 64\n",
        "    ",
    ),
    ("HEALTH", &keys::HEALTH, "health", "  interval: 1s\n", "  "),
    ("BUILD", &keys::BUILD, "build", "  command: [make]\n  output: dist\n", "  "),
    ("HOOKS", &keys::HOOKS, "hooks", "  preDeploy: [/bin/true]\n", "  "),
    ("RELEASES", &keys::RELEASES, "releases", "  keep: 5\n", "  "),
    ("LIMITS", &keys::LIMITS, "run", "  command: [/bin/true]\n  limits:\n    openFiles: 64\n", "    "),
];

#[test]
fn an_empty_key_of_the_catalog_is_refused_at_its_place() {
    for empty in NOTHING {
        for (_, keys, section, block, indent) in SECTIONS {
            for key in keys {
                let mut text = if section.is_empty() {
                    with(SERVICE, indent, key.name, empty)
                } else {
                    let block = with(block, indent, key.name, empty);
                    with(SERVICE, "", section, &format!("\n{block}"))
                };
                text.truncate(text.trim_end_matches('\n').len());
                // A service whose images run in an engine is the only one that may have an image.
                if key.name == "image" {
                    text = text.replace("runtime: systemd", "runtime: podman");
                }
                let path = match (section, indent) {
                    ("", _) => key.name.to_string(),
                    ("containers", _) => format!("containers[0].{}", key.name),
                    (section, "    ") => format!("{section}.limits.{}", key.name),
                    (section, _) => format!("{section}.{}", key.name),
                };
                refused(&catalog_of(&text).unwrap_err(), key, &path, &text);
            }
        }
    }
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/catalog/keys.rs")).unwrap();
    for declared in source.split("pub const ").skip(1).map(|part| part.split(':').next().unwrap()) {
        assert!(SECTIONS.iter().any(|section| section.0 == declared), "{declared} is not tested");
    }
}

#[test]
fn an_empty_element_is_refused() {
    let lists = [
        ("containers: [{name: web-1, labels: [EMPTY]}]", "containers[0].labels[0]"),
        ("sharedPaths: [EMPTY]", "sharedPaths[0]"),
    ];
    for empty in ["~", "null", "\"\"", "' '", "!!null ''"] {
        for (line, path) in lists {
            let text = with(
                SERVICE,
                "",
                line.split(':').next().unwrap(),
                &line.split_once(' ').unwrap().1.replace("EMPTY", empty),
            );
            let mistakes = catalog_of(&text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{text}{mistakes:#?}");
            assert_eq!(mistakes[0].path, path);
            assert!(mistakes[0].message.starts_with(&format!("{path} is empty: ")), "{mistakes:?}");
        }
    }
    // An argument may be the empty string, but not nothing.
    let command =
        |arguments: &str| catalog_of(&with(SERVICE, "", "run", &format!("{{command: [{arguments}]}}")));
    let run = command("/bin/echo, \"\", '', \"~\", 8081, 1.10, true, 012").unwrap();
    let service = run.by_name("web").unwrap().clone();
    assert_eq!(
        service.run.as_ref().unwrap().command,
        ["/bin/echo", "", "", "~", "8081", "1.10", "true", "012"]
    );
    for (arguments, path) in [
        ("/bin/echo, ~", "run.command[1]"),
        ("null, x", "run.command[0]"),
        ("\"\", x", "run.command"),
        ("", "run.command"),
    ] {
        let mistakes = command(arguments).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{arguments}: {mistakes:#?}");
        assert_eq!(mistakes[0].path, path, "{arguments}");
        assert!(mistakes[0].message.contains("is empty"), "{mistakes:?}");
    }
    // These say something: that there is nothing.
    for line in ["labels: []", "environment: {}"] {
        let text = with(SERVICE, "", "containers", &format!("[{{name: web-1, {line}}}]"));
        assert!(catalog_of(&text).is_ok(), "{line}");
    }
    assert!(catalog_of(&with(SERVICE, "", "sharedPaths", "[]")).is_ok());
}

#[test]
fn a_variable_is_its_text_as_written_or_refused() {
    let environment = |value: &str| {
        let text =
            with(SERVICE, "", "run", &format!("\n  command: [/bin/true]\n  environment:\n    A: {value}\n"));
        catalog_of(&text)
            .map(|catalog| catalog.by_name("web").unwrap().run.clone().unwrap().environment["A"].clone())
    };
    for empty in ["", "~", "null", "Null", "NULL", "# a comment", "!!null", "!!null ''"] {
        let mistakes = environment(empty).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{empty}: {mistakes:#?}");
        assert_eq!((mistakes[0].path.as_str(), mistakes[0].column), ("run.environment.A", 5), "{empty}");
        let text = "A is empty: remove the variable, or write `A: \"\"` for the empty string";
        assert_eq!(mistakes[0].message, text, "{empty}");
    }
    for (written, value) in [
        ("\"\"", ""),
        ("''", ""),
        ("!!str", ""),
        ("!!str ''", ""),
        ("! ''", ""),
        ("\"null\"", "null"),
        ("'~'", "~"),
        ("!!str null", "null"),
        ("! ~", "~"),
        ("\" \"", " "),
        ("8081", "8081"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("012", "012"),
        ("1_000", "1_000"),
        ("+5", "+5"),
        ("-0", "-0"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        (".NaN", ".NaN"),
        ("9999999999999999999999", "9999999999999999999999"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("true", "true"),
        ("True", "True"),
        ("FALSE", "FALSE"),
        ("y", "y"),
        ("nULL", "nULL"),
        ("~x", "~x"),
        ("2001-12-14", "2001-12-14"),
        ("12:30:45", "12:30:45"),
        ("!!int 012", "012"),
        ("!!float 1", "1"),
        ("!!bool True", "True"),
        ("!!int \"7\"", "7"),
        ("=", "="),
    ] {
        assert_eq!(environment(written).as_deref(), Ok(value), "{written}");
    }
    for wrong in [
        "[]",
        "{}",
        "[a]",
        "!!int x",
        "!!null x",
        "!!bool yes",
        "!!binary aGk=",
        "!env HOME",
        "!!str [a]",
        "!!map []",
    ] {
        assert_eq!(environment(wrong).unwrap_err().len(), 1, "{wrong}: {:#?}", environment(wrong));
    }
    // The name of a variable is text, too.
    for key in ["~", "null", "\"\"", "?"] {
        let text =
            with(SERVICE, "", "run", &format!("\n  command: [/bin/true]\n  environment:\n    {key}: x\n"));
        assert!(catalog_of(&text).is_err(), "{key}");
    }
    let on = catalog_of(&with(
        SERVICE,
        "",
        "run",
        "{command: [/bin/true], environment: {ON: true, \"null\": x, NO: no}}",
    ));
    let on = on.unwrap().by_name("web").unwrap().run.clone().unwrap().environment;
    assert_eq!(
        on.into_iter().collect::<Vec<_>>(),
        [("NO", "no"), ("ON", "true"), ("null", "x")].map(|(k, v)| (k.into(), v.into()))
    );
}

#[test]
fn numbers_and_truth_values_are_read_by_their_meaning() {
    let plan_of =
        |key: &str, value: &str| plan(&format!("deployPlanItems:\n{}    {key}: {value}\n", PLANS[0]));
    for (written, value) in
        [("012", 12), ("0x1F", 31), ("0o17", 15), ("+5", 5), ("-5", -5), ("!!int 7", 7), ("!!int \"7\"", 7)]
    {
        assert_eq!(plan_of("priority", written).unwrap().items[0].priority, value, "{written}");
    }
    for written in
        ["\"7\"", "'0'", "!!str 7", "1_000", "0b11", "1.0", "1e2", "true", "[]", "9223372036854775808"]
    {
        assert_eq!(plan_of("priority", written).unwrap_err().len(), 1, "{written}");
    }
    let network = |written: &str| {
        let text =
            with(SERVICE, "", "build", &format!("{{command: [make], output: dist, network: {written}}}"));
        catalog_of(&text).map(|catalog| catalog.by_name("web").unwrap().build.clone().unwrap().network)
    };
    for (written, value) in
        [("true", true), ("True", true), ("TRUE", true), ("FALSE", false), ("!!bool \"true\"", true)]
    {
        assert_eq!(network(written), Ok(value), "{written}");
    }
    for written in ["\"true\"", "'false'", "yes", "on", "1", "!!str true", "tRUE"] {
        assert_eq!(network(written).unwrap_err().len(), 1, "{written}");
    }
    // One id has many spellings, and is one id.
    let source = |file: &str, text: String| Source { file: file.into(), text: text.into() };
    let everybody = |_: &str| true;
    let host = Host { is_root: false, user: "me".into(), has_systemd: true, has_user: &everybody };
    let other = SERVICE.replace("serviceId: 1", "serviceId: 0x1").replace("web", "api");
    let both = [source("a.yaml", SERVICE.into()), source("b.yaml", other)];
    let mistakes = catalog::check::read(&both, &host).unwrap_err();
    assert!(mistakes[0].to_string().contains("serviceId 1 stands in a.yaml already"), "{mistakes:?}");
}
