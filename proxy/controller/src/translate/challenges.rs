//! Answers to ACME challenges, out of Secrets in Tidegate's own namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tidegate_model::{ChallengeAnswers, Excerpt, NamespacedName, Reason};

use super::objects::Objects;
use super::report::{Part, Problems, Report};

/// Label of the Secrets in [`Settings::own_namespace`](super::Settings::own_namespace) that hold challenge answers, with
/// the value `"true"`. Each entry of such a Secret has a token as its key and the key authorization as its value
/// (RFC 8555 section 8.1).
pub const CHALLENGE_ANSWERS_LABEL: &str = "tidegate.dev/challenge-answers";

/// The answers in force, made again only when a Secret that holds some changed.
#[derive(Debug, Default)]
pub(super) struct Challenges {
    answers: Arc<ChallengeAnswers>,
    /// Those with the label.
    secrets: BTreeSet<NamespacedName>,
    /// Changes with the set of these Secrets.
    version: u64,
}

impl Challenges {
    pub(super) fn answers(&self) -> &Arc<ChallengeAnswers> {
        &self.answers
    }

    /// The Secrets that hold answers.
    pub(super) fn secrets(&self) -> &BTreeSet<NamespacedName> {
        &self.secrets
    }

    /// Another number each time when the Secrets are others.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes in that Secrets changed, of which those in the `own` namespace can matter.
    pub(super) fn update<'a>(
        &mut self,
        own: &str,
        changed: impl IntoIterator<Item = &'a NamespacedName>,
        objects: &Objects,
        problems: &mut Problems,
    ) {
        let mut concerned = false;
        for name in changed.into_iter().filter(|name| name.namespace == own) {
            let holds = objects.secrets.get(name).is_some_and(|it| is_labelled(it));
            let others = match holds {
                true => self.secrets.insert(name.clone()),
                false => self.secrets.remove(name),
            };
            self.version += u64::from(others);
            concerned |= holds || others;
        }
        if concerned {
            self.gather(objects, problems);
        }
    }

    fn gather(&mut self, objects: &Objects, problems: &mut Problems) {
        let mut gathered = Gathered::default();
        for name in &self.secrets {
            if let Some(secret) = objects.secrets.get(name) {
                gathered.add(name, secret);
            }
        }
        problems.set(
            Part::Challenges,
            gathered
                .reports
                .into_iter()
                .flat_map(Report::into_problems)
                .collect(),
        );
        if gathered.answers != *self.answers {
            self.answers = Arc::new(gathered.answers);
        }
    }
}

/// Answers of several Secrets; of two for one token the first by the Secret's name counts.
#[derive(Default)]
struct Gathered {
    answers: ChallengeAnswers,
    reports: Vec<Report>,
}

impl Gathered {
    fn add(&mut self, name: &NamespacedName, secret: &Secret) {
        let mut report = Report::about("Secret", name);
        for (token, value) in entries(secret) {
            if let Err(cause) = self.insert(token, value) {
                report.error(
                    Reason::InvalidChallengeAnswer,
                    format!("data[{}]", Excerpt(token)),
                    format!("the entry answers no challenge: {cause}; correct it or remove it"),
                );
            }
        }
        self.reports.push(report);
    }

    fn insert(&mut self, token: &str, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).unwrap_or_default();
        match self.answers.answer(token) {
            Some(known) if known == text => Ok(()),
            Some(_) => Err("another Secret, first by name, has another one for the token".into()),
            None => self
                .answers
                .insert(token, text)
                .map_err(|error| error.to_string()),
        }
    }
}

fn is_labelled(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    let value = labels.and_then(|labels| labels.get(CHALLENGE_ANSWERS_LABEL));
    value.is_some_and(|value| value == "true")
}

/// `data` with `stringData` written over it, as the API server does.
fn entries(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten();
    let texts = secret.string_data.iter().flatten();
    data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))
        .chain(texts.map(|(key, text)| (key.as_str(), text.as_bytes())))
        .collect()
}
