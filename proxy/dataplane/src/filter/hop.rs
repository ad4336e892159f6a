//! Fields that concern one connection and do not pass (RFC 9110 section 7.6.1).

use crate::message::{Fields, HttpVersion, Name, RequestHead, ResponseHead, members};

/// Fields that never pass, whether they are listed under `Connection` or not.
const HOP_BY_HOP: [Name; 7] = [
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::ProxyAuthenticate,
    Name::ProxyAuthorization,
    Name::TransferEncoding,
    Name::Upgrade,
];

/// Fields of a request that are answered or set anew here. `Expect` is answered when the body is wanted.
const OF_REQUESTS: [Name; 3] = [Name::Expect, Name::Http2Settings, Name::Te];

const HOP_BY_HOP_MASK: u64 = mask(&HOP_BY_HOP);
const OF_REQUESTS_MASK: u64 = mask(&OF_REQUESTS);

const fn mask(names: &[Name]) -> u64 {
    let (mut mask, mut index) = (0, 0);
    while index < names.len() {
        mask |= names[index].bit();
        index += 1;
    }
    mask
}

/// Takes them out of a request. Returns the protocol that the client wants to switch to, if it does so properly.
pub(crate) fn request(head: &mut RequestHead) -> Option<Vec<u8>> {
    let version = head.version();
    let fields = head.fields_mut();
    if !fields.has_any(HOP_BY_HOP_MASK | OF_REQUESTS_MASK) {
        return None;
    }
    let upgrade = match version {
        HttpVersion::Http11 if fields.lists(Name::Connection, "upgrade") => {
            fields.first(Name::Upgrade).map(<[u8]>::to_vec)
        }
        _ => None,
    };
    let trailers = fields.lists(Name::Te, "trailers");
    strip(fields);
    for name in OF_REQUESTS {
        fields.remove(name);
    }
    if trailers {
        // The only member that an intermediary may pass on, and gRPC needs it.
        fields.append(Name::Te, b"trailers");
    }
    // h2c by upgrade was retired by RFC 9113 and is a way around a proxy's rules.
    upgrade.filter(|protocols| !members(protocols).any(is_h2c))
}

/// Whether a protocol, which may have a version behind a slash (RFC 9110 section 7.8), is HTTP/2 in plain text.
fn is_h2c(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Takes them out of a response.
pub(crate) fn response(head: &mut ResponseHead) {
    let fields = head.fields_mut();
    if fields.has_any(HOP_BY_HOP_MASK) {
        strip(fields);
    }
}

fn strip(fields: &mut Fields) {
    let listed: Vec<Vec<u8>> = fields
        .all(Name::Connection)
        .flat_map(members)
        .filter(|member| !is_usual(member) && !is_needed(member))
        .map(<[u8]>::to_vec)
        .collect();
    for name in &listed {
        fields.remove_named(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
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
fn is_needed(listed: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    matches!(Name::of(listed), Name::Host | Name::ContentLength)
        || listed
            .get(..FORWARDED.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut text = "GET / HTTP/1.1\r\n".to_owned();
        if !fields.iter().any(|(name, _)| *name == "host") {
            text.push_str("host: a\r\n");
        }
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        RequestHead::parse(text.as_bytes()).unwrap().unwrap().0
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
        let left: Vec<_> = head.fields().iter().map(|(_, name, _)| name).collect();
        assert_eq!(left, [&b"host"[..], b"x-forwarded-for"]);
    }

    #[test]
    fn an_upgrade_is_told_but_never_to_h2c() {
        let wanted = request(&mut head(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ]));
        assert_eq!(wanted.as_deref(), Some(&b"websocket"[..]));
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
        assert_eq!(head.fields().first(Name::Te), Some(&b"trailers"[..]));
    }
}
