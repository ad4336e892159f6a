//! A flood of connection attempts from one address, beside the requests of another.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::Guard;
use tidegate::settings::GuardMode;

use crate::client::{request, serve, server, socket};
use crate::namespace::{ONE_V4, OTHER_V4, SERVER, Wire};
use crate::settings::{NO_PATIENCE, Rules, guard, listener, packets, state};

const PORT: u16 = 8443;
/// SYNs a second of one address, and at once: more than the requests need.
const RATE: u32 = 200;
const BURST: u32 = 400;
const REQUESTS: u32 = 300;
/// From the begin of one request to the begin of the next.
const PACE: Duration = Duration::from_millis(10);

#[test]
fn a_flood_from_one_address_is_limited_and_another_one_is_untouched() {
    let wire = Wire::new();
    serve(&wire, &[PORT]);
    let alone = requests(&wire);
    let (bare, _, _) = beside_flood(&wire);
    let settings = guard(
        SERVER,
        GuardMode::Auto,
        &[listener("8443").limit(RATE, BURST)],
    );
    let guard = wire
        .server
        .run(move || Guard::start(&settings, None, NO_PATIENCE).unwrap());
    assert_eq!(state(&guard, SERVER), "native");
    let (guarded, sent, lasted) = beside_flood(&wire);
    let limited = packets(&guard, "limited");
    let may_pass = f64::from(BURST) + f64::from(RATE) * lasted.as_secs_f64();
    println!("figure: guard: SYNs of the flood = {sent}");
    println!("figure: guard: SYNs that were dropped = {limited}");
    println!(
        "figure: guard: p99 of another address, no flood = {} ms",
        alone.p99()
    );
    println!(
        "figure: guard: p99 of another address, flood, no guard = {} ms",
        bare.p99()
    );
    println!(
        "figure: guard: p99 of another address, flood, guard = {} ms",
        guarded.p99()
    );
    assert!(
        f64::from(sent) > 2.0 * may_pass,
        "too small a flood: {sent}"
    );
    assert!(
        limited as f64 >= f64::from(sent) - may_pass - 10.0,
        "{limited} of {sent} were dropped, {may_pass} may pass"
    );
    assert!(limited <= u64::from(sent), "only the flood is limited");
    assert_eq!((alone.failed, guarded.failed), (0, 0));
    guard.remove();
}

/// Times of the requests that succeeded, sorted.
struct Requests {
    times: Vec<Duration>,
    failed: usize,
}

impl Requests {
    fn p99(&self) -> String {
        let index = self.times.len() * 99 / 100;
        let time = self.times.get(index).copied().unwrap_or_default();
        format!("{:.2}", time.as_secs_f64() * 1000.0)
    }
}

fn requests(wire: &Wire) -> Requests {
    let from: IpAddr = OTHER_V4.parse().unwrap();
    wire.client.run(move || {
        let begin = Instant::now();
        let mut times = Vec::new();
        for number in 0..REQUESTS {
            thread::sleep((PACE * number).saturating_sub(begin.elapsed()));
            times.extend(request(from, PORT).ok());
        }
        times.sort();
        let failed = REQUESTS as usize - times.len();
        Requests { times, failed }
    })
}

/// Requests while one address floods; how many SYNs it sent, and for how long.
fn beside_flood(wire: &Wire) -> (Requests, u32, Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let flood = wire.client.run(move || {
        let from: IpAddr = ONE_V4.parse().unwrap();
        thread::spawn(move || {
            let begin = Instant::now();
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                let socket = socket(from);
                socket.set_nonblocking(true).unwrap();
                // The SYN is sent; nobody waits for the answer.
                _ = socket.connect(&server(from, PORT).into());
                sent += 1;
                if sent % 16 == 0 {
                    // Leaves the machine some time for what is measured.
                    thread::sleep(Duration::from_millis(1));
                }
            }
            (sent, begin.elapsed())
        })
    });
    let requests = requests(wire);
    over.store(true, Ordering::Relaxed);
    let (sent, lasted) = flood.join().unwrap();
    (requests, sent, lasted)
}
