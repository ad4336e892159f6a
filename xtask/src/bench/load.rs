//! What the load generators say.

use anyhow::{Context, Result};

/// The figures of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) requests: u64,
    /// Requests in a second.
    pub(super) rate: f64,
    /// Middle latency in milliseconds: the median, for HTTP/2 the mean, because h2load says no more.
    pub(super) middle: f64,
    /// High latency in milliseconds: the 99th percentile, for HTTP/2 the highest.
    pub(super) high: f64,
    /// Failed connections, broken or late answers, and answers of another status than 2xx or 3xx.
    pub(super) errors: u64,
}

/// Reads the output of `wrk --latency`.
pub(super) fn of_wrk(text: &str) -> Result<Load> {
    let understood = || -> Option<Load> {
        // Percentages stand in the statistics above it as well.
        let (_, distribution) = text.split_once("Latency Distribution")?;
        let sockets = after(text, "Socket errors:").unwrap_or_default();
        let statuses = after(text, "Non-2xx or 3xx responses:").unwrap_or_default();
        let counts = sockets.split(&[' ', ','][..]).chain(statuses.split(' '));
        Some(Load {
            requests: before(text, " requests in ")?.parse().ok()?,
            rate: after(text, "Requests/sec:")?.trim().parse().ok()?,
            middle: milliseconds(after(distribution, "50%")?.trim())?,
            high: milliseconds(after(distribution, "99%")?.trim())?,
            errors: counts.filter_map(|word| word.parse::<u64>().ok()).sum(),
        })
    };
    understood().with_context(|| format!("cannot understand what wrk said: {text}"))
}

/// Reads the output of `h2load`.
pub(super) fn of_h2load(text: &str) -> Result<Load> {
    let understood = || -> Option<Load> {
        let requests = after(text, "requests:")?;
        let count = |word: &str| before(requests, word)?.parse::<u64>().ok();
        let mut latencies = after(text, "time for request:")?.split_whitespace().skip(1);
        let rate = before(after(text, "finished in")?, " req/s")?;
        Some(Load {
            requests: count(" succeeded")?,
            rate: rate.parse().ok()?,
            high: milliseconds(latencies.next()?)?,
            middle: milliseconds(latencies.next()?)?,
            errors: count(" failed")? + count(" errored")?,
        })
    };
    understood().with_context(|| format!("cannot understand what h2load said: {text}"))
}

/// The rest of the line on which `mark` stands.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    rest.lines().next()
}

/// The word before the first `mark`.
fn before<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (head, _) = text.split_once(mark)?;
    head.split_whitespace().next_back()
}

/// A time with its unit, such as `1.20ms`, in milliseconds.
fn milliseconds(text: &str) -> Option<f64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_understood() {
        let text = "Running 1s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n  \
            Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     5.26ms    7.41ms  93.50ms   89.99%\n  \
            Latency Distribution\n     50%  850.00us\n     75%    1.10ms\n     99%    2.50ms\n  \
            30000 requests in 1.00s, 7.00MB read\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  \
            Non-2xx or 3xx responses: 4\nRequests/sec:  29990.50\nTransfer/sec:      6.99MB\n";
        let expected = Load {
            requests: 30000,
            rate: 29990.5,
            middle: 0.85,
            high: 2.5,
            errors: 10,
        };
        assert_eq!(of_wrk(text).unwrap(), expected);
    }

    #[test]
    fn h2load_is_understood() {
        let text = "finished in 1.00s, 41234.00 req/s, 7.16MB/s\n\
            requests: 41234 total, 41490 started, 41234 done, 41200 succeeded, 30 failed, 4 errored, 0 timeout\n\
            status codes: 41200 2xx, 0 3xx, 0 4xx, 34 5xx\n\
            \x20                    min         max         mean         sd        +/- sd\n\
            time for request:      310us     12.50ms      6.10ms      1.02ms    71.20%\n";
        let expected = Load {
            requests: 41200,
            rate: 41234.0,
            middle: 6.1,
            high: 12.5,
            errors: 34,
        };
        assert_eq!(of_h2load(text).unwrap(), expected);
    }

    #[test]
    fn nonsense_is_an_error_that_shows_it() {
        let error = of_wrk("unable to connect").unwrap_err();
        assert!(error.to_string().contains("unable to connect"));
        assert!(of_h2load("").is_err());
    }
}
