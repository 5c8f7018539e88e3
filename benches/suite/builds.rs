//! W6: a commit becomes a release: fetched, built, switched to.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::daemon::{Daemon, timed};
use crate::packages::Numbers;
use crate::series::Series;

const MAKEFILE: &str = "S=$(wildcard c/*.c)\nO=$(S:c/%.c=build/%.o)\nbuild/app: $(O)\n\t$(CC) -o $@ $(O)\n\
build/%.o: c/%.c\n\t@mkdir -p build\n\t$(CC) -O1 -c -o $@ $<\ndist: build/app\n\tmkdir -p dist/bin\n\
\tcp build/app dist/bin/run\n\tcp -r src dist/src\n.PHONY: dist\n";

/// W6.
pub fn compile(options: &Options) -> Result<()> {
    let (files, commits) = if options.small { (100, 10) } else { (2_000, 200) };
    let directory = tempfile::Builder::new().prefix("deployd-bench-repository").tempdir()?;
    let repository = directory.path().join("app.git");
    make(&repository, files, commits)?;
    let url = format!("file://{}", repository.display());
    let mut series = Series::default();
    series.case("limit: git archive, make, install", || {
        let to = tempfile::tempdir()?;
        let script = format!(
            "git -C {} archive main | tar x && make -s dist && mkdir release && cp -r dist/. release && \
             sync -f . && ln -s release current",
            repository.display()
        );
        Ok(vec![("first", timed(Command::new("bash").args(["-euc", &script]).current_dir(&to))?)])
    });
    series.case("deployd", || {
        let mut daemon = Daemon::new()?;
        let says = "run: { command: [./bin/run]@user }\nhealth: { settle: 0s }\n\
                    build: { command: [make, -s, dist], output: dist }";
        daemon.write("services.d/s1.yaml", &crate::daemon::service(1, says))?;
        daemon.write("deployd.yaml", &format!("git: {{ allowedRepositories: [\"{url}\"] }}\n"))?;
        daemon.start()?;
        let text = format!(
            "deployPlanItems:\n  - {{ serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: \"{url}\", compileRepoBranch: main }}\n"
        );
        daemon.store_plan("up", &text)?;
        let first = daemon.execute("up")?;
        ensure!(daemon.running() == 1, "it does not run");
        Ok(vec![("first", first), ("the same commit again", daemon.execute("up")?)])
    });
    series.case("shell: shallow clone, make, install", || {
        let to = tempfile::tempdir()?;
        let script = format!(
            "git clone -q --depth 1 -b main {url} src0 && cd src0 && make -s dist && cd .. && \
             cp -r src0/dist release && ln -s release current"
        );
        Ok(vec![("first", timed(Command::new("bash").args(["-euc", &script]).current_dir(&to))?)])
    });
    series.run(options.rounds);
    Ok(())
}

/// A repository of text, a program in C, and its Makefile.
fn make(repository: &Path, files: usize, commits: usize) -> Result<()> {
    timed(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(repository))?;
    let mut import = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["fast-import", "--quiet", "--done"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut to = std::io::BufWriter::new(import.stdin.take().context("it has a standard input")?);
    let mut numbers = Numbers(20_261_122);
    let names: Vec<_> = (0..files).map(|file| format!("src/d{}/f{file}.txt", file % 160)).collect();
    for commit in 0..commits {
        let seconds = 1_767_225_600 + commit * 3_600;
        writeln!(to, "commit refs/heads/main\ncommitter Bench <bench@localhost> {seconds} +0000\ndata 2\nc")?;
        let mut put = |name: &str, content: &[u8]| -> Result<()> {
            writeln!(to, "M 100644 inline {name}\ndata {}", content.len())?;
            to.write_all(content)?;
            Ok(writeln!(to)?)
        };
        let changed: Vec<&String> = if commit == 0 {
            names.iter().collect()
        } else {
            (0..19).map(|_| &names[numbers.below(files)]).collect()
        };
        for name in changed {
            let size = 300 + numbers.below(6_000);
            put(name, &numbers.text(size))?;
        }
        if commit == 0 {
            put("Makefile", MAKEFILE.as_bytes())?;
            put("c/main.c", b"#include <unistd.h>\nint main(void){for(;;)pause();}\n")?;
        }
        for unit in (1..20).filter(|unit| commit == 0 || unit % 20 == commit % 20) {
            put(&format!("c/m{unit}.c"), program(unit, commit).as_bytes())?;
        }
    }
    writeln!(to, "done")?;
    to.flush()?;
    drop(to);
    ensure!(import.wait()?.success(), "git fast-import has failed");
    fs::metadata(repository.join("HEAD"))?;
    Ok(())
}

fn program(unit: usize, version: usize) -> String {
    let function = |number: usize| {
        format!(
            "int f{unit}_{number}(int x){{int s={version};for(int i=0;i<x;i++)s+=(i*{})^(s>>{});return s;}}\n",
            number * 37 + unit,
            number % 7 + 1
        )
    };
    (0..60).map(function).collect()
}
