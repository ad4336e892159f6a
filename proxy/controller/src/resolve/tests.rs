//! The resolver against a small name server of its own on loopback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{RData, Record};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;

/// Long enough for every machine; only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Quick, so that what takes minutes in service takes no time here.
const PACE: Pace = Pace {
    ttl_min: Duration::from_millis(20),
    ttl_max: Duration::from_millis(50),
    hosts: Duration::from_millis(50),
    retry_min: Duration::from_millis(5),
    retry_max: Duration::from_millis(50),
    stale_max: Duration::from_secs(3600),
};

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    failing: bool,
    questions: usize,
}

/// A name server on loopback.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        tokio::spawn(serve(socket, zone.clone()));
        Self { address, zone }
    }

    fn set(&self, name: &str, addresses: &[&str]) {
        let records = addresses.iter().map(|text| match text.parse() {
            Ok(IpAddr::V4(address)) => RData::A(A(address)),
            Ok(IpAddr::V6(address)) => RData::AAAA(AAAA(address)),
            Err(_) => RData::CNAME(CNAME(Name::from_ascii(text).unwrap())),
        });
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert(format!("{name}."), records.collect());
    }

    fn fail(&self, failing: bool) {
        self.zone.lock().unwrap().failing = failing;
    }

    fn questions(&self) -> usize {
        self.zone.lock().unwrap().questions
    }

    /// Waits until so many questions more have come.
    async fn asked(&self, more: usize) {
        let goal = self.questions() + more;
        let asked = async {
            while self.questions() < goal {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, asked).await.unwrap();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let answer = answer(&question, &mut zone.lock().unwrap());
        socket
            .send_to(&answer.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}

fn answer(question: &Message, zone: &mut Zone) -> Message {
    zone.questions += 1;
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    let query = question.queries[0].clone();
    answer.metadata.recursion_available = true;
    answer.metadata.recursion_desired = true;
    let mut name = query.name.clone();
    match zone.records.contains_key(&name.to_string()) {
        _ if zone.failing => answer.metadata.response_code = ResponseCode::ServFail,
        true => {}
        false => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    let mut records = zone.records.get(&name.to_string());
    while let Some(list) = records.take().filter(|_| !zone.failing) {
        for data in list {
            if data.record_type() == query.query_type {
                answer.add_answer(Record::from_rdata(name.clone(), 30, data.clone()));
            }
        }
        if let Some(RData::CNAME(target)) = list.first() {
            answer.add_answer(Record::from_rdata(name, 30, RData::CNAME(target.clone())));
            name = target.0.clone();
            records = zone.records.get(&name.to_string());
        }
    }
    answer.add_query(query);
    answer
}

/// A running resolver and the ends of its channels.
struct Fixture {
    server: Server,
    wanted: watch::Sender<BTreeSet<Hostname>>,
    changes: mpsc::Receiver<Vec<Change>>,
    queue: Vec<Change>,
    running: tokio::task::JoinHandle<()>,
}

impl Fixture {
    async fn start(pace: Pace) -> Self {
        let server = Server::start().await;
        let settings = ResolverSettings {
            servers: vec![server.address],
        };
        let (wanted, receiver) = watch::channel(BTreeSet::new());
        let (sender, changes) = mpsc::channel(16);
        let running = tokio::spawn(Names::new(settings, pace, sender).run(receiver));
        Self {
            server,
            wanted,
            changes,
            queue: Vec::new(),
            running,
        }
    }

    fn want(&self, names: &[&str]) {
        let names = names.iter().map(|name| Hostname::parse(name).unwrap());
        self.wanted.send_replace(names.collect());
    }

    /// The next change in short: `name: addresses`, `name! why`, or `-name`.
    async fn next(&mut self) -> String {
        while self.queue.is_empty() {
            let changes = timeout(DEADLINE, self.changes.recv()).await.unwrap();
            self.queue.extend(changes.unwrap());
        }
        match self.queue.remove(0) {
            Change::Resolved(name, None) => format!("-{name}"),
            Change::Resolved(name, Some(Resolution::Failed(why))) => format!("{name}! {why}"),
            Change::Resolved(name, Some(Resolution::Addresses(addresses))) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("{name}: {}", addresses.join(" "))
            }
            other => panic!("a resolver only resolves, but {other:?}"),
        }
    }
}

#[tokio::test]
async fn addresses_of_both_families_are_told_and_followed() {
    let mut fixture = Fixture::start(PACE).await;
    fixture
        .server
        .set("db.example", &["192.0.2.2", "192.0.2.1", "2001:db8::1"]);
    fixture.want(&["db.example"]);
    assert_eq!(
        fixture.next().await,
        "db.example: 192.0.2.1 192.0.2.2 2001:db8::1"
    );
    fixture.server.set("db.example", &["192.0.2.9"]);
    assert_eq!(fixture.next().await, "db.example: 192.0.2.9");
}

#[tokio::test]
async fn an_alias_is_followed() {
    let mut fixture = Fixture::start(PACE).await;
    fixture.server.set("www.example", &["real.example."]);
    fixture.server.set("real.example", &["192.0.2.7"]);
    fixture.want(&["www.example"]);
    assert_eq!(fixture.next().await, "www.example: 192.0.2.7");
}

#[tokio::test]
async fn a_failure_is_told_and_asked_again() {
    let mut fixture = Fixture::start(PACE).await;
    fixture.server.set("empty.example", &[]);
    fixture.want(&["empty.example"]);
    assert_eq!(
        fixture.next().await,
        "empty.example! the name has neither an A nor an AAAA record"
    );
    fixture.want(&["late.example"]);
    assert_eq!(fixture.next().await, "-empty.example");
    assert_eq!(
        fixture.next().await,
        "late.example! the name does not exist"
    );
    fixture.server.set("late.example", &["192.0.2.1"]);
    assert_eq!(fixture.next().await, "late.example: 192.0.2.1");
}

#[tokio::test]
async fn addresses_hold_while_the_server_fails() {
    let mut fixture = Fixture::start(PACE).await;
    fixture.server.set("db.example", &["192.0.2.1"]);
    fixture.want(&["db.example"]);
    assert_eq!(fixture.next().await, "db.example: 192.0.2.1");
    fixture.server.fail(true);
    fixture.server.asked(12).await;
    fixture.server.set("db.example", &["192.0.2.2"]);
    fixture.server.fail(false);
    assert_eq!(fixture.next().await, "db.example: 192.0.2.2");
}

#[tokio::test]
async fn addresses_do_not_hold_for_ever() {
    let pace = Pace {
        stale_max: Duration::from_millis(100),
        ..PACE
    };
    let mut fixture = Fixture::start(pace).await;
    fixture.server.set("db.example", &["192.0.2.1"]);
    fixture.want(&["db.example"]);
    assert_eq!(fixture.next().await, "db.example: 192.0.2.1");
    fixture.server.fail(true);
    let told = fixture.next().await;
    assert!(
        told.starts_with("db.example! the name server answered with an error"),
        "{told}"
    );
}

#[tokio::test]
async fn only_changes_are_told_and_a_dropped_name_is_asked_for_no_more() {
    let mut fixture = Fixture::start(PACE).await;
    fixture.server.set("a.example", &["192.0.2.1"]);
    fixture.server.set("b.example", &["192.0.2.2"]);
    fixture.want(&["a.example"]);
    assert_eq!(fixture.next().await, "a.example: 192.0.2.1");
    fixture.server.asked(8).await;
    fixture.want(&["a.example", "b.example"]);
    assert_eq!(fixture.next().await, "b.example: 192.0.2.2");
    fixture.want(&["b.example"]);
    assert_eq!(fixture.next().await, "-a.example");
}

#[tokio::test]
async fn the_hosts_file_goes_before_the_servers() {
    let mut fixture = Fixture::start(PACE).await;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert!(
        hosts.contains("localhost"),
        "this test needs a localhost in /etc/hosts"
    );
    fixture.want(&["localhost"]);
    let told = fixture.next().await;
    assert!(
        told.starts_with("localhost: ") && told.contains("127.0.0.1"),
        "{told}"
    );
    assert_eq!(fixture.server.questions(), 0);
}

#[tokio::test]
async fn it_ends_with_its_channels() {
    let fixture = Fixture::start(PACE).await;
    drop(fixture.wanted);
    timeout(DEADLINE, fixture.running).await.unwrap().unwrap();
    let fixture = Fixture::start(PACE).await;
    drop(fixture.changes);
    timeout(DEADLINE, fixture.running).await.unwrap().unwrap();
}

#[test]
fn failures_are_spaced_ever_wider() {
    let pace = Pace::default();
    let waits: Vec<_> = [1, 2, 3, 6, 7, 100]
        .map(|failures| pace.retry(failures).as_secs())
        .into();
    assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
}
