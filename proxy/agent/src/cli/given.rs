//! What was typed and what the environment said, told apart: clap gives one value for both.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::parser::ValueSource;

/// The arguments of a command that have a value, by their id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(BTreeMap<String, Argument>);

/// An argument with a value.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    /// Where the value was written: `--http` or `TIDEGATE_HTTP`.
    pub(crate) place: String,
    /// The value as it was written; several when it is a list.
    pub(crate) texts: Vec<String>,
}

impl Given {
    /// Reads them off the matches of a command.
    pub(super) fn of(command: &clap::Command, matches: &ArgMatches) -> Self {
        let given = command.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let place = match matches.value_source(id)? {
                ValueSource::CommandLine => format!("--{}", argument.get_long()?),
                ValueSource::EnvVariable => argument.get_env()?.to_string_lossy().into_owned(),
                _ => return None,
            };
            let texts = matches.get_raw(id)?;
            let texts = texts
                .map(|text| text.to_string_lossy().into_owned())
                .collect();
            Some((id.to_owned(), Argument { place, texts }))
        });
        Self(given.collect())
    }

    /// The argument with this id, when it has a value.
    pub(crate) fn argument(&self, id: &str) -> Option<&Argument> {
        self.0.get(id)
    }
}
