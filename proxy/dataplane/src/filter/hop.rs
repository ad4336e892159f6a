//! Fields that concern one connection and do not pass (RFC 9110 section 7.6.1).

use crate::head::{Fields, HttpVersion, Name, RequestHead, ResponseHead, Value, members, name};

/// Fields that never pass, whether they are listed under `Connection` or not.
const HOP_BY_HOP: [Name; 7] = [
    name::CONNECTION,
    name::KEEP_ALIVE,
    name::PROXY_CONNECTION,
    name::PROXY_AUTHENTICATE,
    name::PROXY_AUTHORIZATION,
    name::TRANSFER_ENCODING,
    name::UPGRADE,
];

/// Fields of a request that are answered or set anew here. `Expect` is answered by the engine when the body is first
/// read.
const OF_REQUESTS: [Name; 3] = [name::EXPECT, name::HTTP2_SETTINGS, name::TE];

/// Takes them out of a request. Returns the protocol that the client wants to switch to, if it does so properly.
pub(crate) fn request(head: &mut RequestHead) -> Option<Value> {
    join_cookies(head);
    let concerned = |found: &Name| HOP_BY_HOP.contains(found) || OF_REQUESTS.contains(found);
    if !head.map().keys().any(concerned) {
        return None;
    }
    let upgrade = match head.version() {
        HttpVersion::Http11 if head.lists(&name::CONNECTION, "upgrade") => {
            head.first(&name::UPGRADE).cloned()
        }
        _ => None,
    };
    let trailers = head.lists(&name::TE, "trailers");
    strip(head);
    OF_REQUESTS.iter().for_each(|name| head.remove(name));
    if trailers {
        // The only member that an intermediary may pass on, and gRPC needs it.
        head.set(name::TE, Value::from_static("trailers"));
    }
    // h2c by upgrade was retired by RFC 9113 and is a way around a proxy's rules.
    upgrade.filter(|protocol| !members(protocol).any(|member| member.eq_ignore_ascii_case(b"h2c")))
}

/// Takes them out of a response.
pub(crate) fn response(head: &mut ResponseHead) {
    if head.map().keys().any(|found| HOP_BY_HOP.contains(found)) {
        strip(head);
    }
}

fn strip(head: &mut impl Fields) {
    let listed: Vec<Name> = head
        .all(&name::CONNECTION)
        .flat_map(members)
        .filter(|member| !is_usual(member))
        .filter_map(|member| Name::from_bytes(member).ok())
        .filter(|listed| !is_needed(listed))
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        head.remove(name);
    }
}

/// Members that name no field of their own, or one that goes anyway.
fn is_usual(member: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade", b"te"]
        .iter()
        .any(|usual| member.eq_ignore_ascii_case(usual))
}

/// Fields that a sender cannot have taken out by listing them under `Connection`: they say where a request goes, where
/// a body ends, and who the client is.
fn is_needed(listed: &Name) -> bool {
    *listed == name::HOST
        || *listed == name::CONTENT_LENGTH
        || listed.as_str().starts_with("x-forwarded-")
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 has it in one field (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHead) {
    if head.version() != HttpVersion::Http2 || head.all(&name::COOKIE).nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = head.all(&name::COOKIE).map(Value::as_bytes).collect();
    if let Ok(joined) = Value::from_bytes(&crumbs.join(&b"; "[..])) {
        head.set(name::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut builder = http::Request::builder().uri("/");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        RequestHead::new(builder.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn listed_fields_go_but_not_those_that_are_needed() {
        let mut head = head(&[
            ("host", "a"),
            ("connection", "close, X-Secret, host, x-forwarded-for"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        assert_eq!(request(&mut head), None);
        let left: Vec<_> = head.map().keys().map(Name::as_str).collect();
        assert_eq!(left, ["host", "x-forwarded-for"]);
    }

    #[test]
    fn an_upgrade_is_told_but_never_to_h2c() {
        let wanted = request(&mut head(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ]));
        assert_eq!(
            wanted.as_ref().map(Value::as_bytes),
            Some(&b"websocket"[..])
        );
        assert_eq!(
            request(&mut head(&[("connection", "upgrade"), ("upgrade", "h2c")])),
            None
        );
        assert_eq!(request(&mut head(&[("upgrade", "websocket")])), None);
    }

    #[test]
    fn trailers_is_the_one_te_that_passes() {
        let mut head = head(&[("te", "gzip, trailers"), ("connection", "te")]);
        request(&mut head);
        assert_eq!(
            head.first(&name::TE).map(Value::as_bytes),
            Some(&b"trailers"[..])
        );
    }
}
