//! `registryd key`: shown, saved, and given up for a new registry.

use std::{fs, os::unix::fs::PermissionsExt as _};

use registryd::{Config, Server};
use registryd_proto::{Code, Request};

use crate::{
    client::Registry,
    tool::{arg, plain, registryd},
};

#[tokio::test]
async fn the_address_is_shown_and_the_secret_only_on_request() {
    let registry = Registry::start().await;
    let folder = registry.folder.path();
    let config = folder.join("registryd.toml");
    fs::write(&config, "listen = \"[::]:4711\"\n").expect("written");
    let config = ["--config", arg(&config)];
    let shown = plain(folder, &[&config[..], &["key", "export"]].concat());
    let key = registry.server.key().to_string();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), format!("{key}@localhost:4711\n"));
    let host = [&config[..], &["key", "export", "--host", "chat.example.org"]].concat();
    let told = registryd(folder, &host).ok("registryd.key/1");
    assert_eq!(told["address"], format!("{key}@chat.example.org:4711"));
    let secret = fs::read_to_string(folder.join("registry.key")).expect("a key");
    assert!(!told.to_string().contains(secret.trim()), "the secret stays where it is");

    let file = folder.join("saved");
    let save = [&config[..], &["key", "export", "--secret", arg(&file)]].concat();
    let told = registryd(folder, &save).ok("registryd.key/1");
    assert!(!told.to_string().contains(secret.trim()));
    assert_eq!(fs::read_to_string(&file).expect("saved"), secret);
    assert_eq!(fs::metadata(&file).expect("saved").permissions().mode() & 0o777, 0o600);
    registryd(folder, &save).failed(13, "conflict");
}

#[tokio::test]
async fn a_new_key_is_a_new_registry_and_is_not_made_by_mistake() {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    registry.member("bob", 2).await;
    ann.link.open_room("ops").await;
    let former = registry.server.key();
    let Registry { folder, server } = registry;
    let rotate = ["key", "rotate", "--new-identity"];
    registryd(folder.path(), &rotate).failed(18, "state_in_use");
    server.stop().await;
    let why = registryd(folder.path(), &["key", "rotate"]).failed(2, "usage");
    for word in ["untrusted_key", "new profile", "--new-identity"] {
        assert!(why.contains(word), "{why}");
    }
    let told = registryd(folder.path(), &rotate).ok("registryd.rotate/1");
    assert_eq!((&told["former_key"], &told["accounts"]), (&former.to_string().into(), &2.into()));
    let kept = std::path::Path::new(told["kept"].as_str().expect("a folder"));
    assert!(kept.join("registry.key").is_file() && kept.join("registry.db").is_file());
    registryd(folder.path(), &["check", "--full"]).ok("registryd.check/1");

    let config = Config {
        data_dir: folder.path().to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        ..Config::default()
    };
    let server = Server::start(config).await.expect("started");
    assert_eq!(server.key().to_string(), told["key"].as_str().expect("a key"));
    assert_ne!(server.key(), former);
    let registry = Registry { folder, server };
    // Who signed for the former key has signed nothing for this one.
    let mut thief = registry.peer("ann", 9).connect().await;
    assert_eq!(thief.code(&registry.peer("ann", 9).create()).await, Code::Conflict, "taken");
    let mut ann = registry.peer("ann", 4);
    let mut link = ann.connect().await;
    ann.registry = former;
    assert_eq!(link.code(&ann.login(1)).await, Code::Usage, "a binding to the former key");
    ann.registry = registry.server.key();
    assert_eq!(link.code(&ann.login_by("not the password", 2, false)).await, Code::BadCredentials);
    link.session(&ann.login(3)).await;
    assert_eq!(
        link.code(&Request::Search { username: "bob".parse().expect("name") }).await,
        Code::NotFound
    );
    let mut bob = registry.peer("bob", 5).connect().await;
    bob.session(&registry.peer("bob", 5).login(4)).await;
    link.user("bob").await;
    let room = Request::RoomMembers { room: "ops".parse().expect("name"), after_epoch: 0 };
    assert_eq!(link.code(&room).await, Code::NotFound, "rooms are gone");
    drop(link);
    registryd(registry.folder.path(), &["check", "--full"]).ok("registryd.check/1");
}
