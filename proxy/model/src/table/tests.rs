//! The index against a reference that tries every route in order of precedence.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    NamespacedName, PathKind, PathMatch, RouteLabels, RouteRank, Target, TlsRedirect, UnixTime,
};

fn route(host: &str, kind: PathKind, path: &str, created: i64) -> Arc<Route> {
    let object = NamespacedName::new("default", format!("{host}{path}{created}"));
    Arc::new(Route {
        host: HostPattern::parse(host).expect("host"),
        path: PathMatch::parse(kind, path).expect("path"),
        target: Target::Unavailable,
        tls_redirect: TlsRedirect::Inherit,
        labels: Arc::new(RouteLabels {
            ingress: Some(object.clone()),
            service: String::new(),
        }),
        rank: RouteRank {
            created: Some(UnixTime(created)),
            object,
            position: 0,
        },
    })
}

fn table(routes: &[Arc<Route>]) -> RouteTable {
    let mut hosts: BTreeMap<HostPattern, Vec<Arc<Route>>> = BTreeMap::new();
    for route in routes {
        hosts
            .entry(route.host.clone())
            .or_default()
            .push(route.clone());
    }
    let mut table = RouteTable::default();
    for (host, routes) in hosts {
        table.set(host, Some(VirtualHost::new(routes, None, false).0));
    }
    table
}

/// Filters, then takes the first by precedence: slow and plain.
fn reference<'a>(routes: &'a [Arc<Route>], host: &str, path: &str) -> Option<&'a Arc<Route>> {
    let class = |route: &Route| match route.host {
        HostPattern::Exact(_) => 0,
        HostPattern::Wildcard(_) => 1,
        HostPattern::Any => 2,
    };
    routes
        .iter()
        .filter(|route| route.host.matches(host) && route.path.matches(path))
        .min_by(|a, b| (class(a), &a.path, &a.rank).cmp(&(class(b), &b.path, &b.rank)))
}

#[test]
fn a_prefix_is_compared_by_element() {
    let table = table(&[route("", PathKind::Prefix, "/aaa/bb", 1)]);
    for (path, hit) in [
        ("/aaa/bb", true),
        ("/aaa/bb/", true),
        ("/aaa/bb/c", true),
        ("/aaa/bbb", false),
        ("/aaa", false),
    ] {
        assert_eq!(table.find("h", path).route.is_some(), hit, "{path}");
    }
}

#[test]
fn a_trailing_slash_counts_for_exact_only() {
    let table = table(&[
        route("", PathKind::Exact, "/foo/", 1),
        route("", PathKind::Prefix, "/bar/", 1),
    ]);
    assert!(table.find("h", "/foo").route.is_none());
    assert!(table.find("h", "/foo/").route.is_some());
    assert!(table.find("h", "/bar").route.is_some());
}

#[test]
fn a_host_without_an_answer_asks_the_next() {
    let routes = [
        route("a.example.com", PathKind::Prefix, "/a", 1),
        route("*.example.com", PathKind::Prefix, "/b", 1),
        route("", PathKind::Prefix, "/", 1),
    ];
    let table = table(&routes);
    let found = |path| {
        table
            .find("a.example.com", path)
            .route
            .map(|route| route.host.to_string())
    };
    assert_eq!(found("/a").as_deref(), Some("a.example.com"));
    assert_eq!(found("/b").as_deref(), Some("*.example.com"));
    assert_eq!(found("/c").as_deref(), Some("*"));
}

#[test]
fn the_older_of_two_equal_rules_is_served_and_the_other_named() {
    let (older, younger) = (
        route("", PathKind::Prefix, "/a", 1),
        route("", PathKind::Prefix, "/a", 2),
    );
    let (host, shadowed) = VirtualHost::new(vec![younger.clone(), older.clone()], None, false);
    assert!(
        host.find("/a")
            .is_some_and(|found| Arc::ptr_eq(found, &older))
    );
    assert_eq!(shadowed.len(), 1);
    assert!(Arc::ptr_eq(&shadowed[0].loser, &younger) && Arc::ptr_eq(&shadowed[0].winner, &older));
}

#[test]
fn a_host_fills_one_line_of_cache() {
    assert_eq!(size_of::<hosts::Slot>(), 64);
    assert_eq!(size_of::<paths::Node>(), 64);
}

