//! Files that are not as they were written.

use std::fs;

use redb::{Database, TableDefinition};

use super::*;

const OTHERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tidegate");

#[test]
fn a_file_of_no_use_is_set_aside_and_a_new_one_begun() {
    block_on(async {
        let folder = folder();
        let file = settings(folder.path()).file;
        let snapshot = numbered(5, 1);
        save(settings(folder.path()), &snapshot).await;
        let good = fs::read(&file).unwrap();
        let noted = |name: &str, value: &[u8]| {
            fs::write(&file, &good).unwrap();
            let database = Database::create(&file).unwrap();
            let writing = database.begin_write().unwrap();
            let mut table = writing.open_table(META).unwrap();
            table.insert(name, value).unwrap();
            drop(table);
            writing.commit().unwrap();
        };
        let others = || {
            fs::remove_file(&file).unwrap();
            let database = Database::create(&file).unwrap();
            let writing = database.begin_write().unwrap();
            writing.open_table(OTHERS).unwrap().insert("x", 1).unwrap();
            writing.commit().unwrap();
        };
        let cases: [(&str, &dyn Fn()); 8] = [
            ("no redb file", &|| {
                fs::write(&file, "kind: Ingress\n").unwrap();
            }),
            ("no redb file", &|| {
                fs::write(&file, vec![0; 1 << 20]).unwrap();
            }),
            ("", &|| fs::write(&file, &good[..good.len() / 2]).unwrap()),
            ("another program", &others),
            ("format 2", &|| noted("format", &2u32.to_le_bytes())),
            ("instance other", &|| noted("instance", b"other")),
            ("what it is", &|| noted("commits", b"?")),
            ("no regular file", &|| {
                fs::remove_file(&file).unwrap();
                fs::create_dir(&file).unwrap();
            }),
        ];
        for (why, make) in cases {
            make();
            let (text, standing) = found(settings(folder.path())).await;
            assert_eq!(text, None, "{why}");
            assert_eq!(standing.set_aside, 1, "{why}");
            let error = standing.last_error.unwrap();
            assert!(error.contains(why), "{error} / {why}");
            assert_eq!(standing.state, CacheState::Writing, "{why}");
            // The new one works.
            save(settings(folder.path()), &snapshot).await;
            assert!(found(settings(folder.path())).await.0.is_some());
        }
        assert_eq!(set_aside(folder.path()).len(), 3);
    });
}

/// Whatever byte is changed and wherever the file ends: the start never fails, and finds one of the states that were
/// saved or none.
#[test]
fn a_damaged_file_never_gives_what_was_not_saved() {
    block_on(async {
        let folder = folder();
        let file = settings(folder.path()).file;
        let cache = open(folder.path());
        let mut states = Vec::new();
        for number in 1..=3 {
            let snapshot = numbered(12, number);
            cache.persist(&snapshot).await;
            states.push(image(&snapshot));
        }
        cache.release().await;
        let good = fs::read(&file).unwrap();
        let used: Vec<usize> = (0..good.len()).filter(|place| good[*place] != 0).collect();
        let mut outcomes = [0; 4];
        let mut unnoticed = Vec::new();
        let mut check = async |what: String, content: &[u8]| {
            fs::write(&file, content).unwrap();
            let (text, standing) = found(settings(folder.path())).await;
            let place = text.map(|text| states.iter().position(|state| *state == text));
            match place {
                Some(known) => outcomes[known.expect("a state that was saved")] += 1,
                None => {
                    if (standing.set_aside, standing.state) != (1, CacheState::Writing) {
                        unnoticed.push((what, standing.state));
                    }
                    outcomes[3] += 1;
                }
            }
        };
        // Every byte of the header counts; of the pages some.
        let header = (0..320).step_by(3);
        let pages = used.iter().copied().step_by(used.len() / 120 + 1);
        for (round, place) in header.chain(pages).enumerate() {
            let mut content = good.clone();
            content[place] ^= 1 << (round % 8);
            check(format!("byte {place}"), &content).await;
        }
        for part in 1..40 {
            let length = good.len() * part / 40;
            check(format!("length {length}"), &good[..length]).await;
        }
        let [_, before, newest, none] = outcomes;
        println!("newest {newest}, the one before {before}, none {none}");
        assert!(unnoticed.is_empty(), "{unnoticed:?}");
        assert_eq!(outcomes[0], 0, "older than the last commit but one");
        assert!(newest > 0 && none > 0);
    });
}
