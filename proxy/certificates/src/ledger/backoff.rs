//! How long a set of names waits after a failure.

use sha2::{Digest, Sha256};

use super::{DAY, Failure, FailureKind, HOUR, MINUTE, Seconds, WEEK, seconds};
use crate::names::SetId;

/// First wait; every further failure doubles it.
const FIRST: Seconds = MINUTE;
/// Longest wait after anything that may pass soon, jitter included.
const LONGEST: Seconds = 8 * HOUR;
/// First wait after an error that the CA calls permanent; doubles up to a week.
const PERMANENT: Seconds = DAY;
/// Least wait after a rate limit for which the CA names no time.
const LIMITED: Seconds = HOUR;
/// Longest wait that a CA can ask for: nothing that fails stays failed.
const OBEYED: Seconds = WEEK;

/// Seconds until the set is tried again.
///
/// - `failures` failures in a row, this one included.
pub(super) fn wait(id: &SetId, failure: &Failure, failures: u32) -> Seconds {
    let asked = failure
        .retry_after
        .map_or(0, |asked| seconds(asked).min(OBEYED));
    let own = match failure.kind {
        FailureKind::NotProven => FIRST,
        FailureKind::Permanent => doubled(PERMANENT, WEEK, id, failures),
        FailureKind::RateLimited if failure.retry_after.is_none() => {
            doubled(FIRST, LONGEST, id, failures).max(LIMITED)
        }
        // The CA's word counts; the jitter keeps sets apart that were told the same.
        FailureKind::RateLimited => share(id, failures, MINUTE),
        FailureKind::Unavailable
        | FailureKind::Validation
        | FailureKind::Settings
        | FailureKind::Internal => doubled(FIRST, LONGEST, id, failures),
    };
    match failure.kind {
        FailureKind::RateLimited => asked.saturating_add(own),
        _ => asked.max(own),
    }
}

/// `first`, doubled for each failure after the first, and up to a quarter more: never above `longest`.
fn doubled(first: Seconds, longest: Seconds, id: &SetId, failures: u32) -> Seconds {
    let doublings = failures.saturating_sub(1).min(20);
    let base = first.saturating_mul(1 << doublings).min(longest * 4 / 5);
    base + share(id, failures, base / 4)
}

/// A part of `whole` between nothing and all of it, that is the same whenever it is asked for, and spread evenly over sets
/// and rounds.
pub(crate) fn share(id: &SetId, round: u32, whole: Seconds) -> Seconds {
    let mut hash = Sha256::new();
    hash.update(id.as_str());
    hash.update(round.to_be_bytes());
    let digest = hash.finalize();
    let fraction = digest
        .iter()
        .take(4)
        .fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
    let part = i128::from(whole.max(0)) * i128::from(fraction) / i128::from(u32::MAX);
    i64::try_from(part).unwrap_or(i64::MAX)
}
