//! Processes that are killed while they write.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::snapshots::number_of;
use super::*;

const FOLDER: &str = "TIDEGATE_TEST_CACHE";
const HOSTS: u16 = 60;
const ROUNDS: u32 = 12;

/// Not a test by itself: the process that is killed. Writes a number when its snapshot is on disk.
#[test]
#[ignore = "started by its parent"]
fn child_that_commits() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    block_on(async {
        let cache = open(Path::new(&folder));
        let saved = cache.last_good().await;
        let mut number = saved.map_or(0, |saved| number_of(&saved.snapshot).unwrap());
        loop {
            number += 1;
            if cache.persist(&numbered(HOSTS, number)).await == Persisted::Durable {
                println!("\ncommitted {number}");
                std::io::stdout().flush().unwrap();
            }
        }
    });
}

#[test]
fn a_killed_process_leaves_its_last_commit() {
    let folder = folder();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["cache::tests::killed::child_that_commits", "--exact"])
            .args(["--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok).filter_map(|line| {
            let number = line.strip_prefix("committed ")?;
            number.parse::<u32>().ok()
        });
        // At another moment of a commit each time.
        let commits = 2 + round as usize % 3;
        acknowledged = lines.by_ref().take(commits).last().expect("it commits");
        std::thread::sleep(Duration::from_micros(u64::from(round) * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = lines.last().unwrap_or(acknowledged);

        let begin = std::time::Instant::now();
        let (saved, standing) = block_on(async {
            let cache = open(folder.path());
            let saved = cache.last_good().await;
            let standing = cache.standing();
            cache.release().await;
            (saved, standing)
        });
        assert_eq!(standing.set_aside, 0, "{:?}", standing.last_error);
        let snapshot = saved.expect("a snapshot").snapshot;
        let number = number_of(&snapshot).expect("one snapshot, not parts of two");
        assert!(
            number == acknowledged || number == acknowledged + 1,
            "{number} after {acknowledged}"
        );
        assert_eq!(image(&snapshot), image(&numbered(HOSTS, number)));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    println!("{acknowledged} commits in {ROUNDS} lives");
}
