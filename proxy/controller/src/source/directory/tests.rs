//! Folders as they are found: what is read, what is kept, what is a problem.

use super::*;
use crate::{Change, Object};
use tempfile::TempDir;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

/// A folder with manifests.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder };
        files
            .iter()
            .for_each(|(name, text)| fixture.write(name, text));
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn directory(&self) -> Directory {
        Directory::new(vec![self.folder.path().to_owned()])
    }
}

/// Changes in short: `+web:80` for a Service with a port, `-web` for one that is gone.
fn short(update: &Update) -> Vec<String> {
    let describe = |change: &Change| match change {
        Change::Put(Object::Service(service)) => {
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            let port = ports.map_or(0, |ports| ports[0].port);
            format!("+{}:{port}", service.metadata.name.as_deref().unwrap())
        }
        Change::Put(object) => format!("+{}", object.reference()),
        Change::Remove(reference) => format!("-{}", reference.name.name),
        Change::Resolved(..) => panic!("a source resolves nothing"),
    };
    update.changes.iter().map(describe).collect()
}

fn reasons(update: &Update) -> Vec<Reason> {
    update
        .problems
        .iter()
        .map(|problem| problem.reason)
        .collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_folder_is_read_deeply_and_without_what_is_hidden() {
    let fixture = Fixture::new(&[
        ("a.yaml", &service("a", 1)),
        ("deep/er/b.yml", &service("b", 2)),
        (
            "c.json",
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}}"#,
        ),
        (".hidden.yaml", &service("hidden", 3)),
        (".git/d.yaml", &service("git", 3)),
        ("readme.md", "# nothing"),
    ]);
    let mut directory = fixture.directory();
    let update = directory.load();
    assert_eq!(short(&update), ["+a:1", "+b:2", "+c:0"]);
    assert_eq!(update.problems, []);
    let again = directory.load();
    assert_eq!(short(&again), NONE);
}

#[test]
fn a_named_file_is_read_whatever_it_is_called() {
    let fixture = Fixture::new(&[("routes.conf", &service("a", 1))]);
    let mut directory = Directory::new(vec![fixture.path("routes.conf")]);
    assert_eq!(short(&directory.load()), ["+a:1"]);
    fixture.write("routes.conf", service("a", 2));
    assert_eq!(short(&directory.load()), ["+a:2"]);
}

#[test]
fn only_what_differs_is_told() {
    let fixture = Fixture::new(&[(
        "a.yaml",
        &format!("{}---\n{}", service("a", 1), service("b", 1)),
    )]);
    let mut directory = fixture.directory();
    assert_eq!(short(&directory.load()), ["+a:1", "+b:1"]);
    fixture.write(
        "a.yaml",
        format!(
            "# moved\n---\n{}\n---\n{}",
            service("b", 1),
            service("a", 2)
        ),
    );
    assert_eq!(short(&directory.load()), ["+a:2"]);
    fixture.write("a.yaml", service("a", 2));
    assert_eq!(short(&directory.load()), ["-b"]);
    fs::rename(fixture.path("a.yaml"), fixture.path("z.yaml")).unwrap();
    assert_eq!(short(&directory.load()), NONE);
    fs::remove_file(fixture.path("z.yaml")).unwrap();
    assert_eq!(short(&directory.load()), ["-a"]);
}

#[test]
fn a_broken_document_keeps_what_the_file_had() {
    let good = format!(
        "{}---\n{}---\n{}",
        service("a", 1),
        service("b", 1),
        service("c", 1)
    );
    let fixture = Fixture::new(&[("a.yaml", &good)]);
    let mut directory = fixture.directory();
    assert_eq!(short(&directory.load()), ["+a:1", "+b:1", "+c:1"]);

    let broken = format!(
        "{}---\nkind: [Service\n---\n{}",
        service("a", 2),
        service("d", 1)
    );
    fixture.write("a.yaml", &broken);
    let update = directory.load();
    assert_eq!(short(&update), ["+a:2", "+d:1"]);
    assert_eq!(reasons(&update), [Reason::InvalidDocument]);
    assert!(
        update.problems[0]
            .message
            .ends_with("Until then the last good version stays in force.")
    );

    fixture.write("a.yaml", broken.replace("port: 2", "port: 3"));
    assert_eq!(short(&directory.load()), ["+a:3"]);

    fixture.write(
        "a.yaml",
        format!("{}---\n{}", service("a", 3), service("c", 5)),
    );
    let update = directory.load();
    assert_eq!(short(&update), ["-b", "+c:5", "-d"]);
    assert_eq!(update.problems, []);
}

#[test]
fn a_document_that_was_broken_from_the_start_costs_only_itself() {
    let text = format!("{}---\nkind: [\n---\n{}", service("a", 1), service("b", 1));
    let fixture = Fixture::new(&[("a.yaml", &text)]);
    let update = fixture.directory().load();
    assert_eq!(short(&update), ["+a:1", "+b:1"]);
    assert_eq!(reasons(&update), [Reason::InvalidDocument]);
    assert!(
        update.problems[0]
            .message
            .ends_with("Until then it is not served.")
    );
}

