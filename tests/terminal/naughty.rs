//! Texts that mean ill, wherever people may write some: nothing that deployctl prints drives a terminal.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, deployctl, items, skip, user};
use crate::pty::Pty;

/// What drives terminals: sequences, both kinds of control characters, marks that turn the direction.
const EVIL: [&str; 14] = [
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}]0;owned\u{7}",
    "\u{1b}]52;c;ZXZpbA==\u{1b}\\",
    "\u{1b}[?1049h\u{1b}[?25l",
    "\u{1b}P+q544e\u{1b}\\",
    "\u{1b}[6n\u{1b}[c",
    "\u{9b}31m\u{9d}0;owned\u{9c}",
    "\u{90}\u{98}\u{9e}\u{9f}\u{85}\u{84}",
    "\u{8}\u{8}\u{8}\u{7f}\u{7}\u{b}\u{c}",
    "\rroot@host:~# rm -rf /",
    "\u{202e}gnp.exe\u{202c}\u{2066}x\u{2069}\u{200f}",
    "\u{e}shifted\u{f}\u{0}",
    "&lt;script&gt;alert(1)<script>\u{1b}[0m",
    "\u{5}\u{11}\u{13}\u{1a}\u{1c}",
];

fn evil() -> String {
    EVIL.join(" ")
}

/// A text for a double-quoted value of YAML, whatever it is made of.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_ascii_graphic() || c == ' ' => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// For a shell's printf: as bytes, in octal.
fn octal(text: &str) -> String {
    text.bytes().fold(String::new(), |all, byte| all + &format!("\\{byte:03o}"))
}

