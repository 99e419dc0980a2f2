//! What is run follows what is in the locations, whatever becomes of the folders themselves.

use crate::support::Plugins;

const UP: &str = "echo up\nread line\n";

#[test]
fn a_folder_that_is_replaced_is_still_followed() {
    let plugins = Plugins::new();
    let folder = plugins.path("current");
    let fill = |name: &str, script: &str| {
        std::fs::create_dir(plugins.path(name)).unwrap();
        plugins.add(&format!("{name}/x.sh"), script);
    };
    fill("current", UP);
    fill("next", "echo next\nread line\n");
    let mut host = plugins.host_at(&[&folder]).env("HOST_WATCH", "1").start();
    host.wait_for("] up");
    std::fs::rename(&folder, plugins.path("old")).unwrap();
    std::fs::rename(plugins.path("next"), &folder).unwrap();
    host.wait_for("] next");
    plugins.add("current/new.sh", UP);
    host.wait_for("new.sh] up");
    host.end();
}

#[test]
fn a_link_that_is_switched_is_followed() {
    let plugins = Plugins::new();
    for version in ["v1", "v2"] {
        std::fs::create_dir(plugins.path(version)).unwrap();
        plugins.add(&format!("{version}/x.sh"), &format!("echo {version}\nread line\n"));
    }
    let link = plugins.path("current");
    std::os::unix::fs::symlink("v1", &link).unwrap();
    let mut host = plugins.host_at(&[&link]).env("HOST_WATCH", "1").start();
    host.wait_for("] v1");
    std::os::unix::fs::symlink("v2", plugins.path("switch")).unwrap();
    std::fs::rename(plugins.path("switch"), &link).unwrap();
    host.wait_for("] v2");
    plugins.add("v2/new.sh", UP);
    host.wait_for("new.sh] up");
    host.end();
}

#[test]
fn a_location_deep_below_what_exists_is_noticed_once_it_appears() {
    let plugins = Plugins::new();
    let deep = plugins.path("later/deep/plugins");
    let file = plugins.path("other/single.sh");
    let mut host = plugins.host_at(&[&deep, &file]).env("HOST_WATCH", "1").start();
    host.wait_for_all(&["deep/plugins does not exist", "single.sh does not exist"]);
    for folder in ["later", "later/deep", "later/deep/plugins", "other"] {
        std::fs::create_dir(plugins.path(folder)).unwrap();
    }
    plugins.add("later/deep/plugins/x.sh", UP).add("other/single.sh", UP);
    host.wait_for_all(&["x.sh] up", "single.sh] up"]);
    plugins.add("other/single.sh", "echo changed in place\nread line\n");
    host.wait_for("changed in place");
    plugins.add("other/single.sh.plugin.toml", "enabled = false\n");
    host.wait_until("single", |s| s["state"] == "disabled");
    host.end();
}

#[test]
fn a_folder_above_the_location_that_is_replaced_is_noticed_in_time() {
    let plugins = Plugins::new();
    for version in ["app", "next"] {
        std::fs::create_dir_all(plugins.path(&format!("{version}/plugins"))).unwrap();
        plugins.add(&format!("{version}/plugins/x.sh"), &format!("echo from {version}\nread line\n"));
    }
    let location = plugins.path("app/plugins");
    let mut host = plugins.host_at(&[&location]).env("HOST_WATCH", "1").start();
    host.wait_for("from app");
    std::fs::rename(plugins.path("app"), plugins.path("old")).unwrap();
    std::fs::rename(plugins.path("next"), plugins.path("app")).unwrap();
    host.wait_for("from next");
    host.end();
}

#[test]
fn pipes_among_the_files_stop_nothing() {
    let plugins = Plugins::new();
    plugins.add("x.sh", UP);
    let pipe = |name: &str| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, plugins.path(name), mode).unwrap();
    };
    pipe(".pluginignore");
    let mut host = plugins.host().env("HOST_WATCH", "1").start();
    host.wait_for("] up");
    pipe("x.sh.plugin.toml");
    let status = host.wait_until("x", |s| s["state"] == "failed");
    assert!(status["last_error"].as_str().unwrap().contains("not a regular file"), "{status}");
    std::fs::remove_file(plugins.path("x.sh.plugin.toml")).unwrap();
    host.wait_for("] up");
    host.end();
}
