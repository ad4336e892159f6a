//! Look-ups of any host and path in a table: no panic, and a route that is found is for that host and path.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use std::str;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tidegate_model::{
    HostPattern, NamespacedName, PathKind, PathMatch, Route, RouteLabels, RouteRank, RouteTable,
    Target, TlsRedirect, VirtualHost,
};

const HOSTS: [&str; 6] = ["", "a", "a.b", "*.a.b", "*.b", "xn--bcher-kva.example"];
const PATHS: [(PathKind, &str); 7] = [
    (PathKind::Prefix, "/"),
    (PathKind::Prefix, "/a"),
    (PathKind::Exact, "/a/"),
    (PathKind::Prefix, "/a/b/c"),
    (PathKind::Exact, "/a/b/c/"),
    (PathKind::Exact, "/%41"),
    (PathKind::Prefix, "/abcdefghijklmnopqrstuvwxyz"),
];

static TABLE: LazyLock<RouteTable> = LazyLock::new(|| {
    let mut table = RouteTable::default();
    for (number, host) in HOSTS.into_iter().enumerate() {
        let host = HostPattern::parse(host).expect("a host");
        // Each host leaves one path out, so that look-ups go on to less precise hosts.
        let paths = PATHS.into_iter().enumerate();
        let paths = paths.filter(|(position, _)| *position != number);
        let routes = paths
            .map(|(position, (kind, path))| route(&host, position, kind, path))
            .collect();
        table.set(host, Some(VirtualHost::new(routes, None, false).0));
    }
    table
});

fn route(host: &HostPattern, position: usize, kind: PathKind, path: &str) -> Arc<Route> {
    Arc::new(Route {
        host: host.clone(),
        path: PathMatch::parse(kind, path).expect("a path"),
        target: Target::Unavailable,
        tls_redirect: TlsRedirect::Never,
        labels: Arc::new(RouteLabels {
            ingress: None,
            service: String::new(),
        }),
        rank: RouteRank {
            created: None,
            object: NamespacedName::new("default", "fuzz"),
            position,
        },
    })
}

fuzz_target!(|input: &[u8]| {
    let Ok(input) = str::from_utf8(input) else {
        return;
    };
    let (host, path) = input.split_once('\n').unwrap_or((input, "/"));
    match TABLE.find(host, path).route {
        Some(route) => {
            assert!(route.path.matches(path), "{path:?} found {}", route.path);
            assert!(route.host.matches(host), "{host:?} found {}", route.host);
        }
        // The hosts that match have a route for every path below `/`, but that any host lacks `/` itself.
        None => assert!(
            !path.starts_with("/a/b/c/"),
            "{host:?} {path:?} found nothing"
        ),
    }
});
