//! How the answers of an order get to where the CA looks for them, by the issuer's kind of challenge.

use instant_acme::ChallengeType;
use tidegate_model::HostPattern;

use crate::dns::{Dns01Solver, DnsError, Placed};
use crate::issuer::{ChallengeSettings, Issuer};
use crate::keeper::Inputs;
use crate::ledger::{Failure, FailureKind};
use crate::names::SetId;
use crate::order::answers;
use crate::proof::{self, Answer, Aside, Patience};
use crate::store::{Store, StoreError};

/// A challenge that is to be answered.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// The name that it proves.
    pub(super) name: HostPattern,
    /// Its token.
    pub(super) token: String,
    /// The key authorization.
    pub(super) authorization: String,
    /// What a TXT record says.
    pub(super) digest: String,
}

/// Answers the challenges of one order.
pub(super) enum Solver {
    /// HTTP-01: nodes serve a page.
    Pages,
    /// TLS-ALPN-01: nodes show a certificate.
    Handshakes,
    /// DNS-01: name servers have a record.
    Records(Box<Dns01Solver>),
}

/// Answers that are out.
#[derive(Default)]
pub(super) struct Out {
    answers: Vec<Answer>,
    placed: Vec<Placed>,
}

impl Solver {
    /// Gets ready for an order of an issuer.
    pub(super) async fn open<S: Store>(issuer: &Issuer, store: &S) -> Result<Self, Failure> {
        match &issuer.challenge {
            ChallengeSettings::Http01 => Ok(Self::Pages),
            ChallengeSettings::TlsAlpn01 => Ok(Self::Handshakes),
            ChallengeSettings::Dns01(settings) => {
                let solver = Dns01Solver::new(settings, store).await.map_err(|error| {
                    let text = format!("the DNS provider of issuer '{}': {error}", issuer.name);
                    Failure::new(FailureKind::Settings, text)
                })?;
                Ok(Self::Records(Box::new(solver)))
            }
        }
    }

    /// The challenge that is asked for.
    pub(super) fn kind(&self) -> ChallengeType {
        match self {
            Self::Pages => ChallengeType::Http01,
            Self::Handshakes => ChallengeType::TlsAlpn01,
            Self::Records(_) => ChallengeType::Dns01,
        }
    }

    /// Gives the answers to whom the CA will ask. `out` has all that is out, also after an error.
    pub(super) async fn publish<S: Store>(
        &self,
        store: &S,
        id: &SetId,
        open: &[Open],
        out: &mut Out,
    ) -> Result<(), Failure> {
        if let Self::Records(solver) = self {
            for challenge in open {
                let placed = solver.present(&challenge.name, &challenge.digest).await;
                out.placed.push(placed.map_err(|error| not_proven(&error))?);
            }
            return Ok(());
        }
        out.answers = open.iter().filter_map(|open| self.answer(open)).collect();
        published(answers::publish(store, id, &out.answers).await)
    }

    /// Looks until everybody whom the CA may ask gives every answer.
    pub(super) async fn prove(&self, inputs: &Inputs, out: &Out) -> Result<Aside, Failure> {
        if let Self::Records(solver) = self {
            let looks = out.placed.iter().map(|placed| solver.propagated(placed));
            for outcome in futures_util::future::join_all(looks).await {
                outcome.map_err(|error| not_proven(&error))?;
            }
            return Ok(Aside::new());
        }
        let patience = Patience {
            nodes: inputs.timing.proof,
            pause: inputs.timing.look,
            public: inputs.timing.public_look,
        };
        let nodes = (inputs.nodes)();
        let (proof, aside) = proof::prove(&nodes, inputs.ports, &out.answers, patience).await;
        match proof {
            Ok(()) => Ok(aside),
            Err(error) => Err(Failure::new(FailureKind::NotProven, error.to_string())),
        }
    }

    /// Takes records back. Answers in a record of ours are withdrawn with it.
    pub(super) async fn withdraw(&self, out: &Out) {
        let Self::Records(solver) = self else {
            return;
        };
        for placed in &out.placed {
            if let Err(error) = solver.remove(placed).await {
                tracing::warn!(%error, "a TXT record of a challenge stays; it does no harm, and may be removed by hand");
            }
        }
    }

    /// Takes records back that a process before this one may have left.
    pub(super) async fn clear(&self, challenges: &[Open]) {
        let Self::Records(solver) = self else {
            return;
        };
        for challenge in challenges {
            let cleared = solver.clear(&challenge.name, &challenge.digest).await;
            if let Err(error) = cleared {
                tracing::info!(name = %challenge.name, %error, "a TXT record of a challenge may be left; it does no harm");
            }
        }
    }

    fn answer(&self, open: &Open) -> Option<Answer> {
        let HostPattern::Exact(host) = &open.name else {
            return None;
        };
        let (host, authorization) = (host.clone(), open.authorization.clone());
        match self {
            Self::Pages => Some(Answer::Page {
                host,
                token: open.token.clone(),
                authorization,
            }),
            Self::Handshakes => Some(Answer::Handshake {
                host,
                authorization,
            }),
            Self::Records(_) => None,
        }
    }
}

fn published(outcome: Result<(), StoreError>) -> Result<(), Failure> {
    outcome.map_err(|error| {
        let text = format!("the answers to challenges cannot be published: {error}");
        Failure::new(FailureKind::Internal, text)
    })
}

fn not_proven(error: &DnsError) -> Failure {
    Failure::new(FailureKind::NotProven, error.to_string())
}
