//! Lists on disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use ms_register::{Freshness, Instance};
use ms_register_conformance::{Warnings, ids, service, within};
use ms_tests::{Data, Server};

use crate::shop;

const SOON: Duration = Duration::from_secs(5);

/// Waits for a file in the directory that `wanted` holds for.
async fn kept(directory: &std::path::Path, wanted: impl Fn(&str) -> bool) -> std::path::PathBuf {
    loop {
        let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let mut lists = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        if let Some(path) = lists.find(|path| wanted(&fs::read_to_string(path).unwrap_or_default())) {
            return path;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_start_without_the_registry_calls_what_it_listed_last() {
    let mut etcd = Server::etcd().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("lists");
    let url = format!("{}?cache={}", etcd.url(), cache.display());
    let registry = ms_register::connect(&url).await.unwrap();
    let server = shop::listed(&registry).await;
    let first = ms_register::connect(&url).await.unwrap();
    shop::client(&first).find(1).await.unwrap();
    let port = server.address().port().to_string();
    let file = within(SOON, "the list on disk", kept(&cache, |text| text.contains(&port))).await;
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    etcd.kill();
    let began = Instant::now();
    let registry = ms_register::connect_in_background(&url).unwrap();
    let found = within(SOON, "a call", shop::client(&registry).find(7)).await.unwrap();
    println!("first call answered after {:?}", began.elapsed());
    assert_eq!(found.port, server.address().port());
    let snapshot = registry.watch(&service("shop")).current();
    assert_eq!((snapshot.freshness(), snapshot.instances().len()), (Freshness::Stale, 1));
    assert!(snapshot.age(Instant::now()).unwrap() > Duration::ZERO);

    // The answer of the registry counts as soon as there is one, an empty list too; an empty list is not kept.
    etcd.start(Data::Kept).await.unwrap();
    server.shutdown().await;
    let mut watch = registry.watch(&service("shop"));
    let empty = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().is_empty());
    within(3 * SOON, "the empty list", empty).await.unwrap();
    assert!(fs::read_to_string(&file).unwrap().contains(&port));
}

#[tokio::test]
async fn no_file_or_directory_of_others_is_trusted() {
    let etcd = Server::etcd().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).unwrap();
    for bad in [&open, &link] {
        let error = ms_register::connect(&format!("{}?cache={}", etcd.url(), bad.display())).await.unwrap_err();
        assert!(error.to_string().contains("mode 700"), "{error}");
    }
    let error = ms_register::connect("memory://?cache=/tmp/x").await.unwrap_err().to_string();
    assert!(error.contains("takes no parameters"), "{error}");

    let warnings = Warnings::capture();
    let cache = directory.path().join("lists");
    let url = format!("{}?cache={}", etcd.url(), cache.display());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    let _kept = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let file = within(SOON, "the list on disk", kept(&cache, |text| text.contains("10.0.0.1"))).await;
    // A link in place of the file is replaced, and its target left alone.
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&target, &file).unwrap();
    let _second = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap();
    within(SOON, "the second", watch.wait_for(|s| s.instances().len() == 2)).await.unwrap();
    within(SOON, "the list on disk", kept(&cache, |text| text.contains("10.0.0.2"))).await;
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");

    // Neither is one followed, nor what is broken believed.
    for damage in ["link", "garbage"] {
        fs::remove_file(&file).unwrap();
        match damage {
            "link" => std::os::unix::fs::symlink(&target, &file).unwrap(),
            _ => fs::write(&file, "{\"registry\": 1").unwrap(),
        }
        let late = ms_register::connect_in_background(&url).unwrap();
        let mut watch = late.watch(&goods);
        let live = within(SOON, "the registry's list", watch.wait_for(|s| !s.instances().is_empty())).await.unwrap();
        assert_eq!((live.freshness(), ids(live.instances()).len()), (Freshness::Live, 2), "{damage}");
    }
    assert_eq!(warnings.with("lists/").len(), 2, "{:?}", warnings.with(""));
}
