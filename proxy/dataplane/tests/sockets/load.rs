//! What workers tell of how busy they are.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_dataplane::WorkerLoad;

use crate::support::*;
use crate::tls::http2_bytes;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a worker has told.
#[derive(Debug, Default)]
struct Told {
    /// Open connections and handshakes, each time.
    loads: Mutex<Vec<(usize, usize)>>,
    caught_up: AtomicUsize,
}

#[derive(Debug)]
struct Listening(Arc<Told>);

impl WorkerLoad for Listening {
    fn set(&self, open: usize, handshakes: usize) {
        self.0.loads.lock().unwrap().push((open, handshakes));
    }

    fn caught_up(&self) {
        self.0.caught_up.fetch_add(1, Ordering::SeqCst);
    }
}

impl Told {
    fn last(&self) -> (usize, usize) {
        self.loads.lock().unwrap().last().copied().unwrap_or((0, 0))
    }

    fn all(&self) -> Vec<(usize, usize)> {
        self.loads.lock().unwrap().clone()
    }
}

fn gate(workers: usize, backend: &Backend) -> (Gate, Vec<Arc<Told>>) {
    let told: Vec<Arc<Told>> = (0..workers).map(|_| Arc::default()).collect();
    let loads = told
        .iter()
        .map(|told| Box::new(Listening(told.clone())) as _);
    let gate = Gate::start_with(settings(workers), loads.collect());
    gate.publish(everything_to(backend.address));
    (gate, told)
}

#[test]
fn each_worker_tells_its_own_connections() {
    let backend = Backend::saying("x");
    let (gate, told) = gate(2, &backend);
    let mut clients: Vec<Client> = (0..40).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.response().text(), "x");
    }
    let open: Vec<usize> = told.iter().map(|told| told.last().0).collect();
    assert_eq!(open.iter().sum::<usize>(), 40);
    assert!(
        open.iter().all(|open| *open > 0),
        "both have some: {open:?}"
    );
    for told in &told {
        let steps: Vec<usize> = told.all().iter().map(|(open, _)| *open).collect();
        let each: Vec<usize> = (1..=steps.len()).collect();
        assert_eq!(steps, each, "one by one, none left out");
    }
    drop(clients);
    eventually("they are gone", || {
        told.iter().all(|told| told.last() == (0, 0))
    });
}

#[test]
fn a_handshake_counts_from_the_accept_to_its_end() {
    let backend = Backend::saying("x");
    let (gate, told) = gate(1, &backend);
    let told = &told[0];
    let mut stalled = TcpStream::connect(gate.https).unwrap();
    // The beginning of a record.
    stalled.write_all(&[22, 3, 1]).unwrap();
    eventually("it is begun", || told.last() == (1, 1));
    let mut whole = http2_bytes(gate.https);
    whole.write_all(b"PRI").unwrap();
    eventually("one is done, one is not", || told.last() == (2, 1));
    assert!(told.all().contains(&(2, 2)));
    let plain = gate.client();
    let mut asking = plain;
    asking.send(GET);
    assert_eq!(asking.response().text(), "x");
    assert_eq!(told.last(), (3, 1), "there is none in plain text");
    drop(stalled);
    eventually("it has failed", || told.last() == (2, 0));
    drop((whole, asking));
    eventually("all are gone", || told.last() == (0, 0));
}

#[test]
fn the_end_of_a_burst_is_told() {
    let backend = Backend::saying("x");
    let (gate, told) = gate(1, &backend);
    let told = &told[0];
    for _ in 0..3 {
        let before = told.caught_up.load(Ordering::SeqCst);
        let mut clients: Vec<Client> = (0..30).map(|_| gate.client()).collect();
        for client in &mut clients {
            client.send(GET);
        }
        for client in &mut clients {
            client.response();
        }
        eventually("the queue is empty", || {
            told.caught_up.load(Ordering::SeqCst) > before
        });
    }
}
