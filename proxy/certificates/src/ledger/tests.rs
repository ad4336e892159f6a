//! What the ledger remembers, and how it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_model::{HostPattern, UnixTime};

use super::*;
use crate::names::NameSet;
use crate::store::{Record, RecordKind};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn names(list: &[&str]) -> NameSet {
    let names = list.iter().filter_map(|name| HostPattern::parse(name).ok());
    NameSet::new(names).unwrap_or_else(|| panic!("{list:?}"))
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "no".to_owned(),
        retry_after: None,
        keep_order: false,
        failed_names: Vec::new(),
    }
}

fn order() -> InFlight {
    InFlight {
        issuer: "first".to_owned(),
        directory: "https://ca".to_owned(),
        is_rehearsal: false,
        begun: NOW.0,
        url: None,
        key: "a private key".to_owned(),
    }
}

fn with_order(list: &[&str]) -> (Ledger, crate::SetId) {
    let mut ledger = Ledger::default();
    let names = names(list);
    ledger.demanded(&names, NOW);
    let id = names.id();
    if let Some(entry) = ledger.sets.get_mut(&id) {
        entry.order = Some(order());
    }
    (ledger, id)
}

fn save(ledger: &mut Ledger) -> Vec<Record> {
    let mut unsaved = ledger.unsaved();
    for (version, record) in unsaved.iter_mut().enumerate() {
        ledger.saved(record, version.to_string());
        record.version = Some(version.to_string());
    }
    unsaved
}

fn record(name: &str, text: &str) -> Record {
    let mut record = Record::new(RecordKind::Ledger, name);
    record.version = Some("7".to_owned());
    let entries = BTreeMap::from([("ledger.json".to_owned(), text.as_bytes().to_vec())]);
    record.entries = entries;
    record
}

#[test]
fn what_is_written_is_read_and_only_what_changed_is_written() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    ledger.placed(&id, "https://ca/order/1", NOW);
    let records = save(&mut ledger);
    let written: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(written, [id.shard(), DIRECTORIES]);
    assert!(ledger.unsaved().is_empty());

    let (mut read, complaints) = Ledger::load(records);
    assert!(complaints.is_empty());
    assert_eq!(
        (&read.sets, &read.directories),
        (&ledger.sets, &ledger.directories)
    );
    assert!(read.unsaved().is_empty());

    read.unwanted(&id, NOW);
    let changed = read.unsaved();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].version.as_deref(), Some("0"));
}

#[test]
fn what_changes_while_it_is_written_stays_unsaved() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    let written = ledger.unsaved();
    ledger.unwanted(&id, NOW);
    for record in &written {
        ledger.saved(record, "1");
    }
    let unsaved = ledger.unsaved();
    assert_eq!(unsaved.len(), 1);
    assert_eq!(unsaved[0].version.as_deref(), Some("1"));
}

#[test]
fn what_cannot_be_read_is_kept_for_a_day_and_then_set_aside() {
    for text in [
        "{",
        "{\"format\":2,\"sets\":{}}",
        "{\"format\":1,\"sets\":{\"ab\":{}}}",
        "",
    ] {
        let (mut ledger, complaints) = Ledger::load(vec![record("3", text)]);
        assert!(
            complaints[0].contains("'3' cannot be read"),
            "{complaints:?}"
        );
        // The time is noted beside it, and survives.
        ledger.prune(NOW);
        let noted = save(&mut ledger);
        assert_eq!(noted.len(), 1);
        assert_eq!(noted[0].entries["ledger.json"], text.as_bytes());
        let (mut ledger, _) = Ledger::load(noted);
        assert!(ledger.unsaved().is_empty());
        let id = (0..)
            .map(|at| names(&[&format!("h{at}.example.com")]).id())
            .find(|id| id.shard() == "3")
            .unwrap_or_else(|| panic!("no set in shard 3"));
        let later = UnixTime(NOW.0 + DAY - 1);
        ledger.prune(later);
        assert_eq!(ledger.sealed_until(&id, later), Some(UnixTime(NOW.0 + DAY)));

        ledger.prune(UnixTime(NOW.0 + DAY));
        assert_eq!(ledger.sealed_until(&id, later), None);
        let written = save(&mut ledger);
        let written: BTreeMap<_, _> = written
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        assert_eq!(
            written["3-set-aside"].entries["ledger.json"],
            text.as_bytes()
        );
        assert_eq!(written["3"].entries.len(), 1);
        let (ledger, complaints) = Ledger::load(written.into_values().collect());
        assert!(complaints.is_empty());
        assert!(ledger.unsaved().is_empty());
    }
}

