//! Manual pages and completion scripts, made from the definition of the command line itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_complete::aot::Generator;

/// The script with which a shell completes a program.
pub type Script = fn(Shell, &Command) -> io::Result<Vec<u8>>;

/// Writes into a directory `man/` and `completions/` of a program whose manual pages are of this section.
pub fn write(program: &Command, section: &str, script: Script, directory: &Path) -> io::Result<()> {
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let mut built = program.clone().disable_help_subcommand(true);
    built.build();
    manual(&built, built.get_name(), section, &pages)?;
    for shell in Shell::value_variants() {
        if matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish) {
            let name = shell.file_name(program.get_name());
            File::create(completions.join(name))?.write_all(&script(*shell, program)?)?;
        }
    }
    Ok(())
}

/// A script that knows a program's definition, and nothing else.
pub fn fixed(shell: Shell, program: &Command) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program.clone(), program.get_name(), &mut script);
    Ok(script)
}

/// The script of deployctl, which asks the running daemon.
pub fn asking(shell: Shell, _: &Command) -> io::Result<Vec<u8>> {
    deployctl::cli::completions(shell)
}

/// A page of a command, and one of each command below it: `deployctl-plan-check.1`.
fn manual(command: &Command, name: &str, section: &str, directory: &Path) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        manual(inner, &format!("{name}-{}", inner.get_name()), section, directory)?;
    }
    // The page is named as it is found, `man deployctl-plan-check`; its synopsis is what is typed.
    let page = clap_mangen::Man::new(command.clone()).section(section).title(name.to_uppercase());
    let page = page.source(format!("deployd {}", env!("CARGO_PKG_VERSION"))).manual("deployd");
    page.render(&mut File::create(directory.join(format!("{name}.{section}")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write(&deployctl::cli::definition(), "1", asking, directory.path()).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join("man").join(name));
        assert!(page("deployctl.1").unwrap().contains(".SH DESCRIPTION"));
        let check = page("deployctl-plan-check.1").unwrap();
        assert!(
            check.contains("deployctl plan check") || check.contains("deployctl\\-plan\\-check"),
            "{check}"
        );
        for file in ["deployctl.bash", "_deployctl", "deployctl.fish"] {
            assert!(directory.path().join("completions").join(file).exists(), "{file}");
        }
    }
}
