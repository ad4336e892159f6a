//! The layers that settings come from, the strongest first: flags and variables, the file, defaults.

use super::SettingsError;
use super::effective::{Effective, Entry, Origin, Place, Written};
use super::file::{Scalar, Scalars};
use super::key::Key;
use crate::cli::Given;

/// Takes each setting from the strongest layer that has it, and remembers where it was.
pub(super) struct Layers<'a> {
    given: &'a Given,
    place: Option<&'a Place>,
    effective: Effective,
}

impl<'a> Layers<'a> {
    /// Of what was given and of a file at that place.
    pub(super) fn new(given: &'a Given, place: Option<&'a Place>) -> Self {
        Self {
            given,
            place,
            effective: Effective::default(),
        }
    }

    /// Where the file is.
    pub(super) fn place(&self) -> Option<&'a Place> {
        self.place
    }

    /// What was taken so far.
    pub(super) fn effective(&self) -> &Effective {
        &self.effective
    }

    /// What was taken.
    pub(super) fn into_effective(mut self) -> Effective {
        self.effective.sort();
        self.effective
    }

    /// A setting that may have no value.
    pub(super) fn optional<T>(
        &mut self,
        key: Key,
        flag: Option<T>,
        file: Option<&Scalar>,
        parser: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        match (flag, file) {
            (Some(flag), _) => {
                self.note(
                    key,
                    self.argument(key, |texts| Written::One(texts.join(","))),
                );
                Ok(Some(flag))
            }
            (None, Some(written)) => {
                self.note(key, (Written::One(key.spelled(&written.0)), self.file()));
                parse(key.name, written, parser).map(Some)
            }
            (None, None) => {
                self.note(key, (Written::Nothing, Origin::Default));
                Ok(None)
            }
        }
    }

    /// A setting with a default.
    pub(super) fn one<T>(
        &mut self,
        key: Key,
        flag: Option<T>,
        file: Option<&Scalar>,
        default: impl Into<String>,
        parser: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        if flag.is_none() && file.is_none() {
            let default = Scalar(default.into());
            self.note(key, (Written::One(default.0.clone()), Origin::Default));
            return parse(key.name, &default, parser);
        }
        let found = self.optional(key, flag, file, parser)?;
        found.ok_or_else(|| SettingsError::Conflict(format!("{} has no value", key.name)))
    }

    /// A list, with its default.
    pub(super) fn list<T>(
        &mut self,
        key: Key,
        flags: &[T],
        file: Option<&Scalars>,
        default: &[&str],
        parser: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, SettingsError>
    where
        T: Clone,
    {
        let found = self.optional_list(key, flags, file, &parser)?;
        if let Some(found) = found {
            return Ok(found);
        }
        let default: Vec<_> = default
            .iter()
            .map(|text| Scalar((*text).to_owned()))
            .collect();
        self.effective.amend(key, many(key, &default));
        default
            .iter()
            .map(|text| parse(key.name, text, &parser))
            .collect()
    }

    /// A list that may be none, which is not the same as an empty one.
    pub(super) fn optional_list<T>(
        &mut self,
        key: Key,
        flags: &[T],
        file: Option<&Scalars>,
        parser: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, SettingsError>
    where
        T: Clone,
    {
        if !flags.is_empty() {
            self.note(
                key,
                self.argument(key, |texts| Written::Many(texts.to_vec())),
            );
            return Ok(Some(flags.to_vec()));
        }
        let Some(Scalars(written)) = file else {
            self.note(key, (Written::Nothing, Origin::Default));
            return Ok(None);
        };
        self.note(key, (many(key, written), self.file()));
        let read = written
            .iter()
            .map(|scalar| parse(key.name, scalar, &parser));
        read.collect::<Result<_, _>>().map(Some)
    }

    /// A mapping of the file, which was read elsewhere.
    pub(super) fn block(&mut self, key: Key, yaml: Option<String>) {
        let noted = match yaml {
            Some(yaml) => (Written::Block(yaml), self.file()),
            None => (Written::Nothing, Origin::Default),
        };
        self.note(key, noted);
    }

    fn note(&mut self, key: Key, (written, origin): (Written, Origin)) {
        self.effective.push(Entry {
            key,
            written,
            origin,
        });
    }

    /// What was given for a key, and where.
    fn argument(&self, key: Key, written: impl Fn(&[String]) -> Written) -> (Written, Origin) {
        let found = key.argument.and_then(|id| self.given.argument(id));
        match found {
            Some(found) => (written(&found.texts), Origin::Argument(found.place.clone())),
            None => (Written::Nothing, Origin::Default),
        }
    }

    fn file(&self) -> Origin {
        self.place
            .map_or(Origin::Default, |place| Origin::File(place.clone()))
    }
}

fn many(key: Key, scalars: &[Scalar]) -> Written {
    let texts = scalars.iter().map(|scalar| key.spelled(&scalar.0));
    Written::Many(texts.collect())
}

/// A value within a mapping of the file, when it is written.
pub(super) fn one<T>(
    key: &str,
    file: Option<&Scalar>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    file.map(|written| parse(key, written, parser)).transpose()
}

/// The values of a list within a mapping of the file, none when it is not written.
pub(super) fn list<T>(
    key: &str,
    file: Option<&Scalars>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let written = file.map(|scalars| scalars.0.as_slice()).unwrap_or_default();
    written
        .iter()
        .map(|scalar| parse(key, scalar, &parser))
        .collect()
}

/// A written value as what it means.
pub(super) fn parse<T>(
    key: &str,
    written: &Scalar,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    parser(&written.0).map_err(|problem| SettingsError::value(key, &*written.0, problem))
}
