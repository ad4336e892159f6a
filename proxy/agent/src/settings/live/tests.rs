//! Texts to settings in force.

use super::*;
use crate::cli::{Cli, Command};

/// A process that was started with these flags and this text.
struct Process {
    follower: Follower,
    live: Live,
}

impl Process {
    fn started(arguments: &[&str], text: &str) -> Self {
        let line = ["tidegate", "serve", "--config", "/etc/settings.yaml"];
        let line = line.iter().chain(arguments);
        let Ok(Command::Serve(flags)) = Cli::read(line).map(|cli| cli.command) else {
            panic!("{arguments:?}");
        };
        let environment = Environment::default();
        let place = Place::Path("/etc/settings.yaml".to_owned());
        let file = File::parse(text).unwrap();
        let settings = Settings::of(&flags, &file, Some(&place), &environment).unwrap();
        let (senders, live) = Senders::of(&settings);
        let follower = Follower::new(*flags, environment, settings, senders, LogFilter::none());
        Self { follower, live }
    }

    fn reads(&mut self, text: &str) -> Outcome {
        let text = Text {
            place: self.follower.file(),
            read: Ok(text.to_owned()),
        };
        self.follower.take(&text)
    }

    /// What the text changed: `key: before -> after`, live and not.
    fn changes(&mut self, text: &str) -> [Vec<String>; 2] {
        let Outcome::Taken(difference) = self.reads(text) else {
            panic!("{text} was not taken: {:?}", self.live.pending.rejected());
        };
        let describe = |list: Vec<difference::Changed>| {
            let one = |changed: difference::Changed| {
                format!(
                    "{}: {} -> {}",
                    changed.key.name, changed.before, changed.after
                )
            };
            list.into_iter().map(one).collect()
        };
        [describe(difference.live), describe(difference.fixed)]
    }

    fn restart(&self) -> Vec<&'static str> {
        self.live.pending.restart().into_iter().collect()
    }
}

const MANIFESTS: [&str; 2] = ["--manifests", "m"];
const NOTHING: [&[&str]; 2] = [&[], &[]];

#[test]
fn what_can_change_is_in_force_at_once() {
    let mut process = Process::started(&MANIFESTS, "");
    let text = "
timeouts: {idle: 2m, drain: 5s}
sslRedirect: {mode: all}
ingressClass: internal
resolver: {servers: [10.96.0.10]}
publishAddress: 203.0.113.7
log: {level: debug}
";
    let [live, fixed] = process.changes(text);
    assert_eq!(
        live,
        [
            "ingressClass: not set -> [internal]",
            "publishAddress: [] -> [203.0.113.7]",
            "sslRedirect.mode: tls-hosts -> all",
            "timeouts.idle: 75s -> 2m",
            "timeouts.drain: 30s -> 5s",
            "resolver.servers: [] -> [10.96.0.10]",
            "log.level: info -> debug",
        ]
    );
    assert_eq!(fixed, NOTHING[1]);
    let live = &process.live;
    let translation = live.translation.borrow().clone();
    assert_eq!(translation.policy.timeouts.idle, Duration::from_secs(120));
    assert_eq!(translation.ingress_class.unwrap_or_default().len(), 1);
    assert_eq!(*live.drain.borrow(), Duration::from_secs(5));
    assert_eq!(live.resolver.borrow().servers.len(), 1);
    assert_eq!(live.publish.borrow().addresses.len(), 1);
    assert!(live.pending.remarks().is_empty());
}

