//! Moments as people read them.

use tidegate_model::UnixTime;

/// RFC 3339 in UTC; the number of seconds where that has no such year.
pub(super) fn time(moment: UnixTime) -> String {
    jiff::Timestamp::from_second(moment.0)
        .map_or_else(|_| format!("second {}", moment.0), |time| time.to_string())
}
