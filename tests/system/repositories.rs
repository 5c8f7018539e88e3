//! Built-in repositories on an installed host: a member of the group pushes with what the page says and nothing else.

use crate::machine::Machine;

const SHOP: &str = "serviceId: 1\nname: shop\ncontainers: [{ name: shop-1 }]\n\
    run: { command: [/bin/sleep, '1000'], user: daemon }\n\
    build: { command: [/bin/sh, -c, 'mkdir out; cp file out; id -un'], output: out }\nhealth: { settle: 0s }\n";
const PLAN: &str = "deployPlanItems: [{ serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: shop, \
    compileRepoBranch: main }]\n";

/// The commands of the page, up to the section about other hosts, as a reader types them.
fn commands() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/howto/repositories.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (here, _) = page.split_once("## Push from another host").unwrap();
    let blocks = here.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_string).collect()
}

/// Each git of the machine, by its directory.
fn gits(machine: &Machine) -> Vec<String> {
    let found = machine.sh("ls -d /usr/local/bin/git /usr/bin/git 2>/dev/null || :");
    found.lines().map(|git| git.strip_suffix("/git").unwrap().to_string()).collect()
}

#[test]
fn an_operator_pushes_as_the_page_says_and_cannot_touch_the_files() {
    let Some(machine) = Machine::with_deployd("repositories", &[("shop.yaml", SHOP)]) else { return };
    machine.sh("useradd -m -G deployd una; useradd -m -G deployd bert");
    machine.write("/home/una/plan.yaml", PLAN);
    // Nothing but a home, in which git finds no configuration.
    let una = |path: &str, command: &str| {
        format!(
            "cd /home/una; {} env -i HOME=/home/una PATH={path}:/usr/bin:/bin sh -ec {}",
            become_user("una"),
            quoted(command)
        )
    };
    let commit = "rm -rf checkout; git init -q -b main checkout; cd checkout; echo \"$1\" >file; git add .; \
                  git -c user.name=u -c user.email=u@localhost commit -qm v";
    let commands = commands();
    let [create, push, clone, delete] = commands.as_slice() else { panic!("{commands:?}") };
    let gits = gits(&machine);
    assert!(!gits.is_empty());
    for (number, path) in gits.iter().enumerate() {
        let printed = machine.sh(&format!("{} 2>&1", una(path, create)));
        assert!(printed.lines().any(|line| line == format!("push to it:  {push}")), "{printed}");
        let typed = format!(
            "{}; {push}; cd ..; rm -rf shop; {clone}; cat shop/file",
            commit.replace("$1", &number.to_string())
        );
        assert_eq!(machine.sh(&una(path, &typed)), format!("{number}\n"), "{path}");
        let task = machine.sh(&una(path, "deployctl execute -f plan.yaml --wait"));
        let built = "cat /var/lib/deployd/services/shop/containers/shop-1/current/file";
        assert_eq!(machine.sh(built), format!("{number}\n"), "task {task}");
        // Root's own pushes to the path work, too.
        machine.sh("cd /home/una/checkout && git -c safe.directory=/home/una/checkout push -q /var/lib/deployd/git/shop.git HEAD:root");
        files_are_nobodys(&machine, path);
        machine.sh(&una(path, delete));
    }
}

/// What an operator tries with the files of a repository, and what root's daemon then makes of what root has planted.
fn files_are_nobodys(machine: &Machine, path: &str) {
    let bare = "/var/lib/deployd/git/shop.git";
    for attempt in [
        format!("ls {bare}"),
        format!("cat {bare}/config"),
        format!("echo /srv >{bare}/commondir"),
        format!("echo /srv >{bare}/objects/info/alternates"),
        format!("mv {bare} {bare}.old"),
        format!("ln -s /srv {bare}/refs/heads/x"),
        "touch /var/lib/deployd/git/new.git".to_string(),
    ] {
        machine.sh(&format!("! {} sh -c {} 2>/dev/null", become_user("bert"), quoted(&attempt)));
    }
    // All that was pushed was written by the one user who may.
    assert_eq!(
        machine.sh(&format!("find {bare} -type f -user root | sed 's|.*git/||' | sort")),
        "HEAD\nconfig\n"
    );
    assert_eq!(machine.sh(&format!("find {bare} -not -group deployd-git")), "");
    // While it fetches, root reads nothing itself.
    machine.sh(&format!("mkdir -p {bare}/objects/info; echo /srv/objects >{bare}/objects/info/alternates"));
    let said = machine.sh("deployctl execute -f /home/una/plan.yaml --wait 2>&1 || deployctl report \
         $(deployctl list --limit 1 -o json | grep -om1 '\"id\": *[0-9]*' | grep -o '[0-9]*')");
    assert!(said.contains(&format!("{bare}/objects/info/alternates makes git read")), "{path}: {said}");
    machine.sh(&format!("rm {bare}/objects/info/alternates"));
}

#[test]
fn repositories_of_an_earlier_version_are_taken_from_the_operators() {
    let Some(machine) = Machine::with_deployd("takeover", &[("shop.yaml", SHOP)]) else { return };
    machine.sh("useradd -m -G deployd una; systemctl stop deployd");
    // As an earlier version made them, and as an operator could then change them.
    machine.sh(
        "cd /var/lib/deployd/git; umask 002; git init -q --bare --shared=group -b main shop.git; chgrp -R deployd shop.git; \
         git init -q -b main /srv/w; cd /srv/w; echo old >file; git add .; \
         git -c user.name=u -c user.email=u@localhost commit -qm v; git push -q /var/lib/deployd/git/shop.git main; \
         mkdir -p /var/lib/deployd/git/shop.git/hooks; cd /var/lib/deployd/git/shop.git/hooks; \
         printf '#!/bin/sh\\ntouch /srv/pwned\\n' >post-receive; chmod 755 post-receive; \
         chown -R una:deployd /var/lib/deployd/git/shop.git/hooks /var/lib/deployd/git/shop.git/objects",
    );
    machine.sh("systemctl start deployd");
    let bare = "/var/lib/deployd/git/shop.git";
    assert_eq!(
        machine.sh(&format!("stat -c '%U %G' {bare}; ls -d {bare}/hooks 2>/dev/null || :")),
        "root deployd-git\n"
    );
    assert_eq!(machine.sh(&format!("find {bare} -mindepth 1 -not -user deployd-git -not -name config")), "");
    machine
        .sh(&format!("! {} sh -c 'echo x >{bare}/objects/info/alternates' 2>/dev/null", become_user("una")));
    machine.write("/srv/plan.yaml", PLAN);
    machine.sh("deployctl execute -f /srv/plan.yaml --wait");
    // What root had not pushed before goes the new way.
    machine.sh("cd /srv/w; echo new >file; git -c user.name=u -c user.email=u@localhost commit -qam v; git push -q /var/lib/deployd/git/shop.git main; deployctl execute -f /srv/plan.yaml --wait; test ! -e /srv/pwned");
    assert_eq!(machine.sh("cat /var/lib/deployd/services/shop/containers/shop-1/current/file"), "new\n");
}

/// The words before a command of this user's, with the user's groups.
fn become_user(name: &str) -> String {
    format!("setpriv --reuid={name} --regid={name} --init-groups")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