#[test]
fn records_of_others_are_left_alone() {
    let (ledger, complaints) = Ledger::load(vec![record("10", "{}"), record("3-set-aside", "x")]);
    assert_eq!(complaints.len(), 1);
    assert!(ledger.unsaved().is_empty());
}

#[test]
fn ten_thousand_sets_fit_into_secrets() {
    let mut ledger = Ledger::default();
    for at in 0..10_000 {
        let hosts: Vec<_> = (0..3)
            .map(|host| format!("host-{host}.customer-{at}.example.com"))
            .collect();
        let names = names(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
        ledger.demanded(&names, NOW);
        let long = Failure {
            message: "x".repeat(2000),
            ..failure(FailureKind::Validation)
        };
        ledger.failed(&names.id(), &long, NOW);
        let renewal = Renewal {
            explanation: Some("https://ca.example/why".to_owned()),
            ..Renewal::unsupported("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", NOW)
        };
        ledger.renewal(&names.id(), renewal);
    }
    let unsaved = ledger.unsaved();
    assert_eq!(unsaved.len(), 16);
    for record in &unsaved {
        let size: usize = record.entries.values().map(Vec::len).sum();
        assert!(size <= 1024 * 1024, "{size} bytes in {}", record.name);
    }
    let (read, _) = Ledger::load(unsaved);
    assert_eq!(read.sets.len(), 10_000);
}

#[test]
fn too_much_for_a_record_costs_what_was_not_touched_longest() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    for at in 0..600_000_u32 {
        let text = format!("{}{at:031x}", id.shard());
        let Ok(other) = crate::SetId::try_from(text) else {
            panic!("no identity")
        };
        let entry = SetEntry {
            on_demand: Some(NOW.0 - i64::from(at)),
            ..SetEntry::default()
        };
        ledger.sets.insert(other, entry);
        if at == 20_000 {
            break;
        }
    }
    let unsaved = ledger.unsaved();
    let size: usize = unsaved
        .iter()
        .flat_map(|record| record.entries.values())
        .map(Vec::len)
        .sum();
    assert!(size <= 1024 * 1024, "{size} bytes");
    let (read, _) = Ledger::load(unsaved);
    assert!(read.sets.len() > 1000);
    assert!(
        read.sets
            .values()
            .all(|entry| entry.on_demand > Some(NOW.0 - 20_000))
    );
    assert!(
        read.sets
            .get(&id)
            .is_some_and(|entry| entry.order.is_some())
    );
}

#[test]
fn too_many_domains_cost_those_furthest_from_a_limit() {
    let mut ledger = Ledger::default();
    let directory = ledger
        .directories
        .entry("https://ca".to_owned())
        .or_default();
    for at in 0..40_000 {
        directory
            .issued
            .insert(format!("customer-{at}.example"), vec![NOW.0]);
    }
    directory
        .issued
        .insert("busy.example".to_owned(), vec![NOW.0; 40]);
    let unsaved = ledger.unsaved();
    assert!(unsaved[0].entries.values().map(Vec::len).sum::<usize>() <= 1024 * 1024);
    let (read, _) = Ledger::load(unsaved);
    assert_eq!(
        read.directories["https://ca"].issued["busy.example"].len(),
        40
    );
}

#[test]
fn keys_are_not_shown() {
    let (ledger, _) = with_order(&["a.example.com"]);
    assert!(!format!("{ledger:?}").contains("a private key"));
}

#[test]
fn a_rate_limit_closes_the_directory_for_an_hour_at_most_and_the_set_for_as_long_as_it_says() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    let asked = Duration::from_secs(40 * 3600);
    ledger.failed(
        &id,
        &Failure {
            retry_after: Some(asked),
            ..failure(FailureKind::RateLimited)
        },
        NOW,
    );
    assert_eq!(
        ledger.directories["https://ca"].closed_until,
        Some(NOW.0 + HOUR)
    );
    let retry = ledger.sets[&id].retry_at.unwrap_or_default() - NOW.0;
    assert!((40 * HOUR..=40 * HOUR + MINUTE).contains(&retry), "{retry}");
    // No CA can ask for years.
    let asked = Duration::MAX;
    ledger.failed(
        &id,
        &Failure {
            retry_after: Some(asked),
            ..failure(FailureKind::RateLimited)
        },
        NOW,
    );
    assert!(ledger.sets[&id].retry_at <= Some(NOW.0 + WEEK + MINUTE));
}

