//! A figure against the most that it may be.

/// The most that Tidegate's access log may cost: CPU per request with it as a ratio to the same without.
pub(super) const ACCESS_LOG: f64 = 1.15;

/// Whether the figure is within its limit, and by how much not.
pub(super) fn result(figure: f64, limit: f64) -> String {
    if figure <= limit {
        "met".to_owned()
    } else {
        format!("missed by {:.0} %", 100.0 * (figure / limit - 1.0))
    }
}
