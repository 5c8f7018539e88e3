//! The pages below `docs/` and the README: links lead somewhere, commands exist, and what they show of plans,
//! catalogs and configurations is valid.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::ErrorKind;

use super::{Block, Part, files, is_root, parts, root};

fn pages() -> Vec<(PathBuf, String)> {
    let mut all = files(&root().join("docs"), ".md");
    all.extend([root().join("README.md"), root().join(".github/SECURITY.md")]);
    all.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let all = parts(page).into_iter();
    all.filter_map(|part| if let Part::Block(block) = part { Some(block) } else { None }).collect()
}

fn prose(page: &str) -> String {
    let all = parts(page).into_iter();
    all.filter_map(|part| if let Part::Prose(text) = part { Some(text) } else { None }).collect()
}

/// The name of a heading in an address, as GitHub makes it.
fn anchors(page: &str) -> BTreeSet<String> {
    let slug = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    prose(page)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        let text = prose(&page);
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = fs::read_to_string(&there);
            let leads = match (&found, anchor) {
                (Ok(_), "") => true,
                (Ok(page), anchor) => anchors(page).contains(anchor),
                (Err(_), _) => there.is_dir(),
            };
            if !leads {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for path in files(&root().join("docs"), ".md") {
        let name = path.strip_prefix(root().join("docs")).unwrap().display().to_string();
        assert!(
            name == "README.md" || index.contains(&format!("({name})")),
            "{name} is not in docs/README.md"
        );
    }
}

/// The commands of a page: lines of consoles and scripts, and what stands in the text between backticks.
fn commands(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    for block in blocks(page) {
        match block.language {
            "console" => all.extend(block.commands().map(str::to_string)),
            "sh" | "yaml" => all.extend(block.body.replace("\\\n", "").lines().map(str::to_string)),
            _ => {}
        }
    }
    let text = prose(page);
    all.extend(text.split('`').skip(1).step_by(2).map(str::to_string));
    all
}

/// The calls of a program in a line of a shell.
fn calls(line: &str, program: &str) -> Vec<Vec<String>> {
    let line = line.split(" # ").next().unwrap();
    let pieces =
        line.split(['|', ';', '&', '>', '<', '(']).map(|piece| piece.trim_end_matches([')', '"', '`']));
    let words = pieces.map(|piece| -> Vec<String> {
        let words = piece
            .split_whitespace()
            .map(|word| word.trim_matches(['"', '\'']).to_string())
            .collect::<Vec<_>>();
        let begin = words.iter().position(|word| word == program);
        begin.map(|begin| words[begin..].to_vec()).unwrap_or_default()
    });
    words.filter(|words| !words.is_empty()).collect()
}

#[test]
fn every_command_of_deployctl_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, page) in pages() {
        for line in commands(&page) {
            for mut words in calls(&line, "deployctl") {
                for word in &mut words {
                    let is_place = matches!(&**word, "ID" | "$" | "ID...");
                    if word == "COMMAND" {
                        *word = "plan".into();
                    }
                    *word = if is_place { "1".into() } else { word.trim_end_matches(['.', ',']).into() };
                }
                seen += 1;
                let parsed = deployctl::cli::definition().try_get_matches_from(&words);
                let is_said = |kind| {
                    matches!(
                        kind,
                        ErrorKind::DisplayHelp
                            | ErrorKind::DisplayVersion
                            | ErrorKind::MissingRequiredArgument
                            | ErrorKind::MissingSubcommand
                            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    )
                };
                if let Err(error) = parsed
                    && !is_said(error.kind())
                {
                    wrong.push(format!("{}: {words:?}: {}", path.display(), error.kind()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 60, "{seen}");
}

#[test]
fn every_option_of_deployd_exists() {
    let help = |verb: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_deployd")).args(verb).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let known = [&[][..], &["check"], &["demo"]].map(help).concat();
    for (path, page) in pages() {
        for line in commands(&page) {
            for words in calls(&line, "deployd") {
                for word in words.iter().skip(1).filter(|word| word.starts_with("--")) {
                    assert!(known.contains(&**word), "{}: {line}: {word}", path.display());
                }
                if let Some(verb) = words.get(1).filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) {
                    let known = ["check", "demo", "deployctl", "git"].contains(&&**verb);
                    assert!(known || words.len() > 2 || words.len() == 1, "{}: {line}", path.display());
                }
            }
        }
    }
}

/// What a block of YAML is.
fn is_plan(block: &Block) -> bool {
    block.body.contains("deployPlanItems:")
}

fn is_service(block: &Block) -> bool {
    block.body.lines().any(|line| line.starts_with("serviceId:"))
}

fn is_configuration(block: &Block) -> bool {
    block.body.contains("/etc/deployd/deployd.yaml")
        || block.body.starts_with("# The configuration of deployd")
}

/// The services that a plan names, and that its page does not describe.
fn stand_ins(plan: &str, described: &str) -> Vec<(String, String)> {
    let ids = plan.split("serviceId:").skip(1);
    let ids = ids.map(|rest| rest.trim().chars().take_while(char::is_ascii_digit).collect::<String>());
    let missing: BTreeSet<_> = ids.filter(|id| !described.contains(&format!("serviceId: {id}\n"))).collect();
    let service = |id: String| {
        let text = format!(
            "serviceId: {id}\nname: s{id}\nruntime: process\ncontainers: [{{ name: c{id} }}]\n\
             run: {{ command: [/bin/true], user: nobody }}\nbuild: {{ command: [make], output: dist }}\n"
        );
        (format!("s{id}.yaml"), text)
    };
    missing.into_iter().map(service).collect()
}

/// `deployd check`: 5 when a file is not valid, 78 when the configuration is not. Whether this host is fit does
/// not matter here.
fn checked(page: &Path, blocks: &[Block]) {
    let directory = tempfile::tempdir().unwrap();
    let services = directory.path().join("services.d");
    fs::create_dir(&services).unwrap();
    let mut described = String::new();
    for (number, block) in blocks.iter().filter(|block| is_service(block)).enumerate() {
        let mut text = block.body.to_string();
        if text.contains("unit:") {
            // Only where a systemd runs: what a unit stands for can't be said here.
            let lines: Vec<_> = text.lines().filter(|line| !line.contains("unit:")).collect();
            text = lines.join("\n") + "\nrun: { command: [/bin/true], user: nobody }\n";
        }
        if is_root() && !text.contains("user:") && text.contains("run:\n") {
            // The page is for somebody who isn't.
            text = text.replacen("run:\n", "run:\n  user: nobody\n", 1);
        }
        described.push_str(&text);
        fs::write(services.join(format!("{number}.yaml")), text).unwrap();
    }
    let mut plans = Vec::new();
    for (number, block) in blocks.iter().filter(|block| is_plan(block)).enumerate() {
        for (name, text) in stand_ins(block.body, &described) {
            fs::write(services.join(name), text).unwrap();
        }
        let plan = directory.path().join(format!("plan-{number}.yaml"));
        fs::write(&plan, block.body).unwrap();
        plans.push(plan);
    }
    let configuration = blocks.iter().find(|block| is_configuration(block)).map_or("", |block| block.body);
    let file = directory.path().join("deployd.yaml");
    fs::write(&file, configuration).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_deployd"));
    check.arg("--config").arg(&file).arg("--services-dir").arg(&services);
    check.arg("--state-dir").arg(directory.path().join("state")).arg("check").args(&plans);
    let output = check.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", page.display());
}

#[test]
fn what_the_pages_show_is_valid() {
    let mut checks = 0;
    for (path, page) in pages() {
        let blocks: Vec<_> = blocks(&page).into_iter().filter(|block| block.language == "yaml").collect();
        let ours = |block: &Block| is_plan(block) || is_service(block) || is_configuration(block);
        if blocks.iter().any(ours) {
            checked(&path, &blocks);
            checks += 1;
        }
    }
    assert!(checks >= 5, "{checks}");
}