#[test]
fn issuers_and_certificates_change_while_it_serves() {
    let issuer = |name: &str| format!("issuers: [{{name: {name}, directory: letsencrypt}}]");
    let mut process = Process::started(&MANIFESTS, &issuer("a"));
    let mut certificates = process.live.certificates.clone();
    process.changes(&format!("{}\ntimeouts: {{idle: 2m}}", issuer("a")));
    assert!(!certificates.has_changed().unwrap());
    let [live, fixed] = process.changes(&format!(
        "{}\ntls: {{cipherSuites: [x], minVersion: 1.3}}\ncertificates: {{grace: 1d}}",
        issuer("b")
    ));
    assert_eq!(live.len(), 5, "{live:?}");
    assert_eq!(fixed, NOTHING[1]);
    assert!(certificates.has_changed().unwrap());
    let now = certificates.borrow_and_update().clone();
    assert_eq!(now.issuers.0[0].name, "b");
    assert_eq!(now.grace, Duration::from_secs(24 * 3600));
    assert_eq!(process.live.problems.borrow().len(), 1);
    let policy = process.live.translation.borrow().policy.clone();
    assert_eq!(policy.tls.min_version, tidegate_model::TlsVersion::Tls13);
    process.changes("");
    assert!(process.live.problems.borrow().is_empty());
    assert!(certificates.borrow().issuers.0.is_empty());
}

#[test]
fn nobody_is_woken_by_what_is_the_same() {
    let mut process = Process::started(&MANIFESTS, "timeouts: {drain: 5s}");
    let mut translation = process.live.translation.clone();
    let drain = process.live.drain.clone();
    assert_eq!(process.changes("timeouts: {drain: 5s} # the same"), NOTHING);
    assert_eq!(process.changes("timeouts: {drain: 6s}")[0].len(), 1);
    assert!(!translation.has_changed().unwrap());
    assert!(drain.has_changed().unwrap());
    process.changes("timeouts: {drain: 6s, idle: 1s}");
    assert!(translation.has_changed().unwrap());
    translation.mark_unchanged();
}

#[test]
fn a_flag_wins_over_the_new_text_as_over_the_old() {
    let mut process = Process::started(&["--manifests", "m", "--drain-timeout", "9"], "");
    assert_eq!(process.changes("timeouts: {drain: 5s}"), NOTHING);
    assert_eq!(*process.live.drain.borrow(), Duration::from_secs(9));
}

#[test]
fn what_cannot_change_is_named_until_it_is_as_it_runs() {
    let mut process = Process::started(&MANIFESTS, "http: 8080");
    let [live, fixed] = process.changes("http: 8081\nworkers: 3\n");
    assert_eq!(live, NOTHING[0]);
    assert_eq!(fixed.len(), 2, "{fixed:?}");
    assert_eq!(fixed[0], "http: [8080] -> [8081]");
    assert_eq!(process.restart(), ["http", "workers"]);
    let remarks = process.live.pending.remarks();
    assert!(remarks[0].contains("restart") && remarks[0].contains("http, workers"));

    // Once: not with every other change.
    let [live, fixed] =
        process.changes("http: 8081\nworkers: 3\naccessLog: off\ntimeouts: {idle: 1s}");
    assert_eq!((live.len(), fixed), (1, Vec::new()));
    assert_eq!(process.restart(), ["http", "workers"]);

    let [_, fixed] = process.changes("http: 8080\nworkers: 3\n");
    assert_eq!(fixed, ["http: [8081] -> [8080]"]);
    assert_eq!(process.restart(), ["workers"]);
}