/// Whether an output could drive a terminal by itself.
fn harmful(text: &str) -> Option<char> {
    text.chars().find(|&c| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// A daemon whose services say such things, are described so, fail so; of whose task 1 all that is known.
fn house(text: &str) -> Daemon {
    let mut daemon = Daemon::new();
    let says = daemon.write("says", &octal(text));
    let say = format!("printf \"$(cat {})\"; printf '\\n'", says.display());
    let script = daemon.write("say.sh", &format!("{say}\n{say} >&2\nexec sleep 1000\n"));
    let fails = daemon.write("fail.sh", &format!("{say}\n{say} >&2\nexit 1\n"));
    let described = format!("description: {}\n", quoted(text));
    let run = |script: &Path| {
        format!(
            "run:\n  command: [/bin/sh, {}]\n{}  environment: {{ EVIL: {} }}\n",
            script.display(),
            user(),
            quoted(&text.replace('\0', ""))
        )
    };
    daemon.add_running(1, &[("c1", &quoted("label one"))], &run(&script), &described);
    let hook = format!("hooks: {{ preDeploy: [/bin/sh, {}] }}\n", fails.display());
    daemon.add_running(2, &[("c2", "")], &run(&fails), &format!("health: {{ settle: 1s }}\n{described}"));
    daemon.add_running(3, &[("c3", "")], &run(&script), &format!("{described}{hook}"));
    daemon.launch();
    daemon
}

fn plan(text: &str, service: u64) -> String {
    format!("comment: {}\n{}", quoted(text), items(&[(service, 0, "START", "")]))
}

/// Everything that shows texts of others.
const COMMANDS: [&[&str]; 22] = [
    &[],
    &["info"],
    &["list"],
    &["status", "1"],
    &["status", "2"],
    &["watch", "1"],
    &["watch", "2"],
    &["watch", "3"],
    &["report", "1"],
    &["report", "2"],
    &["report", "3"],
    &["logs", "2"],
    &["logs", "3"],
    &["events"],
    &["history"],
    &["plan", "list"],
    &["plan", "new"],
    &["plan", "check", "broken.yaml"],
    &["service", "list"],
    &["service", "show", "s1"],
    &["service", "logs", "s1"],
    &["execute", "p1", "--dry-run"],
];

fn all_tasks(daemon: &Daemon, text: &str) {
    daemon.executed("p1", &plan(text, 1), "SUCCEEDED");
    daemon.executed("p2", &plan(text, 2), "FAILED");
    daemon.executed("p3", &plan(text, 3), "FAILED");
    let broken =
        format!("{}: {}\ndeployPlanItems: [{{ {}: 1 }}]\n", quoted(text), quoted(text), quoted("\u{9b}x"));
    daemon.write("broken.yaml", &broken);
}

#[test]
fn nothing_that_is_printed_drives_a_terminal() {
    let daemon = house(&evil());
    all_tasks(&daemon, &evil());
    let mut seen = 0;
    for command in COMMANDS {
        for form in ["table", "json", "yaml"] {
            let ran = daemon.ctl(&[command, &["-o", form]].concat());
            for (stream, bytes) in [("output", ran.stdout), ("errors", ran.stderr)] {
                let text =
                    String::from_utf8(bytes).unwrap_or_else(|_| panic!("{command:?} -o {form}: no UTF-8"));
                assert_eq!(harmful(&text), None, "{stream} of {command:?} -o {form}: {text:?}");
                seen += usize::from(text.contains("owned"));
            }
        }
    }
    for form in ["markdown", "html"] {
        for id in ["1", "2", "3"] {
            let text = daemon.ctl_ends(0, &["report", id, "-o", form]);
            assert_eq!(harmful(&text), None, "report {id} -o {form}: {text:?}");
            // Four blanks make a block of code in Markdown: nothing in it is markup.
            let is_markup =
                |line: &str| line.contains("<script>") && !(form == "markdown" && line.starts_with("    "));
            assert!(!text.lines().any(is_markup), "report {id} -o {form}: {text:?}");
            seen += usize::from(text.contains("owned"));
        }
    }
    // Escaped, but there: it is not by being left out that it is harmless.
    assert!(seen > 40, "only {seen} outputs show what was said");
    // A document holds the very text.
    let report = daemon.json(&["report", "1"]);
    assert_eq!(report["task"]["comment"], Value::from(evil()));
}

/// What the picture of a task itself sends.
fn without_own_sequences(written: &str) -> String {
    let mut rest = written.to_string();
    for own in [
        "\u{1b}[?2026h",
        "\u{1b}[?2026l",
        "\u{1b}[?25l",
        "\u{1b}[?25h",
        "\u{1b}[K",
        "\u{1b}[J",
        "\u{1b}[0m",
        "\u{1b}[1m",
        "\u{1b}[2m",
    ] {
        rest = rest.replace(own, "");
    }
    for code in [31, 32, 33, 36] {
        rest = rest.replace(&format!("\u{1b}[{code}m"), "");
    }
    for colour in 1..=6 {
        rest = rest.replace(&format!("\u{1b}[38;5;{colour}m"), "");
    }
    for lines in (1..200).rev() {
        rest = rest.replace(&format!("\u{1b}[{lines}A"), "");
    }
    rest.replace("\u{1b}]777;end\u{7}", "").replace("\r\n", "\n").replace('\r', "")
}

#[test]
fn on_a_terminal_there_is_nothing_but_the_views_own_sequences() {
    let daemon = house(&evil());
    for (service, code) in [(1, 0), (2, 10), (3, 10)] {
        let name = format!("p{service}");
        let file = daemon.write(&format!("{name}.yaml"), &plan(&evil(), service));
        let lines: [&[&str]; 4] = [
            &["execute", "-f", file.to_str().unwrap(), "--watch"],
            &["report", &service.to_string()],
            &["plan", "show", &name],
            &["logs", &service.to_string()],
        ];
        for (line, code) in lines.into_iter().zip([code, 0, 0, 0]) {
            let mut command = Command::new(deployctl());
            command.env("DEPLOYD_SOCKET", daemon.socket()).args(line);
            let mut terminal = Pty::run(&command, 40, 120);
            assert_eq!(terminal.wait().code(), Some(code), "{line:?}: {}", terminal.shown());
            let written = without_own_sequences(&String::from_utf8(terminal.written.clone()).unwrap());
            assert_eq!(harmful(&written), None, "{line:?}: {written:?}");
        }
    }
}

#[test]
fn a_whole_list_of_naughty_strings_drives_nothing() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/third-party/strings/blns.txt");
    let Ok(list) = std::fs::read_to_string(&list) else {
        return skip(&format!("there is no {}", list.display()));
    };
    let strings: Vec<_> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    // A comment may be long, but not as long as all of them.
    for part in strings.chunks(100) {
        let text = part.join(" ").replace('\0', "");
        let daemon = house(&text);
        all_tasks(&daemon, &text);
        for command in COMMANDS {
            for form in ["table", "json"] {
                let ran = daemon.ctl(&[command, &["-o", form]].concat());
                let text = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
                assert_eq!(harmful(&text), None, "{command:?} -o {form}: {text:?}");
            }
        }
        assert_eq!(daemon.json(&["report", "1"])["task"]["comment"], Value::from(text));
    }
}
