//! One reading of a path: what is matched is what is filtered and forwarded.

use tidegate_model::{Protocol, TlsRedirect};

use super::*;

/// Paths as received and as forwarded.
const REWRITTEN: &[(&str, &str, &str)] = &[
    ("path-dot", "/a/./b", "/a/b"),
    ("path-dot-last", "/a/.", "/a/"),
    ("path-dot-dot", "/a/../b", "/b"),
    ("path-dot-dot-last", "/a/b/..", "/a/"),
    ("path-dot-dot-above-root", "/../../b", "/b"),
    ("path-dot-dot-only", "/..", "/"),
    ("path-encoded-dots", "/a/%2e%2E/b", "/b"),
    ("path-half-encoded-dots", "/a/.%2e/b", "/b"),
    ("path-encoded-dot-in-name", "/a%2Eb", "/a.b"),
    ("path-double-slash", "/a//b", "/a/b"),
    (
        "path-double-slash-first",
        "//evil.example/a",
        "/evil.example/a",
    ),
    ("path-slashes-only", "///", "/"),
    ("path-dots-and-slashes", "/a/.//..///b/", "/b/"),
    ("path-absolute-form", "http://a/x/..//b?q", "/b?q"),
    (
        "path-query-untouched",
        "/a?b/../c//d/%2e%2e/%zz\\",
        "/a?b/../c//d/%2e%2e/%zz\\",
    ),
    ("path-three-dots", "/.../.a/..b", "/.../.a/..b"),
    ("path-encoded-slash", "/a%2fb%2F", "/a%2fb%2F"),
    ("path-backslash", "/a\\b%5cc", "/a\\b%5cc"),
    (
        "path-encoded-twice",
        "/%252e%252e/%252f",
        "/%252e%252e/%252f",
    ),
    (
        "path-other-encodings",
        "/%7Ea%7eb%20c%c3%a4",
        "/%7Ea%7eb%20c%c3%a4",
    ),
    ("path-parameter", "/a;x=1/b;y", "/a;x=1/b;y"),
];

/// Paths that are refused with 400.
const REFUSED: &[(&str, &str)] = &[
    ("path-encoded-slash-dots", "/a/..%2fb"),
    ("path-dots-encoded-slash", "/a%2f../b"),
    ("path-encoded-slash-dot", "/a%2F.%2Fb"),
    ("path-all-encoded", "/a%2f%2e%2e%2fb"),
    ("path-backslash-dots", "/a\\..\\b"),
    ("path-encoded-backslash-dots", "/a/..%5cb"),
    ("path-mixed-separators", "/a%5c..%2fb"),
    ("path-dots-parameter", "/a/..;/b"),
    ("path-dots-parameter-encoded", "/a/%2e.;x=1/b"),
    ("path-nul", "/a%00b"),
    ("path-encoding-cut", "/a%"),
    ("path-encoding-short", "/a%2"),
    ("path-encoding-no-digit", "/a%g1"),
];

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let rewritten = REWRITTEN.iter().map(|(id, ..)| (*id, "passes".to_owned()));
    let refused = REFUSED.iter().map(|(id, _)| (*id, "400".to_owned()));
    rewritten.chain(refused).collect()
}

#[test]
fn each_is_forwarded_in_its_one_form() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let mut failures = Vec::new();
    for (id, sent, forwarded) in REWRITTEN {
        let answer = gate.ask(&format!("GET {sent} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let checked = same("the answer", &answer.text(), forwarded)
            .and_then(|()| serves_and_got(&gate, &endpoint, &[forwarded, "/good"]));
        if let Err(why) = checked {
            endpoint.take();
            failures.push(format!("{id}: {why}"));
        }
    }
    none_failed(&failures);
}

#[test]
fn each_that_others_would_read_otherwise_is_refused() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let mut failures = Vec::new();
    for (id, sent) in REFUSED {
        let input = format!("GET {sent} HTTP/1.1\r\nHost: a\r\n\r\n");
        for sending in Sending::ALL {
            let targets: &[&str] = match sending {
                Sending::Behind => &["/good", "/good"],
                _ => &["/good"],
            };
            let checked = send_refused(&gate, input.as_bytes(), sending, 400)
                .and_then(|()| serves_and_got(&gate, &endpoint, targets));
            if let Err(why) = checked {
                endpoint.take();
                failures.push(format!("{id} {sending:?}: {why}"));
            }
        }
    }
    none_failed(&failures);
}

#[test]
fn the_forwarded_path_is_the_one_that_was_matched() {
    let (public, private) = (Endpoint::new(), Endpoint::new());
    let gate = Gate::start(snapshot(
        &[rule("", "/", "public"), rule("", "/private", "private")],
        &[
            upstream("public", Protocol::Http, &[public.backend.address]),
            upstream("private", Protocol::Http, &[private.backend.address]),
        ],
    ));
    for path in [
        "/private/x",
        "/public/../private/x",
        "/%2e/private/x",
        "//private/x",
        "/public/%2e%2e//private/./x",
    ] {
        gate.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(private.take().targets(), ["/private/x"], "{path}");
        assert!(public.take().bytes.is_empty(), "{path}");
    }
    gate.ask("GET /private/../x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(public.take().targets(), ["/x"]);
    assert!(private.take().bytes.is_empty());
}

#[test]
fn a_redirect_leads_to_the_path_in_its_one_form() {
    let gate = Gate::start(snapshot(
        &[Rule {
            redirect: TlsRedirect::Always,
            ..rule("", "/b", "u")
        }],
        &[],
    ));
    let answer = gate.ask("GET /a/..//b?c//d HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        answer.field("location").as_deref(),
        Some("https://a/b?c//d")
    );
}
