//! Rules of the code itself: no module circles, layers in one direction, short files, nothing of one machine.

#![allow(clippy::unwrap_used)]

#[path = "tidy/modules.rs"]
mod modules;

use std::{fs, path::Path, process::Command};

use modules::Modules;

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Crates whose modules are looked at: name, and folder of the sources.
const CRATES: &[(&str, &str)] = &[
    ("ms_security", "security/src"),
    ("ms_register", "register/src"),
    ("ms_http", "http/src"),
    ("ms_gregister", "gregister/src"),
    ("ms_rpc", "rpc/src"),
    ("ms_mq", "mq/src"),
    ("ms_lb", "lb/src"),
    ("ms_gmq", "gmq/src"),
    ("ms_msgo", "msgo/src"),
    ("ms_gate", "gate/src"),
    ("ms_cli", "cli/src"),
    ("bench", "bench/src"),
];

/// Layers of `ms-rpc`, from the bottom up, as ARCHITECTURE.md lists them: a module uses those in its own line or above it.
const LAYERS: &[&[&str]] = &[
    &["code", "custom", "shard", "sync", "unanswered", "recycle"],
    &["blob", "buffer", "codec", "compress", "body", "encodings", "measure"],
    &["proto"],
    &["call", "net"],
    &["layers", "meter", "service", "tls"],
    &["client", "server"],
    &["local", "axum", "internals", "lib"],
];

/// Crates from the bottom up: one depends on those above its own line alone, tests aside.
const CRATE_LAYERS: &[&[&str]] =
    &[&["security"], &["register", "http"], &["rpc"], &["gate", "gregister", "lb", "mq", "msgo"], &["gmq"], &["cli"]];

/// Lines that a source file has at most.
const LINES: usize = 500;

fn tracked(patterns: &[&str]) -> Vec<String> {
    let listed = Command::new("git").arg("ls-files").args(patterns).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git lists the files");
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn no_modules_form_a_circle() {
    let circles: Vec<_> = CRATES
        .iter()
        .flat_map(|(name, folder)| Modules::read(name, &root().join(folder)).circles())
        .map(|circle| circle.join("\n    "))
        .collect();
    assert!(circles.is_empty(), "modules that use each other:\n{}", circles.join("\n"));
}

#[test]
fn the_layers_of_the_rpc_crate_are_used_downwards() {
    let layer = |module: &str| {
        let top = module.split("::").next().unwrap_or_default();
        let found = LAYERS.iter().position(|names| names.contains(&top));
        found.unwrap_or_else(|| panic!("module `{top}` is in no layer: add it to LAYERS and to ARCHITECTURE.md"))
    };
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in LAYERS.iter().copied().flatten() {
        assert!(architecture.contains(&format!("`{name}`")), "ARCHITECTURE.md does not list the layer of `{name}`");
    }
    let modules = Modules::read("ms_rpc", &root().join("rpc/src"));
    let upwards: Vec<_> = modules
        .arrows()
        .filter(|(from, to, _)| {
            let (from_top, to_top) = (from.split("::").next(), to.split("::").next());
            let siblings = from_top != to_top && layer(from) == layer(to) && layer(from) == 5;
            layer(from) < layer(to) || siblings
        })
        .map(|(from, to, name)| format!("{from} uses {to} ({name})"))
        .collect();
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}

#[test]
fn crates_depend_on_those_below() {
    let layer = |folder: &str| CRATE_LAYERS.iter().position(|folders| folders.contains(&folder));
    for (index, folder) in
        CRATE_LAYERS.iter().enumerate().flat_map(|(index, row)| row.iter().map(move |name| (index, name)))
    {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let own = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for line in own.lines() {
            let Some(used) = line.strip_prefix("ms-").and_then(|line| line.split(['.', ' ']).next()) else { continue };
            let lower = layer(used).is_none_or(|layer| layer < index);
            assert!(lower, "{folder} depends on ms-{used}, which is not below it: see ARCHITECTURE.md");
        }
    }
}

#[test]
fn source_files_are_short() {
    let long: Vec<_> = tracked(&["*.rs"])
        .into_iter()
        .filter_map(|file| {
            let lines = fs::read_to_string(root().join(&file)).ok()?.lines().count();
            (lines > LINES).then(|| format!("{file}: {lines} lines"))
        })
        .collect();
    assert!(long.is_empty(), "files over {LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn no_path_of_a_machine_is_kept() {
    let here = root().canonicalize().unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let found: Vec<_> = tracked(&[])
        .into_iter()
        .filter(|file| !file.ends_with(".lock") && !file.starts_with("fuzz/corpus"))
        .filter(|file| {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            let names = |path: &str| path.len() > 2 && text.contains(&format!("{path}/"));
            names(here.to_str().unwrap()) || names(&home)
        })
        .collect();
    assert!(found.is_empty(), "files that name a folder of this machine: {}", found.join(", "));
}
