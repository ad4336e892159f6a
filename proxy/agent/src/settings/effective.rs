//! The settings in effect as they were written, each with the place that it is from.

use std::collections::BTreeSet;
use std::fmt;

use super::key::{self, Key};

/// Where the value of a setting is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag (`--http`) or a variable (`TIDEGATE_HTTP`), as it is called.
    Argument(String),
    /// The settings file, or the ConfigMap in its place.
    File(Place),
    /// Nobody wrote one.
    Default,
}

/// Which text has the keys of a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file, by its path.
    Path(String),
    /// A ConfigMap, as namespace/name.
    ConfigMap(String),
}

/// What was written for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing, and there is no default.
    Nothing,
    /// One value.
    One(String),
    /// Any number of values.
    Many(Vec<String>),
    /// A mapping, as lines of YAML without indentation.
    Block(String),
}

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) written: Written,
    pub(crate) origin: Origin,
}

/// All settings in effect, one entry a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective(Vec<Entry>);

impl Effective {
    /// Puts them in the order of the keys.
    pub(super) fn sort(&mut self) {
        let place = |key| key::ALL.iter().position(|other| *other == key);
        self.0.sort_by_key(|entry| place(entry.key));
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Another value for an entry that is there.
    pub(super) fn amend(&mut self, key: Key, written: Written) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.key == key) {
            entry.written = written;
        }
    }

    /// What is in effect for a key.
    pub(crate) fn entry(&self, key: Key) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Where the value of a key is from.
    pub(super) fn origin(&self, key: Key) -> &Origin {
        self.entry(key)
            .map_or(&Origin::Default, |entry| &entry.origin)
    }

    /// The entries whose values are others than before, each with the one before.
    pub(super) fn changed_from<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a Entry, &'a Entry)> {
        let pairs = self
            .0
            .iter()
            .filter_map(|now| Some((before.entry(now.key)?, now)));
        // What the machine says of itself may be something else by now, and is no wish of anybody.
        pairs.filter(|(before, now)| {
            before.written != now.written
                && (&before.origin, &now.origin) != (&Origin::Default, &Origin::Default)
        })
    }

    /// A settings file that says the same, with the origin of each value.
    pub(crate) fn yaml(&self) -> String {
        let mut text = String::new();
        let mut done = BTreeSet::new();
        for entry in &self.0 {
            match entry.key.name.split_once('.') {
                None => text.push_str(&line(entry.key.name, entry)),
                // A mapping stands where its first key does.
                Some((mapping, _)) => {
                    if done.insert(mapping) {
                        text.push_str(&self.mapping(mapping));
                    }
                }
            }
        }
        text
    }

    fn mapping(&self, name: &str) -> String {
        let lines = self.0.iter().filter_map(|entry| {
            let (mapping, key) = entry.key.name.split_once('.')?;
            (mapping == name).then(|| indented(&line(key, entry)))
        });
        format!("{name}:\n{}", lines.collect::<String>())
    }
}

fn line(key: &str, entry: &Entry) -> String {
    let Entry {
        written, origin, ..
    } = entry;
    match written {
        Written::Nothing => format!("# {key} is not set\n"),
        Written::One(_) | Written::Many(_) => format!("{key}: {written}  # {origin}\n"),
        Written::Block(yaml) => format!("{key}:  # {origin}\n{}", indented(yaml)),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => write!(f, "from {name}"),
            Self::File(Place::Path(path)) => write!(f, "from {path}"),
            Self::File(place) => write!(f, "from {place}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "settings file {path}"),
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
        }
    }
}

/// A value as YAML, on one line but for a block.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("not set"),
            Self::One(text) => f.write_str(&scalar(text)),
            Self::Many(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| scalar(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Block(yaml) => f.write_str(yaml.trim_end()),
        }
    }
}

/// A text that a YAML reader takes for this very text, or for the number that it is.
fn scalar(text: &str) -> String {
    match is_plain(text) {
        true => text.to_owned(),
        // A string of JSON is one of YAML (YAML 1.2.2 section 1.2).
        false => serde_json::Value::from(text).to_string(),
    }
}

/// Whether no reader takes the text, without quotes, for anything else.
fn is_plain(text: &str) -> bool {
    /// What YAML has words for, in this case or another. Those for a boolean that it is written as are no trouble.
    const WORDS: [&str; 7] = ["null", "y", "n", "yes", "no", "on", "off"];
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else {
        return false;
    };
    if first.is_ascii_digit() {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_number = rest.is_empty() && (*first != b'0' || text.len() == 1);
        let is_time = !rest.is_empty() && rest.bytes().all(|b| b"0123456789mshd".contains(&b));
        // An IPv4 address or network.
        let is_dotted =
            text.matches('.').count() > 1 && text.bytes().all(|b| b"0123456789./".contains(&b));
        return is_number || is_time || is_dotted;
    }
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || b"-._/".contains(b);
    (first.is_ascii_alphabetic() || *first == b'/')
        && bytes.iter().all(is_word)
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::File;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in [
            "80",
            "0",
            "007",
            "1e3",
            "1.0",
            "0x10",
            "off",
            "no",
            "null",
            "~",
            "",
            "10s",
            "1m30s",
            "127.0.0.1:80",
            "[::1]:80",
            "::1",
            "10.0.0.0/8",
            "10.0.0.7",
            "a b",
            " a",
            "a: b",
            "a #b",
            "#b",
            "tier in (a, b),!c",
            "\"q\"",
            "é\t\n",
            "-",
            "- a",
            "true",
            "/etc/x",
            "12:30:45",
            "@a",
            "%",
            "_1",
            ".5",
            "+1",
        ] {
            let written = Written::One(text.to_owned());
            let list = Written::Many(vec![text.to_owned(), "x".to_owned()]);
            let file = File::parse(&format!(
                "instance: {written}  # here\nhttp: {list}  # there\n"
            ));
            let file = file.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(file.instance.map(|scalar| scalar.0).as_deref(), Some(text));
            assert_eq!(
                file.http.map(|list| list.0[0].0.clone()).as_deref(),
                Some(text)
            );
        }
    }
}
