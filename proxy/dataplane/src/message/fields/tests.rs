//! Tests of fields and their edits.

use proptest::prelude::*;

use super::*;

fn received(block: &str) -> Result<Fields, Rejection> {
    let whole = format!("{block}\r\n");
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let parsed = httparse::parse_headers(whole.as_bytes(), &mut headers).unwrap();
    let (_, headers) = parsed.unwrap();
    let mut fields = Fields::new();
    fields.start(&[b"GET / HTTP/1.1"]);
    fields.receive(&whole.as_bytes()[..block.len()], headers)?;
    Ok(fields)
}

fn written(fields: &Fields) -> String {
    let mut out = Vec::new();
    fields.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_are_written_as_they_came() {
    let block = "Host: a\r\nX-Odd:  \t b c\t \r\nEmpty:\r\nACCEPT:*/*\r\n";
    let fields = received(block).unwrap();
    assert_eq!(written(&fields), block);
    let mut head = Vec::new();
    fields.write_head(&mut head);
    assert_eq!(head, format!("GET / HTTP/1.1\r\n{block}").into_bytes());
    let lines: Vec<_> = fields.iter().collect();
    let expected: [(Name, &[u8], &[u8]); 4] = [
        (Name::Host, b"Host", b"a"),
        (Name::Other, b"X-Odd", b"b c"),
        (Name::Other, b"Empty", b""),
        (Name::Other, b"ACCEPT", b"*/*"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_bare_line_feed_is_refused() {
    for block in ["a: b\n", "a: b\nc: d\r\n", "a:\n", "a: b\r\nc: d\n"] {
        assert_eq!(received(block).unwrap_err(), BARE_LF, "{block:?}");
    }
}

#[test]
fn look_ups() {
    let fields = received("TE: gzip , Trailers\r\nConnection: close\r\nte:x,\r\n").unwrap();
    assert!(fields.has(Name::Te) && !fields.has(Name::Host));
    assert!(fields.has_any(Name::Host.bit() | Name::Connection.bit()));
    assert!(!fields.has_any(Name::Host.bit() | Name::Upgrade.bit()));
    assert_eq!(fields.first(Name::Te), Some(&b"gzip , Trailers"[..]));
    assert_eq!(fields.all(Name::Te).count(), 2);
    assert!(fields.lists(Name::Te, "trailers") && fields.lists(Name::Te, "X"));
    assert!(!fields.lists(Name::Te, "zip"));
    assert_eq!(fields.first(Name::Host), None);
}

#[test]
fn edits() {
    let mut fields =
        received("Host: a\r\nX-Hop: 1\r\nCookie: c\r\nx-hop: 2\r\nX_Forwarded_For: 6\r\n").unwrap();
    fields.remove_named(b"X-HOP");
    fields.set(Name::Host, b"b");
    fields.append(Name::XForwardedFor, b"1.2.3.4");
    assert_eq!(
        written(&fields),
        "Cookie: c\r\nX_Forwarded_For: 6\r\nhost: b\r\nx-forwarded-for: 1.2.3.4\r\n"
    );
    fields.remove(Name::ForwardedLookalike);
    fields.remove_named(b"COOKIE");
    assert_eq!(written(&fields), "host: b\r\nx-forwarded-for: 1.2.3.4\r\n");
    fields.remove(Name::Host);
    fields.remove(Name::XForwardedFor);
    assert!(fields.is_empty() && !fields.has_any(u64::MAX));
}

#[test]
fn a_header_map_has_the_same_fields() {
    let mut fields = received("Host: a\r\nX-A: 1\r\nx-a: 2\r\nConnection: close\r\n").unwrap();
    fields.append(Name::Server, b"tidegate");
    let map = fields.to_header_map(Name::Host.bit() | Name::Connection.bit());
    let lines: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(lines, [("x-a", "1"), ("x-a", "2"), ("server", "tidegate")]);
}

#[test]
fn members_of_lists() {
    let found: Vec<_> = members(b" a ,,b\t, ,c d").collect();
    assert_eq!(found, [&b"a"[..], b"b", b"c d"]);
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Name, String),
    Append(Name, String),
    AppendOther(String, String),
    Remove(Name),
    RemoveNamed(String),
}

fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec![
        Name::Host,
        Name::Te,
        Name::Cookie,
        Name::XForwardedFor,
    ])
}

fn written_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "Host",
        "te",
        "COOKIE",
        "x-forwarded-for",
        "X_Forwarded_For",
        "x-forwarded_for",
        "X-A",
        "x-a",
        "b",
    ])
    .prop_map(str::to_owned)
}

fn edit() -> impl Strategy<Value = Edit> {
    let value = "[a-z]{0,3}";
    prop_oneof![
        (name(), value).prop_map(|(name, value)| Edit::Set(name, value)),
        (name(), value).prop_map(|(name, value)| Edit::Append(name, value)),
        (written_name(), value).prop_map(|(name, value)| Edit::AppendOther(name, value)),
        name().prop_map(Edit::Remove),
        written_name().prop_map(Edit::RemoveNamed),
    ]
}

/// The same edit of a plain list.
fn apply(lines: &mut Vec<(String, String)>, edit: &Edit) {
    let is = |found: &str, name: Name| Name::of(found.as_bytes()) == name;
    match edit {
        Edit::Set(name, value) => {
            lines.retain(|(found, _)| !is(found, *name));
            lines.push((name.as_str().to_owned(), value.clone()));
        }
        Edit::Append(name, value) => lines.push((name.as_str().to_owned(), value.clone())),
        Edit::AppendOther(name, value) => lines.push((name.clone(), value.clone())),
        Edit::Remove(name) => lines.retain(|(found, _)| !is(found, *name)),
        Edit::RemoveNamed(name) => lines.retain(|(found, _)| !found.eq_ignore_ascii_case(name)),
    }
}

proptest! {
    #[test]
    fn edits_do_what_a_plain_list_does(
        start in prop::collection::vec((written_name(), "[a-z]{0,3}"), 0..6),
        edits in prop::collection::vec(edit(), 0..8),
    ) {
        let block: String = start
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let mut fields = received(&block).unwrap();
        let mut lines = start;
        for edit in &edits {
            apply(&mut lines, edit);
            match edit {
                Edit::Set(name, value) => fields.set(*name, value.as_bytes()),
                Edit::Append(name, value) => fields.append(*name, value.as_bytes()),
                Edit::AppendOther(name, value) => {
                    fields.append_other(name.as_bytes(), value.as_bytes());
                }
                Edit::Remove(name) => fields.remove(*name),
                Edit::RemoveNamed(name) => fields.remove_named(name.as_bytes()),
            }
        }
        let expected: String = lines
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        prop_assert_eq!(written(&fields), expected);
        prop_assert_eq!(fields.is_empty(), lines.is_empty());
        let bits = lines
            .iter()
            .fold(0, |bits, (name, _)| bits | Name::of(name.as_bytes()).bit());
        for bit in 0..64 {
            prop_assert_eq!(fields.has_any(1 << bit), bits & 1 << bit != 0);
        }
        let read: Vec<_> = fields
            .iter()
            .map(|(_, name, value)| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (text(name), text(value))
            })
            .collect();
        prop_assert_eq!(read, lines);
    }
}