#[test]
fn of_the_same_object_in_two_places_the_first_is_in_force() {
    let fixture = Fixture::new(&[
        ("b.yaml", &service("web", 2)),
        (
            "a.yaml",
            &format!("{}---\n{}", service("web", 1), service("web", 9)),
        ),
    ]);
    let mut directory = fixture.directory();
    let update = directory.load();
    assert_eq!(short(&update), ["+web:1"]);
    assert_eq!(reasons(&update), [Reason::DuplicateObject; 2]);
    let messages: Vec<_> = update
        .problems
        .iter()
        .map(|problem| &problem.message)
        .collect();
    let first = format!("{} (document 1)", fixture.path("a.yaml").display());
    assert!(messages.iter().all(|message| message.contains(&first)));
    assert!(
        messages
            .iter()
            .any(|message| message.contains("b.yaml (document 1)"))
    );
    assert!(
        messages
            .iter()
            .any(|message| message.contains("a.yaml (document 2)"))
    );

    fixture.write("a.yaml", service("web", 9));
    assert_eq!(short(&directory.load()), ["+web:9"]);
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    let update = directory.load();
    assert_eq!(short(&update), ["+web:2"]);
    assert_eq!(update.problems, []);
    fixture.write("a.yaml", service("web", 4));
    assert_eq!(short(&directory.load()), ["+web:4"]);
}

#[test]
fn documents_that_change_places_change_their_precedence() {
    let fixture = Fixture::new(&[(
        "a.yaml",
        &format!("{}---\n{}", service("web", 1), service("web", 2)),
    )]);
    let mut directory = fixture.directory();
    assert_eq!(short(&directory.load()), ["+web:1"]);
    fixture.write(
        "a.yaml",
        format!("{}---\n{}", service("web", 2), service("web", 1)),
    );
    assert_eq!(short(&directory.load()), ["+web:2"]);
}

#[test]
fn a_folder_that_vanishes_keeps_its_objects_and_is_picked_up_again() {
    let fixture = Fixture::new(&[
        ("m/a.yaml", &service("a", 1)),
        ("m/b.yaml", &service("b", 1)),
    ]);
    let mut directory = Directory::new(vec![fixture.path("m")]);
    assert_eq!(short(&directory.load()), ["+a:1", "+b:1"]);
    fs::rename(fixture.path("m"), fixture.path("away")).unwrap();
    let update = directory.load();
    assert_eq!(short(&update), NONE);
    assert_eq!(reasons(&update), [Reason::Unreadable]);
    assert_eq!(update.problems[0].level, Level::Error);
    fixture.write("m/b.yaml", service("b", 2));
    let update = directory.load();
    assert_eq!(short(&update), ["-a", "+b:2"]);
    assert_eq!(update.problems, []);
}

#[test]
fn a_missing_root_is_a_problem() {
    let fixture = Fixture::new(&[]);
    let update = Directory::new(vec![fixture.path("none")]).load();
    assert_eq!(reasons(&update), [Reason::Unreadable]);
    assert_eq!(update.problems[0].object.kind, "File");
}

#[test]
fn a_folder_within_is_removed_with_its_files() {
    let fixture = Fixture::new(&[
        ("a.yaml", &service("a", 1)),
        ("sub/b.yaml", &service("b", 1)),
    ]);
    let mut directory = fixture.directory();
    directory.load();
    fs::remove_dir_all(fixture.path("sub")).unwrap();
    let update = directory.load();
    assert_eq!(short(&update), ["-b"]);
    assert_eq!(update.problems, []);
}

#[test]
fn files_that_are_no_text_or_too_large_keep_their_last_version() {
    let fixture = Fixture::new(&[("a.yaml", &service("a", 1))]);
    let mut directory = fixture.directory();
    directory.load();
    fixture.write("a.yaml", b"ok: 1\nbad: \xff\xfe\n");
    let update = directory.load();
    assert_eq!(
        (short(&update), reasons(&update)),
        (vec![], vec![Reason::InvalidDocument])
    );
    assert!(update.problems[0].message.contains("line 2"));

    let file = fs::File::create(fixture.path("a.yaml")).unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    let update = directory.load();
    assert_eq!(
        (short(&update), reasons(&update)),
        (vec![], vec![Reason::InvalidDocument])
    );
    assert!(update.problems[0].message.contains("67108864 bytes"));

    fixture.write("a.yaml", service("a", 2));
    let update = directory.load();
    assert_eq!(
        (short(&update), update.problems),
        (vec!["+a:2".to_owned()], vec![])
    );
}

#[test]
fn links_are_followed_but_not_in_circles_and_a_dangling_one_is_a_problem() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new(&[
        ("m/a.yaml", &service("a", 1)),
        ("other/b.yaml", &service("b", 1)),
    ]);
    symlink(fixture.path("m"), fixture.path("m/loop")).unwrap();
    symlink(fixture.path("other"), fixture.path("m/other")).unwrap();
    symlink(fixture.path("nowhere"), fixture.path("m/c.yaml")).unwrap();
    let mut directory = Directory::new(vec![fixture.path("m")]);
    let update = directory.load();
    assert_eq!(short(&update), ["+a:1", "+b:1"]);
    assert_eq!(reasons(&update), [Reason::Unreadable]);
    fs::remove_file(fixture.path("m/c.yaml")).unwrap();
    assert_eq!(directory.load().problems, []);
}

#[test]
fn one_change_among_ten_thousand_costs_little() {
    let documents: Vec<_> = (0..10_000)
        .map(|at| service(&format!("s{at}"), 80))
        .collect();
    let fixture = Fixture::new(&[("all.yaml", &documents.join("---\n"))]);
    let mut directory = fixture.directory();
    assert_eq!(directory.load().changes.len(), 10_000);
    let mut changed = documents.clone();
    changed[5_000] = service("s5000", 81);
    fixture.write("all.yaml", changed.join("---\n"));
    let before = cpu_time();
    let update = directory.load();
    let took = cpu_time() - before;
    assert_eq!(short(&update), ["+s5000:81"]);
    // A few milliseconds when optimised; parsing all documents again takes seconds in a debug build.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// What this thread has used, as the kernel counts it (first figure of schedstat, in nanoseconds).
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let figure = text.split(' ').next().unwrap();
    Duration::from_nanos(figure.parse().unwrap())
}
