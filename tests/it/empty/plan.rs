//! Empty keys of plans.

use std::fs;
use std::path::Path;

use deployd::mistake::Mistake;
use deployd::plan::check::{Policy, read};
use deployd::plan::parse::{ITEM_KEYS, PLAN_KEYS};
use serde_json::Value;

use super::{NOTHING, refused, service, with};

pub fn plan(text: &str) -> Result<deployd::plan::Plan, Vec<Mistake>> {
    read(text.as_bytes(), &service(), &Policy::default())
}

/// The plans in which keys are emptied: each key stands in one of them with a good value.
pub const PLANS: [&str; 2] = [
    "  - serviceId: 1\n    deployment: HTTP_UPLOAD_DEPLOY\n    httpSrcUri: http://h/p\n",
    "  - serviceId: 1\n    deployment: COMPILE_DEPLOY\n    compileRepoPath: app\n    compileRepoBranch: main\n",
];

#[test]
fn an_empty_key_of_a_plan_is_refused_at_its_place() {
    for empty in NOTHING {
        for key in &ITEM_KEYS {
            for item in PLANS {
                // As the last line, and not as the one that the list begins with.
                let item = format!("  - # first\n    {}", item.trim_start_matches("  - "));
                let text = format!("deployPlanItems:\n{}", with(&item, "    ", key.name, empty));
                let path = format!("deployPlanItems[0].{}", key.name);
                refused(&plan(&text).unwrap_err(), key, &path, &text);
            }
        }
        for key in &PLAN_KEYS {
            let text = with(&format!("deployPlanItems:\n{}", PLANS[0]), "", key.name, empty);
            match key.instead {
                Some(_) => refused(&plan(&text).unwrap_err(), key, key.name, &text),
                None => assert_eq!(plan(&text).unwrap().comment, None, "{text}"),
            }
        }
    }
    let may_be_empty = PLAN_KEYS.iter().chain(&ITEM_KEYS).filter(|key| key.instead.is_none());
    assert_eq!(may_be_empty.map(|key| key.name).collect::<Vec<_>>(), ["comment"]);
}

#[test]
fn commas_alone_are_no_label() {
    let labelled = |label: &str| format!("deployPlanItems:\n{}    deployLabel: {label}\n", PLANS[0]);
    for label in ["\",\"", "\" , \"", "\",,\"", "','", "\"\\t,\\n\""] {
        let mistakes = plan(&labelled(label)).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{label}: {mistakes:#?}");
        assert_eq!(mistakes[0].message, "deployLabel is empty: remove the key to choose all containers");
        assert_eq!((mistakes[0].line, mistakes[0].path.as_str()), (5, "deployPlanItems[0].deployLabel"));
    }
    for label in ["\"red,\"", "\",red\"", "\"red,,web-1\"", "[]", "{}", "[red]", "[~]"] {
        assert_eq!(plan(&labelled(label)).unwrap_err().len(), 1, "{label}");
    }
    for label in ["red", "\" red , web-1 \"", "!!str red"] {
        assert!(plan(&labelled(label)).is_ok(), "{label}");
    }
    // Text is not null because it is spelt so.
    for label in ["\"null\"", "'~'", "!!str null", "!!str ~", "! null"] {
        let mistakes = plan(&labelled(label)).unwrap_err();
        assert!(
            mistakes[0].message.contains("no container of service web has the label"),
            "{label}: {mistakes:?}"
        );
    }
}

#[test]
fn an_empty_item_or_file_is_refused() {
    for empty in NOTHING.iter().filter(|empty| !empty.starts_with(['|', '>'])) {
        let text = format!("deployPlanItems:\n  - {empty}\n");
        let mistakes = plan(&text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}{mistakes:#?}");
        assert_eq!(mistakes[0].path, "deployPlanItems[0]", "{text}");
        assert!(mistakes[0].message.contains("deployPlanItems[0] is empty"), "{text}{mistakes:?}");
        let mistakes = plan(empty).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].message.contains("is empty"), "{empty}: {mistakes:#?}");
    }
    let first = plan("deployPlanItems:\n- ~\n- serviceId: 1\n  deployment: START\n-\n").unwrap_err();
    let places: Vec<_> = first.iter().map(|mistake| (mistake.line, mistake.path.as_str())).collect();
    assert_eq!(places, [(2, "deployPlanItems[0]"), (5, "deployPlanItems[2]")]);
}

#[test]
fn the_schema_of_plans_has_the_same_keys_and_refuses_the_same_emptiness() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ctl/src/plan.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for (properties, keys) in
        [(&schema["properties"], &PLAN_KEYS[..]), (&schema["$defs"]["item"]["properties"], &ITEM_KEYS[..])]
    {
        let mut named: Vec<_> = properties.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<_> = keys.iter().map(|key| key.name).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
        for key in keys {
            let property = &properties[key.name];
            let types: Vec<_> = match &property["type"] {
                Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            let values = property["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
            let takes_null = types.contains(&"null") || values.contains(&Value::Null);
            let takes_blanks = types.contains(&"string") && property.get("pattern").is_none();
            let may_be_empty = key.instead.is_none();
            assert_eq!((takes_null, takes_blanks), (may_be_empty, may_be_empty), "{}", key.name);
        }
    }
}
