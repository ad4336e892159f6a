//! Two and three processes of an instance, within one.

use std::io::Write;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::Duration;

use tidegate_model::Snapshot;

use super::*;
use crate::cache::{Cache, CacheSettings, Persisted};
use crate::settings::InstanceName;

fn ownership(generation: u64) -> Ownership {
    let listeners = vec![SocketAddr::from(([127, 0, 0, 1], 8080))];
    Ownership::new(generation, true, listeners, None)
}

fn instance() -> String {
    InstanceName::unique("hand-over-test").to_string()
}

/// The first process of an instance.
async fn first(instance: &str) -> Owner {
    match find(instance).await.unwrap() {
        Found::Nobody(name) => Owner::start(name, ownership(1), None),
        other => panic!("the name is taken: {other:?}"),
    }
}

async fn second(instance: &str) -> Predecessor {
    match find(instance).await.unwrap() {
        Found::Someone(predecessor) => predecessor,
        other => panic!("nobody has the name: {other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Within some seconds, or the test fails.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let limited = async { tokio::time::timeout(Duration::from_secs(20), future).await };
    runtime().block_on(limited).expect("done in time")
}

#[test]
fn the_name_goes_from_owner_to_owner() {
    block_on(async {
        let name = instance();
        let mut owner = first(&name).await;
        let mut newcomer = second(&name).await;
        assert_eq!(newcomer.ownership, ownership(1));
        assert_eq!(owner.changed().await, Standing::Preparing);

        let listener = newcomer.take_name().await.unwrap();
        let mut next = Owner::start(listener, ownership(2), None);
        newcomer.in_force(true).await;
        assert_eq!(owner.changed().await, Standing::Retired { steered: true });

        // A third one finds the second, and the first is released.
        let third = second(&name).await;
        assert_eq!(third.ownership.generation, 2);
        assert_eq!(next.changed().await, Standing::Preparing);
        newcomer.release().await;
        assert_eq!(owner.changed().await, Standing::Released);
    });
}

#[test]
fn a_newcomer_that_dies_leaves_the_owner_alone() {
    block_on(async {
        let name = instance();
        let mut owner = first(&name).await;
        drop(second(&name).await);
        while owner.changed().await != Standing::Alone {}
        // The next one is as welcome.
        let next = second(&name).await;
        assert_eq!(next.ownership.generation, 1);
    });
}

#[test]
fn a_successor_that_dies_gives_the_name_back() {
    block_on(async {
        let name = instance();
        let mut owner = first(&name).await;
        let mut newcomer = second(&name).await;
        let listener = newcomer.take_name().await.unwrap();
        newcomer.in_force(true).await;
        while owner.changed().await != (Standing::Retired { steered: true }) {}
        drop((listener, newcomer));
        assert_eq!(owner.changed().await, Standing::Alone);
        assert_eq!(second(&name).await.ownership.generation, 1);
    });
}

#[test]
fn a_second_newcomer_waits_for_the_first() {
    block_on(async {
        let name = instance();
        let _owner = first(&name).await;
        let newcomer = second(&name).await;
        let waiting = find(&name);
        let mut waiting = std::pin::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(700), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        drop(newcomer);
        assert!(matches!(waiting.await.unwrap(), Found::Someone(_)));
    });
}

#[test]
fn an_owner_that_dies_leaves_the_name_to_its_successor() {
    block_on(async {
        let name = instance();
        let owner = first(&name).await;
        let mut newcomer = second(&name).await;
        drop(owner);
        newcomer.gone().await;
        newcomer.take_name().await.unwrap();
    });
}

#[test]
fn what_is_no_message_costs_the_owner_nothing() {
    block_on(async {
        let name = instance();
        let _owner = first(&name).await;
        let address = UnixAddress::from_abstract_name(super::name(&name)).unwrap();
        let long = vec![b'x'; 200_000];
        for bytes in [
            b"\n".as_slice(),
            b"{}\n",
            b"{\"type\":\"hello\"}\n",
            b"{\"type\":\"ready\"}\n",
            b"{\"type\":\"inForce\",\"steered\":true}\n",
            b"{\"type\":\"laterWord\",\"x\":1}\n",
            b"\xff\xfe\0\n",
            &long,
        ] {
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            stream.set_nonblocking(true).unwrap();
            // It may be closed before all is sent.
            let _ = stream.write(bytes);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(second(&name).await.ownership, ownership(1));
    });
}

#[test]
fn a_newcomer_gets_what_the_owner_has_saved() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let name = instance();
        let cache = || {
            Cache::new(CacheSettings {
                file: folder.path().join("cache.redb"),
                instance: name.clone(),
                key: None,
            })
        };
        let saved = cache();
        let Found::Nobody(socket) = find(&name).await.unwrap() else {
            panic!("the name is taken");
        };
        let _owner = Owner::start(socket, ownership(1), Some(saved.clone()));
        let mut newcomer = second(&name).await;
        // There is nothing yet.
        assert!(newcomer.last_good().await.is_none());
        let snapshot = Snapshot::default();
        assert_eq!(saved.persist(&snapshot).await, Persisted::Durable);
        let memory = newcomer.last_good().await.expect("memory");
        let mine = cache();
        assert!(mine.last_good().await.is_none(), "the file is the owner's");
        let imported = mine.import(memory).unwrap();
        assert_eq!(imported.snapshot.describe(), snapshot.describe());
        assert_eq!(mine.persist(&imported.snapshot).await, Persisted::Pending);

        // An answer that nobody waits for any more does not stand in the way of the name.
        newcomer.ask_only().await;
        newcomer.take_name().await.unwrap();
        newcomer.in_force(false).await;
        saved.release().await;
        mine.claim().await;
        assert_eq!(mine.persist(&imported.snapshot).await, Persisted::Durable);
    });
}

#[test]
fn an_owner_without_a_cache_or_of_an_older_version_is_not_waited_for() {
    block_on(async {
        let name = instance();
        let _owner = first(&name).await;
        let mut newcomer = second(&name).await;
        let asked = newcomer.last_good();
        let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
        assert!(matches!(answer, Ok(None)));
        newcomer.take_name().await.unwrap();
    });
}

#[test]
fn messages_of_later_versions_are_understood() {
    let text = r#"{"type":"welcome","protocol":2,"version":"9","generation":7,"pinned":null,"listeners":[],"admin":null,"more":1}"#;
    let message: Message = serde_json::from_str(text).unwrap();
    assert!(matches!(
        message,
        Message::Welcome(Ownership { generation: 7, .. })
    ));
    let text = r#"{"type":"laterWord","x":1}"#;
    assert_eq!(
        serde_json::from_str::<Message>(text).unwrap(),
        Message::Unknown
    );
}
