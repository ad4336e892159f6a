//! One term of leadership, and the value that stands for it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use super::clock::{Moment, while_allowed};

/// How long after its end a term is looked at, at the latest, for a request that it covers.
const BEHIND: Duration = Duration::from_millis(5);

/// Stands for one term of leadership; every write asks for it.
///
/// All clones end together, when the term does: renewals move its end, and nothing revives it. Two values are equal
/// when they stand for the same term.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Term>);

#[derive(Debug)]
struct Term {
    /// When it ends unless it is renewed; `None` once it has ended.
    until: Mutex<Option<Moment>>,
}

/// The term is over: another may lead by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this instance does not lead any more")]
pub struct Lost;

/// Why a request was given up that a term covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Interrupted {
    /// The term ended first.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The time allowed for it was over.
    #[error("no answer in time")]
    TimedOut,
}

impl Leadership {
    /// Whether the term lasts at this moment.
    pub fn check(&self) -> Result<(), Lost> {
        self.until()
            .filter(|until| Moment::now() < *until)
            .map_or(Err(Lost), |_| Ok(()))
    }

    /// How long the term lasts if it is not renewed; zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.until().map_or(Duration::ZERO, Moment::remaining)
    }

    /// Drives a request, at most for `limit` and as long as the term lasts, which is looked at each time before the
    /// request can do anything.
    pub async fn cover<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.check()?;
        // Nothing is done after the term's end whenever the timer fires; a little behind it, that end is seen as one.
        let limit = limit.min(self.remaining() + BEHIND);
        match while_allowed(limit, || self.check().is_ok(), request).await {
            Some(output) => Ok(output),
            None => {
                self.check()?;
                Err(Interrupted::TimedOut)
            }
        }
    }

    fn until(&self) -> Option<Moment> {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Moment>) {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl PartialEq for Leadership {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Leadership {}

/// The one who may prolong a term. Dropping it ends the term, and says so.
#[derive(Debug)]
pub(crate) struct Holding<'a> {
    leadership: Leadership,
    announced: &'a watch::Sender<Option<Leadership>>,
}

impl<'a> Holding<'a> {
    /// Begins a term and announces it.
    pub(crate) fn begin(announced: &'a watch::Sender<Option<Leadership>>, until: Moment) -> Self {
        let leadership = Leadership(Arc::new(Term {
            until: Mutex::new(Some(until)),
        }));
        announced.send_replace(Some(leadership.clone()));
        Self {
            leadership,
            announced,
        }
    }

    /// Moves the end of a term that lasts.
    pub(crate) fn prolong(&self, until: Moment) -> Result<(), Lost> {
        self.leadership.check()?;
        self.leadership.set(Some(until));
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn leadership(&self) -> &Leadership {
        &self.leadership
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.leadership.set(None);
        self.announced.send_replace(None);
    }
}

/// Waits for a term; `None` when there can be none any more.
pub(crate) async fn begin(
    leadership: &mut watch::Receiver<Option<Leadership>>,
) -> Option<Leadership> {
    leadership.wait_for(Option::is_some).await.ok()?.clone()
}

/// Waits for the end of a term.
pub(crate) async fn end(leadership: &mut watch::Receiver<Option<Leadership>>, term: &Leadership) {
    // An error says that whoever could prolong it is gone.
    _ = leadership
        .wait_for(|current| current.as_ref() != Some(term))
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn every_clone_ends_with_the_term() {
        let announced = watch::Sender::new(None);
        let holding = Holding::begin(&announced, Moment::now().after(10 * SECOND));
        let leadership = announced.borrow().clone().expect("announced");
        let clone = leadership.clone();
        assert_eq!(leadership.check(), Ok(()));
        assert!(leadership.remaining() > 9 * SECOND);

        tokio::time::advance(11 * SECOND).await;
        assert_eq!(leadership.check(), Err(Lost));
        assert_eq!(clone.check(), Err(Lost));
        assert_eq!(clone.remaining(), Duration::ZERO);
        assert_eq!(
            holding.prolong(Moment::now().after(SECOND)),
            Err(Lost),
            "nothing revives a term"
        );
        drop(holding);
        assert_eq!(*announced.borrow(), None);

        let next = Holding::begin(&announced, Moment::now().after(10 * SECOND));
        assert_eq!(leadership.check(), Err(Lost));
        assert_ne!(*next.leadership(), leadership);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_with_the_term() {
        let announced = watch::Sender::new(None);
        let holding = Holding::begin(&announced, Moment::now().after(3 * SECOND));
        let leadership = holding.leadership().clone();
        let hangs = std::future::pending::<()>;
        assert_eq!(
            leadership.cover(SECOND, hangs()).await,
            Err(Interrupted::TimedOut)
        );
        assert_eq!(
            leadership.cover(5 * SECOND, hangs()).await,
            Err(Interrupted::Lost(Lost))
        );
        let driven = leadership.cover(SECOND, async { panic!("it was driven") });
        assert_eq!(driven.await, Err::<(), _>(Interrupted::Lost(Lost)));
    }
}
