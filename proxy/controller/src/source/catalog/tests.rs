//! What wins, what is kept and what is told, version by version.

use proptest::prelude::*;

use super::*;

/// A file's documents: each a Service by number, and one of its versions.
type Version = Vec<(u8, u8)>;

fn text(version: &Version) -> String {
    let documents = version.iter().map(|(name, port)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
        )
    });
    documents.collect::<Vec<_>>().join("---\n")
}

fn path(file: u8) -> PathBuf {
    PathBuf::from(format!("m/{file}.yaml"))
}

fn apply(view: &mut BTreeMap<String, String>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(object) => {
                let old = view.insert(object.reference().to_string(), format!("{object:?}"));
                assert_ne!(
                    old,
                    Some(format!("{object:?}")),
                    "told again what was known"
                );
            }
            Change::Remove(reference) => {
                assert!(view.remove(&reference.to_string()).is_some());
            }
            Change::Resolved(..) => panic!("a catalog resolves nothing"),
        }
    }
}

proptest! {
    /// However files came to be what they are, what is in force is what a first look at them finds.
    #[test]
    fn edits_lead_where_a_fresh_look_does(
        edits in prop::collection::vec(
            (0_u8..3, prop::option::weighted(0.8, prop::collection::vec((0_u8..5, 1_u8..4), 0..7))),
            1..12,
        )
    ) {
        let mut edited = Catalog::default();
        let mut view = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (file, version) in edits {
            match &version {
                Some(version) => edited.read(&path(file), &text(version)),
                None => edited.forget(&path(file)),
            }
            files.insert(file, version);
            apply(&mut view, edited.changes());

            let mut fresh = Catalog::default();
            for (file, version) in &files {
                if let Some(version) = version {
                    fresh.read(&path(*file), &text(version));
                }
            }
            let mut expected = BTreeMap::new();
            apply(&mut expected, fresh.changes());
            prop_assert_eq!(&view, &expected);
            prop_assert_eq!(edited.problems(), fresh.problems());
        }
    }

    /// While a document does not parse, no object of the file is lost.
    #[test]
    fn a_broken_version_loses_nothing(
        before in prop::collection::vec((0_u8..5, 1_u8..4), 0..7),
        broken in prop::collection::vec((0_u8..5, 1_u8..4), 0..7),
    ) {
        let mut catalog = Catalog::default();
        let mut view = BTreeMap::new();
        catalog.read(&path(0), &text(&before));
        apply(&mut view, catalog.changes());
        let known: Vec<_> = view.keys().cloned().collect();
        let unparsable = format!("{}\n---\nkind: [\n", text(&broken));
        catalog.read(&path(0), &unparsable);
        apply(&mut view, catalog.changes());
        prop_assert!(known.iter().all(|object| view.contains_key(object)));
        catalog.read(&path(0), &text(&broken));
        apply(&mut view, catalog.changes());
        let names: BTreeSet<_> = broken.iter().map(|(name, _)| format!("Service default/s{name}")).collect();
        prop_assert_eq!(view.into_keys().collect::<BTreeSet<_>>(), names);
    }
}
