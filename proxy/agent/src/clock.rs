//! The system's clock, read here and handed in everywhere else.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_model::UnixTime;

/// The time now.
pub(crate) fn now() -> UnixTime {
    let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    UnixTime(seconds)
}
