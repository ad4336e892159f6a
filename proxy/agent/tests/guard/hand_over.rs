//! One guard after another on the same interface.

use std::ffi::CStr;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tidegate::Guard;
use tidegate::settings::{GuardListener, GuardMode};

use crate::client::{connects, serve, server, socket};
use crate::namespace::{ONE_V4, OTHER_V4, SERVER, Wire};
use crate::settings::{NO_PATIENCE, Rules, guard, listener, state};

const PORT: u16 = 8443;
const HAND_OVERS: usize = 20;

/// A BPF file system of the test's own, for pins; gone with all that is in it.
struct Pins(TempDir);

impl Pins {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        mount(
            "bpf",
            folder.path(),
            "bpf",
            MountFlags::empty(),
            None::<&CStr>,
        )
        .expect("the tests of the guard need CAP_SYS_ADMIN and a kernel with the BPF file system");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn files(&self) -> usize {
        let files = fs::read_dir(self.path()).unwrap();
        // The file system has two of its own.
        let names = files.map(|file| file.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("guard-"))
            .count()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn denying(net: &str) -> GuardListener {
    listener(&PORT.to_string()).deny(net)
}

fn start(wire: &Wire, listener: GuardListener, pins: Option<&Path>, patience: Duration) -> Guard {
    let settings = guard(SERVER, GuardMode::Auto, &[listener]);
    let pins = pins.map(Path::to_owned);
    wire.server
        .run(move || Guard::start(&settings, pins.as_deref(), patience).unwrap())
}

#[test]
fn a_second_guard_takes_the_firsts_place_with_its_own_rules() {
    let wire = Wire::new();
    let pins = Pins::new();
    serve(&wire, &[PORT]);
    let first = start(&wire, denying(ONE_V4_NET), Some(pins.path()), NO_PATIENCE);
    let second = start(&wire, denying(OTHER_V4_NET), Some(pins.path()), NO_PATIENCE);
    assert_eq!(state(&second, SERVER), "native");
    assert!(connects(&wire, ONE_V4, PORT) && !connects(&wire, OTHER_V4, PORT));
    // The second one dies after it took the place, and the first one takes it back.
    drop(second);
    assert!(
        !connects(&wire, OTHER_V4, PORT),
        "the place outlives its process"
    );
    let again = start(&wire, denying(ONE_V4_NET), Some(pins.path()), NO_PATIENCE);
    assert!(!connects(&wire, ONE_V4, PORT) && connects(&wire, OTHER_V4, PORT));
    let third = start(&wire, denying(OTHER_V4_NET), Some(pins.path()), NO_PATIENCE);
    drop((first, again));
    assert!(
        !connects(&wire, OTHER_V4, PORT),
        "the first one took nothing away"
    );
    assert_eq!(pins.files(), 1);
    third.remove();
    assert_eq!(pins.files(), 0);
    assert!(connects(&wire, ONE_V4, PORT) && connects(&wire, OTHER_V4, PORT));
}

const ONE_V4_NET: &str = "10.77.0.2/32";
const OTHER_V4_NET: &str = "10.77.0.3/32";

#[test]
fn no_connection_slips_in_while_guards_change() {
    let wire = Wire::new();
    let pins = Pins::new();
    serve(&wire, &[PORT]);
    let mut current = start(&wire, denying(ONE_V4_NET), Some(pins.path()), NO_PATIENCE);
    let (over, slipped) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let tried = wire.client.run({
        let (over, slipped) = (Arc::clone(&over), Arc::clone(&slipped));
        move || thread::spawn(move || knock(&over, &slipped))
    });
    for _ in 0..HAND_OVERS {
        let next = start(&wire, denying(ONE_V4_NET), Some(pins.path()), NO_PATIENCE);
        drop(std::mem::replace(&mut current, next));
    }
    over.store(true, Ordering::Relaxed);
    let tried = tried.join().unwrap();
    println!("figure: guard: attempts during {HAND_OVERS} hand-overs = {tried}");
    assert!(tried > 100, "{tried}");
    assert_eq!(slipped.load(Ordering::Relaxed), 0);
    current.remove();
}

/// Connects from the denied address again and again; how often. Counts those that succeed within some milliseconds.
fn knock(over: &AtomicBool, slipped: &AtomicU32) -> u32 {
    let from: IpAddr = ONE_V4.parse().unwrap();
    let mut tried = 0;
    while !over.load(Ordering::Relaxed) {
        tried += 1;
        let connected =
            socket(from).connect_timeout(&server(from, PORT).into(), Duration::from_millis(3));
        if connected.is_ok() {
            slipped.fetch_add(1, Ordering::Relaxed);
        }
    }
    tried
}

#[test]
fn without_pins_the_second_guard_waits_for_the_first() {
    let wire = Wire::new();
    serve(&wire, &[PORT]);
    let first = start(&wire, denying(ONE_V4_NET), None, NO_PATIENCE);
    let second = start(&wire, denying(OTHER_V4_NET), None, Duration::from_secs(60));
    assert_eq!(state(&second, SERVER), "off");
    assert!(!connects(&wire, ONE_V4, PORT) && connects(&wire, OTHER_V4, PORT));
    drop(first);
    let begin = Instant::now();
    while state(&second, SERVER) == "off" {
        assert!(begin.elapsed() < Duration::from_secs(10), "it still waits");
        thread::sleep(Duration::from_millis(5));
    }
    println!(
        "figure: guard: gap of a hand-over without pins = {} ms",
        begin.elapsed().as_millis()
    );
    assert!(connects(&wire, ONE_V4, PORT) && !connects(&wire, OTHER_V4, PORT));
    drop(second);
    assert!(
        connects(&wire, OTHER_V4, PORT),
        "without pins nothing stays"
    );
}

#[test]
fn another_ones_program_is_left_in_place() {
    let wire = Wire::new();
    serve(&wire, &[PORT]);
    let first = start(&wire, denying(ONE_V4_NET), None, NO_PATIENCE);
    let second = start(
        &wire,
        denying(OTHER_V4_NET),
        None,
        Duration::from_millis(300),
    );
    thread::sleep(Duration::from_millis(800));
    assert_eq!(state(&second, SERVER), "off");
    second.remove();
    assert!(!connects(&wire, ONE_V4, PORT) && connects(&wire, OTHER_V4, PORT));
    first.remove();
}

#[test]
fn a_change_of_mode_takes_the_place_away_first() {
    let wire = Wire::new();
    let pins = Pins::new();
    serve(&wire, &[PORT]);
    let first = start(&wire, denying(ONE_V4_NET), Some(pins.path()), NO_PATIENCE);
    let settings = guard(SERVER, GuardMode::Generic, &[denying(ONE_V4_NET)]);
    let folder = pins.path().to_owned();
    let second = wire
        .server
        .run(move || Guard::start(&settings, Some(&folder), Duration::from_secs(60)).unwrap());
    assert_eq!(state(&second, SERVER), "off");
    drop(first);
    let begin = Instant::now();
    while state(&second, SERVER) != "generic" {
        assert!(begin.elapsed() < Duration::from_secs(10), "it still waits");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!connects(&wire, ONE_V4, PORT));
    second.remove();
    assert_eq!(pins.files(), 0);
}
