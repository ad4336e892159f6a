//! The loop with a clock that stands still: what is gathered, and when it is published.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_model::{Level, NamespacedName, ObjectRef, Reason};

use super::*;

fn name(text: &str) -> Hostname {
    Hostname::parse(text).unwrap()
}

fn change(text: &str) -> Change {
    Change::Resolved(name(text), None)
}

fn problem(message: &str) -> Problem {
    Problem {
        level: Level::Error,
        object: ObjectRef::new("Ingress", NamespacedName::new("default", "web")),
        field: String::new(),
        reason: Reason::InvalidField,
        message: message.to_owned(),
    }
}

fn update(changes: &[&str]) -> Update {
    Update {
        changes: changes.iter().map(|text| change(text)).collect(),
        problems: Vec::new(),
        view: View::Complete,
        answered: None,
    }
}

/// A loop whose translator writes down what it is given. Its clock is tokio's, which stands still but for sleeps.
struct Fixture {
    updates: mpsc::Sender<Update>,
    resolutions: mpsc::Sender<Vec<Change>>,
    settings: watch::Sender<Settings>,
    referenced: watch::Receiver<Arc<Referenced>>,
    names: watch::Receiver<BTreeSet<Hostname>>,
    published: watch::Receiver<Option<Arc<Translation>>>,
    log: Rc<RefCell<Vec<String>>>,
    answer: Rc<RefCell<Translation>>,
    start: Instant,
}

impl Fixture {
    fn start() -> (Self, impl Future<Output = ()>) {
        let (updates, updates_receiver) = mpsc::channel(16);
        let (resolutions, resolutions_receiver) = mpsc::channel(16);
        let (settings, settings_receiver) = watch::channel(Settings::default());
        let (referenced, referenced_receiver) = watch::channel(Arc::default());
        let (names, names_receiver) = watch::channel(BTreeSet::new());
        let (published, published_receiver) = watch::channel(None);
        let fixture = Self {
            updates,
            resolutions,
            settings,
            referenced: referenced_receiver,
            names: names_receiver,
            published: published_receiver,
            log: Rc::default(),
            answer: Rc::default(),
            start: Instant::now(),
        };
        let (log, answer, start) = (fixture.log.clone(), fixture.answer.clone(), fixture.start);
        let translate = move |work: Work, _| {
            let names = work.changes.iter().map(|change| match change {
                Change::Resolved(name, _) => name.to_string(),
                other => panic!("{other:?}"),
            });
            let settings = work.settings.map(|_| "settings".to_owned());
            let names: Vec<_> = settings.into_iter().chain(names).collect();
            let at = start.elapsed().as_millis();
            log.borrow_mut().push(format!("{at} {}", names.join(" ")));
            answer.borrow().clone()
        };
        let clock = move || UnixTime(start.elapsed().as_secs() as i64);
        let channels = Channels {
            updates: updates_receiver,
            resolutions: resolutions_receiver,
            settings: settings_receiver,
            referenced,
            names,
            published,
        };
        let reconciler = Reconciler::new(translate, clock, Coalesce::default(), channels);
        (fixture, reconciler.run())
    }

    async fn send(&self, changes: &[&str]) {
        self.updates.send(update(changes)).await.unwrap();
    }

    fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

async fn sleep(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_view_is_translated_at_once_and_nothing_before_it() {
    let (mut fixture, run) = Fixture::start();
    let script = async move {
        fixture
            .resolutions
            .send(vec![change("early")])
            .await
            .unwrap();
        sleep(5_000).await;
        assert_eq!(fixture.log(), Vec::<String>::new());
        assert!(fixture.published.borrow_and_update().is_none());
        fixture.send(&["a"]).await;
        fixture.published.changed().await.unwrap();
        assert!(fixture.published.borrow().is_some());
        assert_eq!(fixture.log(), ["5000 early a"]);
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn changes_are_gathered_until_it_is_quiet() {
    let (fixture, run) = Fixture::start();
    let script = async move {
        fixture.send(&["a"]).await;
        sleep(1_000).await;
        fixture.send(&["b"]).await;
        sleep(60).await;
        fixture.resolutions.send(vec![change("c")]).await.unwrap();
        sleep(60).await;
        fixture.send(&["d"]).await;
        sleep(500).await;
        assert_eq!(fixture.log(), ["0 a", "1220 b c d"]);
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn gathering_has_a_limit() {
    let (fixture, run) = Fixture::start();
    let script = async move {
        fixture.send(&["a"]).await;
        sleep(10).await;
        for _ in 0..70 {
            fixture.send(&["b"]).await;
            sleep(30).await;
        }
        sleep(500).await;
        let log = fixture.log();
        let times: Vec<_> = log
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(times, ["0", "1010", "2030", "2180"]);
        let changes: usize = log.iter().map(|line| line.matches('b').count()).sum();
        assert_eq!(changes, 70);
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_edge_is_translated_again() {
    let (fixture, run) = Fixture::start();
    let script = async move {
        fixture.answer.borrow_mut().recheck_at = Some(UnixTime(200));
        fixture.send(&["a"]).await;
        sleep(250_000).await;
        assert_eq!(fixture.log(), ["0 a", "200000 "]);
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn problems_of_source_and_translation_are_merged() {
    let (mut fixture, run) = Fixture::start();
    let script = async move {
        fixture.answer.borrow_mut().problems = vec![problem("b"), problem("c")];
        let problems = vec![problem("d"), problem("b"), problem("a")];
        let first = Update {
            problems,
            ..Update::default()
        };
        fixture.updates.send(first).await.unwrap();
        fixture.published.changed().await.unwrap();
        let translation = fixture.published.borrow_and_update().clone().unwrap();
        assert_eq!(translation.problems, ["a", "b", "c", "d"].map(problem));
        fixture.send(&[]).await;
        fixture.published.changed().await.unwrap();
        let translation = fixture.published.borrow_and_update().clone().unwrap();
        assert_eq!(translation.problems, ["b", "c"].map(problem));
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn names_go_to_the_resolver_when_they_change() {
    let (mut fixture, run) = Fixture::start();
    let script = async move {
        fixture.answer.borrow_mut().names = BTreeSet::from([name("db.example")]);
        fixture.send(&["a"]).await;
        fixture.names.changed().await.unwrap();
        assert_eq!(
            *fixture.names.borrow_and_update(),
            BTreeSet::from([name("db.example")])
        );
        fixture.send(&["b"]).await;
        sleep(500).await;
        assert_eq!(fixture.log().len(), 2);
        assert!(!fixture.names.has_changed().unwrap());
    };
    tokio::join!(run, script);
}

#[tokio::test(start_paused = true)]
async fn what_was_gathered_is_published_when_the_source_ends() {
    let (fixture, run) = Fixture::start();
    let log = fixture.log.clone();
    let script = async move {
        fixture.send(&["a"]).await;
        sleep(10).await;
        fixture.send(&["b"]).await;
        drop(fixture.resolutions);
    };
    tokio::join!(run, script);
    assert_eq!(*log.borrow(), ["0 a", "10 b"]);
}

#[tokio::test(start_paused = true)]
async fn a_partial_view_tells_what_is_needed_and_publishes_nothing() {
    let (mut fixture, run) = Fixture::start();
    let script = async move {
        let needed = Referenced {
            secrets: [NamespacedName::new("default", "tls")].into(),
            ..Referenced::default()
        };
        fixture.answer.borrow_mut().referenced = Arc::new(needed.clone());
        let partial = Update {
            view: View::Partial,
            ..update(&["a"])
        };
        fixture.updates.send(partial).await.unwrap();
        fixture.referenced.changed().await.unwrap();
        assert_eq!(**fixture.referenced.borrow(), needed);
        sleep(5_000).await;
        assert!(fixture.published.borrow_and_update().is_none());
        fixture.send(&["b"]).await;
        fixture.published.changed().await.unwrap();
        assert_eq!(fixture.log(), ["0 a", "5000 b"]);
    };
    tokio::select! {
        () = run => panic!("the loop ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_translated_with_the_changes_beside_them() {
    let (fixture, run) = Fixture::start();
    let script = async move {
        fixture.send(&["a"]).await;
        sleep(1_000).await;
        fixture.settings.send_replace(Settings::default());
        fixture.send(&["b"]).await;
        sleep(1_000).await;
        assert_eq!(fixture.log(), ["0 a", "1100 settings b"]);
    };
    tokio::select! {
        () = run => panic!("the loop ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_newly_referred_to_is_waited_for_and_not_for_ever() {
    let (mut fixture, run) = Fixture::start();
    let script = async move {
        let known = fixture.answer.borrow().referenced.clone();
        let first = Update {
            answered: Some(known.clone()),
            ..update(&["a"])
        };
        fixture.updates.send(first).await.unwrap();
        fixture.published.changed().await.unwrap();

        // The next translation refers to more, which the source tells 300 ms later.
        let more = Arc::new(Referenced::default());
        fixture.answer.borrow_mut().referenced = more.clone();
        let unanswered = |name| Update {
            answered: Some(known.clone()),
            ..update(&[name])
        };
        fixture.updates.send(unanswered("b")).await.unwrap();
        sleep(400).await;
        assert!(!fixture.published.has_changed().unwrap(), "held back");
        let answer = Update {
            answered: Some(more),
            ..update(&["c"])
        };
        fixture.updates.send(answer).await.unwrap();
        fixture.published.changed().await.unwrap();

        // One that never comes holds nothing up for longer than a second.
        fixture.answer.borrow_mut().referenced = Arc::new(Referenced::default());
        let start = Instant::now();
        fixture.updates.send(unanswered("d")).await.unwrap();
        fixture.published.changed().await.unwrap();
        assert_eq!(start.elapsed(), HOLD + Duration::from_millis(100));
        assert_eq!(fixture.log(), ["0 a", "100 b", "400 c", "500 d"]);
    };
    tokio::select! {
        () = run => panic!("the loop ended"),
        () = script => {}
    }
}
