//! A point in time that is handed in, never read from a clock here.

use serde::Serialize;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted. Negative before that day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);