#[test]
fn a_default_answers_what_no_rule_matches_and_is_no_rule() {
    let default = route("a.x", PathKind::Prefix, "/", 9);
    for rules in [0, 1, 40] {
        let routes = (0..rules).map(|n| route("a.x", PathKind::Prefix, &format!("/{n}"), 1));
        let host = VirtualHost::new(routes.collect(), Some(default.clone()), true).0;
        assert!(host.find("/other").is_none());
        assert_eq!(host.routes().len(), rules);
        let mut table = RouteTable::default();
        table.set(default.host.clone(), Some(host));
        let found = table.find("a.x", "/other");
        assert!(
            found.tls_host
                && found
                    .route
                    .is_some_and(|found| Arc::ptr_eq(found, &default))
        );
    }
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "a",
            "b",
            "ab",
            "a.b",
            "%41",
            "an-element-with-more-bytes-than-stand-in-a-slot",
        ]),
        0..4,
    )
    .prop_flat_map(|elements| (Just(elements), any::<bool>()))
    .prop_map(|(elements, slash)| {
        format!(
            "/{}{}",
            elements.join("/"),
            if slash && !elements.is_empty() {
                "/"
            } else {
                ""
            }
        )
    })
}

fn any_host() -> impl Strategy<Value = String> {
    let long = "a-name-with-more-bytes-than-stand-in-a-slot.x";
    prop::sample::select(vec!["a.x", "b.x", "x", "a.b.x", "a.y", long]).prop_map(str::to_owned)
}

fn any_route() -> impl Strategy<Value = Arc<Route>> {
    let host = prop_oneof![
        any_host(),
        any_host().prop_map(|host| format!("*.{host}")),
        Just(String::new())
    ];
    let kind = prop_oneof![Just(PathKind::Exact), Just(PathKind::Prefix)];
    (host, kind, any_path(), 0i64..3)
        .prop_map(|(host, kind, path, created)| route(&host, kind, &path, created))
}

fn any_pattern() -> impl Strategy<Value = HostPattern> {
    let number = 0..600u32;
    number.prop_map(|n| {
        let (star, tail) = (["", "*."][n as usize % 2], "-with-a-longer-name-than-most");
        let tail = if n % 3 == 0 { tail } else { "" };
        HostPattern::parse(&format!("{star}h{n}{tail}.x")).expect("host")
    })
}

proptest! {
    #[test]
    fn copies_change_on_their_own(
        before in prop::collection::vec(any_pattern(), 0..400),
        changes in prop::collection::vec((any_pattern(), any::<bool>()), 0..40),
    ) {
        let host = |tls| VirtualHost::new(Vec::new(), None, tls).0;
        let tls = |table: &RouteTable| -> BTreeMap<HostPattern, bool> {
            table.hosts().into_iter().map(|(pattern, host)| (pattern, host.tls())).collect()
        };
        let mut table = RouteTable::default();
        let mut expected = BTreeMap::from([(HostPattern::Any, false)]);
        for pattern in before {
            table.set(pattern.clone(), Some(host(false)));
            expected.insert(pattern, false);
        }
        let (old, old_expected) = (table.clone(), expected.clone());
        for (pattern, stays) in changes {
            table.set(pattern.clone(), stays.then(|| host(true)));
            if stays {
                expected.insert(pattern, true);
            } else {
                expected.remove(&pattern);
            }
        }
        prop_assert_eq!(tls(&table), expected);
        prop_assert_eq!(tls(&old), old_expected);
    }

    #[test]
    fn the_index_answers_as_the_reference(
        routes in prop::collection::vec(any_route(), 0..24),
        host in any_host(),
        path in prop_oneof![any_path(), "[/a-b*]{0,6}"],
    ) {
        let table = table(&routes);
        let found = table.find(&host, &path).route.map(|route| (&route.host, &route.path, &route.rank));
        let wanted = reference(&routes, &host, &path).map(|route| (&route.host, &route.path, &route.rank));
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn many_paths_of_one_host_answer_as_the_reference(
        routes in prop::collection::vec(any_route(), 17..80),
        path in prop_oneof![any_path(), "[/a-b*]{0,6}"],
    ) {
        let routes: Vec<_> = routes
            .into_iter()
            .map(|route| Arc::new(Route { host: HostPattern::Any, ..Route::clone(&route) }))
            .collect();
        let table = table(&routes);
        let found = table.find("h", &path).route.map(|route| (&route.path, &route.rank));
        let wanted = reference(&routes, "h", &path).map(|route| (&route.path, &route.rank));
        prop_assert_eq!(found, wanted);
    }
}
