//! Tests of targets and of the normalisation of paths.

use proptest::prelude::*;

use super::*;

fn normalised(path: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    normalise(path, &mut out)
        .map(|_| out)
        .map_err(|rejection| rejection.reason)
}

#[test]
fn forms() {
    let parse =
        |method, target| Target::parse(method, target).map_err(|rejection| rejection.reason);
    assert_eq!(parse("GET", "/a?b"), Ok(Target::Origin("/a?b")));
    assert_eq!(parse("OPTIONS", "*"), Ok(Target::Asterisk));
    assert_eq!(
        parse("CONNECT", "a.example:443"),
        Ok(Target::Authority("a.example:443"))
    );
    for (target, authority, rest) in [
        ("http://a.example/p?q", "a.example", "/p?q"),
        ("HTTPS://a.example:8443", "a.example:8443", ""),
        ("http://[::1]?q", "[::1]", "?q"),
        ("http://a/http://b/", "a", "/http://b/"),
    ] {
        assert_eq!(
            parse("GET", target),
            Ok(Target::Absolute { authority, rest }),
            "{target}"
        );
    }
}

#[test]
fn bytes_that_browsers_send_raw_pass() {
    let target = "/\u{e4}|{}^`\"<>[]\\x?\u{e4}|{}^`\"<>[]\\";
    assert_eq!(Target::parse("GET", target), Ok(Target::Origin(target)));
    assert_eq!(normalised(target).as_deref(), Ok(target));
}

#[test]
fn what_is_no_target_is_refused() {
    for (method, target) in [
        ("GET", ""),
        ("GET", "*"),
        ("GET", "a"),
        ("GET", "?q"),
        ("GET", "a.example:80"),
        ("GET", "/a#b"),
        ("GET", "/a b"),
        ("GET", "/a\tb"),
        ("GET", "/a\u{7f}"),
        ("GET", "/a\0"),
        ("GET", "ftp://a/"),
        ("GET", "http:/a"),
        ("GET", "http:///a"),
        ("GET", "http://"),
        ("GET", "http://u@a/"),
        ("GET", "http://u:p@a/"),
        ("GET", "http://a:port/"),
        ("GET", "http://a\\b/"),
        ("OPTIONS", "**"),
        ("OPTIONS", "*?a"),
        ("CONNECT", "/"),
        ("CONNECT", "a"),
        ("CONNECT", "http://a:443/"),
        ("CONNECT", "u@a:443"),
    ] {
        assert!(Target::parse(method, target).is_err(), "{method} {target}");
    }
    let long = "/".repeat(MAX_TARGET + 1);
    assert_eq!(Target::parse("GET", &long), Err(Rejection::TARGET_TOO_LONG));
}

#[test]
fn paths_that_are_changed() {
    for (path, wanted) in [
        ("//", "/"),
        ("///a//b///", "/a/b/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/b/../", "/a/"),
        ("/a/..", "/"),
        ("/a//../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%2e/a", "/a"),
        ("/a%2Eb", "/a.b"),
        ("//a.example/../b", "/b"),
        ("/..?/../x", "/?/../x"),
        ("/a//b?c//d/../%00%", "/a/b?c//d/../%00%"),
    ] {
        assert_eq!(normalised(path).as_deref(), Ok(wanted), "{path}");
    }
}

#[test]
fn paths_that_are_left_alone() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a.b/c..d/e.",
        "/.well-known/x",
        "/...",
        "/..a/..b",
        "/a;b=c/d;e",
        "/%7e%41%2f%5C/a\\b",
        "/a%2Fb",
        "/%25%32%65",
        "/%252e%252e/",
        "/\u{e4}%c3%a4",
        "/a.%2Fb",
        "/a\\.b",
        "/a%2f...%2fb",
    ] {
        assert_eq!(normalised(path).as_deref(), Ok(path), "{path}");
    }
}

#[test]
fn paths_that_are_refused() {
    for path in [
        "/%",
        "/%1",
        "/%g1",
        "/%1g",
        "/a%",
        "/%00",
        "/a%00b",
        "/%%32e",
        "/%\u{e4}",
        "/%+1",
        "/..%2fa",
        "/a%2F..",
        "/a%2f../b",
        "/a/..%5c",
        "/a/..;/b",
        "/a/.;x",
        "/a/%2e%2E;x=1/b",
        "/a/..\\b",
        "/a\\..",
        "/a\\.\\b",
        "/%2F./",
        "/.%5Ca",
        "/%2e%2e%2fa",
        "/%2e%2e\\a",
        "/a%2f%2e",
        "/\\..",
        "/..\\",
    ] {
        assert_eq!(normalised(path), Err("a bad path"), "{path}");
    }
}

/// Paths made of what normalisation looks at.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("//"),
        Just("."),
        Just(".."),
        Just("%2e"),
        Just("%2E"),
        Just("%2f"),
        Just("\\"),
        Just("%5c"),
        Just("a"),
        Just("%41"),
        Just("%"),
        Just("%00"),
        Just("\u{e4}"),
        Just(";"),
        Just("?"),
        Just("2"),
        Just("e"),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_result_is_normal(path in paths()) {
        let Ok(once) = normalised(&path) else {
            return Ok(());
        };
        prop_assert_eq!(normalised(&once), Ok(once.clone()));
        prop_assert!(once.len() <= path.len());
        let length = normalise(&path, &mut String::new()).unwrap();
        let plain = once.get(..length).unwrap();
        prop_assert!(plain.starts_with('/'));
        prop_assert!(!plain.contains('?'));
        prop_assert!(!plain.contains("//"));
        let separated = plain.replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
        for hidden in separated.split('/') {
            prop_assert!(hidden != "." && hidden != "..", "{}", once);
        }
        let query = path.split_once('?').map(|(_, query)| query);
        prop_assert_eq!(once.split_once('?').map(|(_, query)| query), query);
    }

    #[test]
    fn a_path_without_marks_is_left_alone(path in "(/[a-z][a-z.;=-]{0,4}){1,5}/?") {
        prop_assert_eq!(normalised(&path), Ok(path));
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
        let _ = Target::parse("GET", &text);
        let _ = normalised(&format!("/{text}"));
    }
}
