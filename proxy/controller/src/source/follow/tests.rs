//! Folders as they change: renames, swapped links, files half written, folders that come and go.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tidegate_model::Reason;
use tokio::time::timeout;

use super::*;
use crate::{Change, Object};

/// Long enough for every machine; only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Long enough for a change to be noticed that should not be; shorter than the time that ends a write.
const NOTHING: Duration = Duration::from_millis(400);

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

/// A folder that is followed, and what is known of it.
struct Fixture {
    folder: TempDir,
    updates: mpsc::Receiver<Update>,
    /// Ports by Service.
    view: BTreeMap<String, i32>,
    problems: Vec<Reason>,
    running: tokio::task::JoinHandle<()>,
}

impl Fixture {
    /// Prepares a folder, then follows what stands there under the name.
    async fn start(root: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let directory = Directory::new(vec![folder.path().join(root)]);
        let (sender, updates) = mpsc::channel(64);
        let running = tokio::spawn(directory.run(sender));
        let mut fixture = Self {
            folder,
            updates,
            view: BTreeMap::new(),
            problems: Vec::new(),
            running,
        };
        fixture.receive().await;
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn receive(&mut self) {
        let update = timeout(DEADLINE, self.updates.recv()).await;
        self.take(update.unwrap().unwrap());
    }

    fn take(&mut self, update: Update) {
        for change in update.changes {
            match change {
                Change::Put(Object::Service(service)) => {
                    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
                    let name = service.metadata.name.clone().unwrap();
                    self.view.insert(name, ports.unwrap()[0].port);
                }
                Change::Remove(reference) => {
                    self.view.remove(&reference.name.name).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        let problems = update.problems.iter();
        self.problems = problems.map(|problem| problem.reason).collect();
    }

    /// Waits until this is what is there.
    async fn until(&mut self, expected: &[(&str, i32)]) {
        self.until_with(expected, &[]).await;
    }

    async fn until_with(&mut self, expected: &[(&str, i32)], problems: &[Reason]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect();
        while self.view != expected || self.problems != problems {
            let update = timeout(DEADLINE, self.updates.recv()).await;
            let Ok(update) = update else {
                panic!(
                    "{:?} {:?} instead of {expected:?}",
                    self.view, self.problems
                )
            };
            self.take(update.unwrap());
        }
    }

    /// Checks that nothing is told for a while.
    async fn silence(&mut self) {
        let update = timeout(NOTHING, self.updates.recv()).await;
        assert!(update.is_err(), "{update:?}");
    }
}

#[tokio::test]
async fn files_come_change_and_go() {
    let mut fixture = Fixture::start("", |root| {
        fs::write(root.join("a.yaml"), service("a", 1)).unwrap();
    })
    .await;
    assert_eq!(fixture.view, BTreeMap::from([("a".to_owned(), 1)]));
    fixture.write("b.yaml", &service("b", 1));
    fixture.until(&[("a", 1), ("b", 1)]).await;
    fixture.write("a.yaml", &service("a", 2));
    fixture.until(&[("a", 2), ("b", 1)]).await;
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    fixture.until(&[("b", 1)]).await;
    fixture.write("notes.txt", "nothing");
    fixture.write(".b.yaml.swp", "nothing");
    fixture.silence().await;
    drop(fixture.updates);
    timeout(DEADLINE, fixture.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_rename_replaces_a_file_at_once() {
    let mut fixture = Fixture::start("", |root| {
        fs::write(root.join("a.yaml"), service("a", 1)).unwrap();
    })
    .await;
    for port in 2..20 {
        fixture.write(".a.tmp", &service("a", port));
        fs::rename(fixture.path(".a.tmp"), fixture.path("a.yaml")).unwrap();
        fixture.until(&[("a", i32::from(port))]).await;
    }
}

#[tokio::test]
async fn a_file_that_is_being_written_keeps_its_last_version() {
    let mut fixture = Fixture::start("", |root| {
        fs::write(root.join("a.yaml"), service("a", 1)).unwrap();
    })
    .await;
    let mut file = File::create(fixture.path("a.yaml")).unwrap();
    let text = service("a", 2) + "---\n" + &service("b", 2);
    let (first, second) = text.split_at(60);
    file.write_all(first.as_bytes()).unwrap();
    fixture.silence().await;
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    fixture.until(&[("a", 2), ("b", 2)]).await;
}

#[tokio::test]
async fn a_file_that_is_never_closed_is_read_once_nobody_writes() {
    let mut fixture = Fixture::start("", |_| {}).await;
    let mut file = File::create(fixture.path("a.yaml")).unwrap();
    file.write_all(service("a", 1).as_bytes()).unwrap();
    fixture.silence().await;
    fixture.until(&[("a", 1)]).await;
    file.write_all(format!("---\n{}", service("b", 1)).as_bytes())
        .unwrap();
    fixture.until(&[("a", 1), ("b", 1)]).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped_as_a_whole() {
    let publish = |root: &Path, version: &str, files: &[(&str, u16)]| {
        let folder = root.join(format!("..{version}"));
        fs::create_dir(&folder).unwrap();
        for (name, port) in files {
            fs::write(folder.join(format!("{name}.yaml")), service(name, *port)).unwrap();
        }
        symlink(format!("..{version}"), root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        for (name, _) in files {
            // As the kubelet does: only names that are not there yet.
            _ = symlink(
                format!("..data/{name}.yaml"),
                root.join(format!("{name}.yaml")),
            );
        }
    };
    let mut fixture = Fixture::start("", |root| publish(root, "1", &[("a", 1), ("b", 1)])).await;
    fixture.until(&[("a", 1), ("b", 1)]).await;
    publish(fixture.folder.path(), "2", &[("a", 2), ("b", 2), ("c", 2)]);
    fs::remove_dir_all(fixture.path("..1")).unwrap();
    fixture.until(&[("a", 2), ("b", 2), ("c", 2)]).await;
    publish(fixture.folder.path(), "3", &[("a", 3)]);
    fs::remove_file(fixture.path("b.yaml")).unwrap();
    fs::remove_file(fixture.path("c.yaml")).unwrap();
    fixture.until(&[("a", 3)]).await;
}

#[tokio::test]
async fn folders_come_and_go_with_their_files() {
    let mut fixture = Fixture::start("", |_| {}).await;
    fs::create_dir_all(fixture.path("x/y")).unwrap();
    fixture.write("x/y/a.yaml", &service("a", 1));
    fixture.until(&[("a", 1)]).await;
    fixture.write("x/y/a.yaml", &service("a", 2));
    fixture.until(&[("a", 2)]).await;
    fs::rename(fixture.path("x"), fixture.path("z")).unwrap();
    fixture.write("z/b.yaml", &service("b", 1));
    fixture.until(&[("a", 2), ("b", 1)]).await;
    fs::remove_dir_all(fixture.path("z")).unwrap();
    fixture.until(&[]).await;
}

#[tokio::test]
async fn a_root_that_vanishes_keeps_its_objects_until_it_returns() {
    let mut fixture = Fixture::start("m", |root| {
        fs::create_dir(root.join("m")).unwrap();
        fs::write(root.join("m/a.yaml"), service("a", 1)).unwrap();
    })
    .await;
    for port in 2..5 {
        fs::remove_dir_all(fixture.path("m")).unwrap();
        let before = [("a", i32::from(port) - 1)];
        fixture.until_with(&before, &[Reason::Unreadable]).await;
        fs::create_dir(fixture.path("m")).unwrap();
        fixture.write("m/.a", &service("a", port));
        fs::rename(fixture.path("m/.a"), fixture.path("m/a.yaml")).unwrap();
        fixture.until(&[("a", i32::from(port))]).await;
    }
}

#[tokio::test]
async fn a_named_file_is_followed_through_replacement_and_removal() {
    let mut fixture = Fixture::start("routes", |root| {
        fs::write(root.join("routes"), service("a", 1)).unwrap();
    })
    .await;
    fixture.write("tmp", &service("a", 2));
    fs::rename(fixture.path("tmp"), fixture.path("routes")).unwrap();
    fixture.until(&[("a", 2)]).await;
    fs::remove_file(fixture.path("routes")).unwrap();
    fixture.until_with(&[("a", 2)], &[Reason::Unreadable]).await;
    fixture.write("routes", &service("a", 3));
    fixture.until(&[("a", 3)]).await;
}

#[tokio::test]
async fn a_document_that_no_longer_parses_is_told_and_changes_nothing() {
    let mut fixture = Fixture::start("", |root| {
        fs::write(root.join("a.yaml"), service("a", 1)).unwrap();
    })
    .await;
    fixture.write("a.yaml", "kind: [");
    fixture
        .until_with(&[("a", 1)], &[Reason::InvalidDocument])
        .await;
    fixture.write("a.yaml", &service("a", 1));
    fixture.until(&[("a", 1)]).await;
}

#[tokio::test]
async fn ten_thousand_files_are_followed() {
    let mut fixture = Fixture::start("", |root| {
        for at in 0..10_000 {
            let name = format!("s{at}");
            fs::write(root.join(format!("{name}.yaml")), service(&name, 1)).unwrap();
        }
    })
    .await;
    assert_eq!(fixture.view.len(), 10_000);
    fixture.write("s77.yaml", &service("s77", 2));
    while fixture.view["s77"] == 1 {
        fixture.receive().await;
    }
    for at in 0..9_990 {
        fs::remove_file(fixture.path(&format!("s{at}.yaml"))).unwrap();
    }
    while fixture.view.len() > 10 {
        fixture.receive().await;
    }
    assert_eq!(fixture.view.len(), 10);
}

#[tokio::test]
async fn lost_events_make_everything_be_looked_at() {
    let now = Instant::now();
    let mut agenda = Agenda {
        due: BTreeMap::new(),
        everything_at: now + RESCAN,
    };
    let mut directory = Directory::new(Vec::new());
    let overflow = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    agenda.note(Ok(overflow), &mut directory, now);
    assert_eq!(agenda.next(), now);
    assert!(agenda.take(now, RESCAN).everything);
    assert_eq!(agenda.next(), now + RESCAN);
}
