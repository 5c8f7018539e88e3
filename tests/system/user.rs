//! deployd without root: under a user's own systemd, with that user's units. And units that exist already.

use crate::machine::Machine;

const WEB: &str = "serviceId: 1\nname: web\nruntime: systemd\ncontainers: [{ name: web-1 }]\n\
    run: { command: [/bin/sh, -c, 'echo up; exec sleep 1000'] }\nhealth: { settle: 0s }\n";

#[test]
fn a_user_releases_units_of_their_own() {
    let Some(machine) = Machine::boot("user") else { return };
    machine.sh("useradd -m -s /bin/sh una; loginctl enable-linger una");
    let uid = machine.sh("id -u una").trim().to_string();
    machine.until(&format!("test -S /run/user/{uid}/bus"));
    let una = |command: &str| {
        let environment = format!("XDG_RUNTIME_DIR=/run/user/{uid} HOME=/home/una");
        format!("cd /home/una && runuser -u una -- env {environment} sh -ec '{command}'")
    };
    let launch =
        una("systemd-run --user --quiet --collect --unit=daemon -p KillMode=process deployd --user 2>&1");
    machine.write("/home/una/.config/deployd/services.d/web.yaml", WEB);
    machine.write("/home/una/start.yaml", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.sh("chown -R una /home/una; chmod 755 /home/una");
    machine.sh(&launch);
    machine.until(&una("deployctl service list"));
    machine.sh(&una("deployctl execute -f start.yaml --wait"));
    let active = una("systemctl --user is-active deployd-web-web-1");
    assert_eq!(machine.sh(&active), "active\n");
    let output = "cat /home/una/.local/state/deployd/services/web/containers/web-1/output.log";
    assert_eq!(machine.sh(output), "up\n");
    // A build is a unit of the user's, too; it can give up the network.
    let build = "serviceId: 2\nname: shop\nruntime: systemd\ncontainers: [{ name: shop-1 }]\n\
        run: { command: [/bin/sleep, '1000'] }\nbuild: { command: [/bin/bash, build.sh], output: out }\n\
        health: { settle: 0s }\n";
    machine.write("/home/una/.config/deployd/services.d/shop.yaml", build);
    machine.write(
        "/home/una/source/build.sh",
        "mkdir out; cat /proc/self/cgroup >out/found; (echo >/dev/tcp/127.0.0.1/9) 2>>out/found; :\n",
    );
    let plan = "deployPlanItems: [{ serviceId: 2, deployment: COMPILE_DEPLOY, compileRepoPath: shop, \
                compileRepoBranch: main }]\n";
    machine.write("/home/una/build.yaml", plan);
    machine.sh("chown -R una /home/una");
    machine.sh(&una(
        "deployctl service reload; deployctl repo create shop; cd source; git init -q -b main; \
        git add .; git -c user.name=t -c user.email=t@localhost commit -qm v; \
        git push -q /home/una/.local/state/deployd/git/shop.git HEAD:main",
    ));
    machine.sh(&una("deployctl execute -f build.yaml --wait || { deployctl report 2; false; }"));
    let found =
        machine.sh("cat /home/una/.local/state/deployd/services/shop/containers/shop-1/current/found");
    assert!(found.contains("deployd-build-2-0-2.service"), "{found}");
    assert!(found.contains("not supported"), "{found}");
    // The daemon dies; the container does not, and is known afterwards.
    machine.sh(&una("systemctl --user kill --kill-whom=main -s KILL daemon"));
    machine.until(&una("! systemctl --user is-active -q daemon"));
    machine.sh(&launch);
    machine.until(&una("deployctl service show web | grep -q running"));
    assert_eq!(machine.sh(output), "up\n");
    // It comes back with the machine, without anybody logging in.
    machine.reboot();
    machine.until(&active);
}

#[test]
fn a_catalog_file_is_made_out_of_units() {
    let Some(machine) = Machine::boot("import") else { return };
    machine.install();
    machine.write(
        "/etc/systemd/system/old@.service",
        "[Unit]\nDescription=Old: shop #%i\n[Service]\nExecStart=/bin/sleep 1000\n",
    );
    machine.write("/etc/systemd/system/old-1.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    machine.sh("systemctl daemon-reload");
    let all = machine.sh_ends(1, "deployctl service import old@1 nothing --id 1 --name old");
    assert!(all.contains("nothing.service is not-found"), "{all}");
    let made = machine.sh("deployctl service import old@1 old@2 old-1.service --id 1 --name old");
    assert!(made.contains("Old: shop #1") && made.contains("unit: old@2.service"), "{made}");
    machine.sh(
        "deployctl service import old@1 old@2 old-1.service --id 1 --name old -f /etc/deployd/services.d/old.yaml",
    );
    machine.sh("deployd check; systemctl start deployd");
    let task = machine.execute("start", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(machine.sh("systemctl is-active old@1 old@2 old-1"), "active\nactive\nactive\n");
}