#[test]
fn a_wrong_text_changes_nothing_and_is_said_once() {
    let mut process = Process::started(&MANIFESTS, "timeouts: {idle: 1m}");
    assert_eq!(
        process.reads("timeouts: {idle: 1 parsec}"),
        Outcome::Rejected
    );
    assert_eq!(
        process.reads("timeouts: {idle: 1 parsec}"),
        Outcome::StillRejected
    );
    let problem = process.live.pending.rejected().unwrap();
    for part in ["/etc/settings.yaml", "timeouts.idle", "1 parsec"] {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(process.reads("timeouts: {idel: 1m}"), Outcome::Rejected);
    assert_eq!(process.reads("http: off\nhttps: off\n"), Outcome::Rejected);
    assert_eq!(process.reads("{"), Outcome::Rejected);
    let gone = Text {
        place: process.follower.file(),
        read: Err("cannot read settings file".to_owned()),
    };
    assert_eq!(process.follower.take(&gone), Outcome::Rejected);
    assert_eq!(process.follower.take(&gone), Outcome::StillRejected);
    let idle = process.live.translation.borrow().policy.timeouts.idle;
    assert_eq!(idle, Duration::from_secs(60));

    assert_eq!(process.changes("timeouts: {idle: 1m}"), NOTHING);
    assert_eq!(process.live.pending.rejected(), None);
    assert!(process.live.pending.remarks().is_empty());
}

#[test]
fn another_service_is_published_after_a_restart() {
    let cluster = ["--kubeconfig", "k"];
    let mut process = Process::started(&cluster, "publishService: a/b");
    process.changes("publishAddress: 10.0.0.1");
    assert_eq!(process.restart(), ["publishService"]);
    assert!(process.live.publish.borrow().addresses.is_empty());
    assert!(process.live.publish.borrow().service.is_some());
    process.changes("publishService: a/b\npublishNodeAddresses: external\n");
    assert!(process.restart().is_empty());
    let nodes = process.live.publish.borrow().nodes;
    assert_eq!(nodes, crate::settings::NodeAddresses::External);
}

#[test]
fn namespaces_that_nobody_watches_need_a_restart() {
    let cluster = ["--kubeconfig", "k"];
    let mut process = Process::started(&cluster, "namespaces: [a, b]\ndefaultCertificate: c/tls\n");
    for (text, restart) in [
        ("namespaces: [a]", &[] as &[&str]),
        ("namespaces: [a, d]", &["namespaces"]),
        ("", &["namespaces"]),
        ("namespaces: [a, b]\ndefaultBackend: 'c/web:80'", &[]),
        (
            "namespaces: [a, b]\ndefaultBackend: 'd/web:80'",
            &["defaultBackend"],
        ),
        (
            "namespaces: [a, b]\ndefaultCertificate: d/tls",
            &["defaultCertificate"],
        ),
        ("namespaces: [a, b]\ndefaultCertificate: c/tls", &[]),
    ] {
        process.reads(text);
        assert_eq!(process.restart(), restart, "{text}");
    }
    let mut everywhere = Process::started(&cluster, "");
    everywhere.changes("namespaces: [a]\ndefaultBackend: 'b/web:80'");
    assert!(everywhere.restart().is_empty());
    let namespaces = everywhere.live.translation.borrow().namespaces.clone();
    assert!(namespaces.contains("a"));
}

#[tokio::test]
async fn a_config_map_stands_in_the_place_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, "timeouts: {drain: 1s}").unwrap();
    let Process { follower, live } = Process::started(&MANIFESTS, "timeouts: {drain: 1s}");
    let file = file::follow(path.clone());
    tokio::spawn(follower.run(Some(file), live.config_map.subscribe()));
    let mut drain = live.drain.clone();
    let mut becomes = async |seconds| {
        let found = drain.wait_for(|drain| drain.as_secs() == seconds);
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        assert!(found.is_ok(), "not {seconds} s in time");
    };
    live.config_map
        .send_replace(Some("timeouts: {drain: 2s}".to_owned()));
    becomes(2).await;
    std::fs::write(&path, "timeouts: {drain: 3s}").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    becomes(2).await;
    live.config_map
        .send_replace(Some("timeouts: {drain: 0ks}".to_owned()));
    let rejected = async || {
        while live.pending.rejected().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        live.pending.rejected()
    };
    let problem = tokio::time::timeout(Duration::from_secs(10), rejected()).await;
    let problem = problem.ok().flatten().unwrap();
    assert!(problem.contains("ConfigMap"), "{problem}");
    becomes(2).await;
    live.config_map.send_replace(None);
    becomes(3).await;
}
