//! Answers to ACME challenges, out of Secrets in Tidegate's own namespace.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tidegate_model::{ChallengeAnswers, Excerpt, Hostname, NamespacedName, Reason};

use super::labels::{self, CHALLENGE_ANSWERS_LABEL};
use super::objects::{self, Objects};
use super::report::{Part, Problems, Report};

/// What precedes the host in the key of an answer to TLS-ALPN-01. No token has a dot.
const HANDSHAKE: &str = "tls-alpn-01.";

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
        for (key, value) in objects::entries(secret) {
            let text = std::str::from_utf8(value).unwrap_or_default();
            let outcome = match key.strip_prefix(HANDSHAKE) {
                Some(host) => self.insert_handshake(host, text),
                None => self.insert(key, text),
            };
            if let Err(cause) = outcome {
                report.error(
                    Reason::InvalidChallengeAnswer,
                    format!("data[{}]", Excerpt(key)),
                    format!("the entry answers no challenge: {cause}; correct it or remove it"),
                );
            }
        }
        self.reports.push(report);
    }

    fn insert_handshake(&mut self, host: &str, text: &str) -> Result<(), String> {
        let host = Hostname::parse(host).map_err(|error| error.to_string())?;
        match self.answers.handshake(host.as_str()) {
            Some(known) if known == text => Ok(()),
            Some(_) => Err("another Secret, first by name, has another one for the host".into()),
            None => self
                .answers
                .insert_handshake(host, text)
                .map_err(|error| error.to_string()),
        }
    }

    fn insert(&mut self, token: &str, text: &str) -> Result<(), String> {
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
    labels::has(&secret.metadata, CHALLENGE_ANSWERS_LABEL, "true")
}