#[test]
fn what_does_not_count_any_more_is_forgotten() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    ledger.placed(&id, "https://ca/order/1", NOW);
    ledger.failed(&id, &failure(FailureKind::Validation), NOW);
    ledger.directory_closed("https://ca", UnixTime(NOW.0 + 10));
    ledger.prune(UnixTime(NOW.0 + 5));
    assert_eq!(ledger.sets[&id].failed_validations.len(), 1);
    assert_eq!(ledger.directories["https://ca"].orders.len(), 1);
    ledger.prune(UnixTime(NOW.0 + HOUR));
    assert!(ledger.sets[&id].failed_validations.is_empty());
    assert_eq!(ledger.directories["https://ca"].closed_until, None);
    ledger.prune(UnixTime(NOW.0 + ORDERS_WINDOW));
    assert!(ledger.directories.is_empty());
    ledger.removed(&id);
    ledger.prune(UnixTime(NOW.0 + ORDERS_WINDOW));
    assert!(ledger.sets.is_empty());
}

#[test]
fn a_clock_that_was_years_ahead_holds_nothing_up() {
    let (mut ledger, id) = with_order(&["a.example.com"]);
    let ahead = UnixTime(NOW.0 + 4000 * DAY);
    ledger.placed(&id, "https://ca/order/1", ahead);
    ledger.failed(&id, &failure(FailureKind::Validation), ahead);
    ledger.directory_closed("https://ca", ahead);
    ledger.prune(NOW);
    let directory = &ledger.directories["https://ca"];
    assert_eq!(directory.orders, [NOW.0]);
    assert_eq!(directory.closed_until, Some(NOW.0 + WEEK));
    assert_eq!(ledger.sets[&id].failed_validations, [NOW.0]);
    assert!(ledger.sets[&id].retry_at <= Some(NOW.0 + 30 * DAY));
}

proptest! {
    #[test]
    fn waits_are_within_their_bounds(
        host in "[a-z]{1,20}",
        failures in any::<u32>(),
        seconds in prop::option::of(any::<u64>()),
    ) {
        let id = names(&[&format!("{host}.example.com")]).id();
        let mut ledger = Ledger::default();
        ledger.sets.entry(id.clone()).or_default().failures = failures;
        let kinds = [
            (FailureKind::Unavailable, MINUTE, 8 * HOUR),
            (FailureKind::Validation, MINUTE, 8 * HOUR),
            (FailureKind::Internal, MINUTE, 8 * HOUR),
            (FailureKind::Settings, MINUTE, 8 * HOUR),
            (FailureKind::NotProven, MINUTE, MINUTE),
            (FailureKind::Permanent, DAY, WEEK),
            (FailureKind::RateLimited, HOUR, 8 * HOUR),
        ];
        for (kind, least, most) in kinds {
            ledger.failed(&id, &failure(kind), NOW);
            let wait = ledger.sets[&id].retry_at.unwrap_or_default() - NOW.0;
            prop_assert!((least..=most).contains(&wait), "{:?}: {}", kind, wait);
            let asked = Failure { retry_after: seconds.map(Duration::from_secs), ..failure(kind) };
            ledger.failed(&id, &asked, NOW);
            let wait = ledger.sets[&id].retry_at.unwrap_or_default() - NOW.0;
            let asked = seconds.map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX).min(WEEK));
            prop_assert!(wait >= asked && wait <= WEEK + MINUTE, "{:?}: {}", kind, wait);
        }
    }

    #[test]
    fn reading_never_fails(name in "[0-9a-f]|directories|[a-z-]{0,12}", text in any::<Vec<u8>>()) {
        let mut one = record(&name, "");
        one.entries.insert("ledger.json".to_owned(), text);
        let (mut ledger, complaints) = Ledger::load(vec![one]);
        prop_assert!(complaints.len() <= 1);
        ledger.prune(NOW);
        for record in ledger.unsaved() {
            ledger.saved(&record, "8");
        }
        prop_assert!(ledger.unsaved().is_empty());
    }
}
