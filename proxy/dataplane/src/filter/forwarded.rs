//! Who the client is, told to the endpoint: `X-Forwarded-*` and `X-Real-IP`.

use tidegate_model::Policy;

use crate::downstream::Downstream;
use crate::head::{Fields, RequestHead, Value, name};
use crate::listen::ListenerProtocol;

/// What is done with the fields that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They are kept, and the peer is added to `X-Forwarded-For`.
    Believed,
    /// They are replaced.
    Replaced,
}

/// Whether the peer is one of the trusted proxies.
pub(crate) fn trust(downstream: &Downstream, policy: &Policy) -> Trust {
    let peer = downstream.peer.ip().to_canonical();
    if policy
        .trusted_proxies
        .iter()
        .any(|network| network.contains(&peer))
    {
        Trust::Believed
    } else {
        Trust::Replaced
    }
}

/// Sets the fields.
pub(crate) fn apply(head: &mut RequestHead, downstream: &Downstream, trust: Trust) {
    let proto = match downstream.listener.protocol {
        ListenerProtocol::Http => Value::from_static("http"),
        ListenerProtocol::Https => Value::from_static("https"),
    };
    let host = head.first(&name::HOST).cloned();
    match trust {
        Trust::Replaced => {
            head.set(name::X_FORWARDED_FOR, downstream.address.clone());
            head.set(name::X_REAL_IP, downstream.address.clone());
            head.set(name::X_FORWARDED_PROTO, proto);
            head.set(name::X_FORWARDED_PORT, downstream.listener.port.clone());
            match host {
                Some(host) => head.set(name::X_FORWARDED_HOST, host),
                None => head.remove(&name::X_FORWARDED_HOST),
            }
            // The same facts in the standard's form (RFC 7239), which an untrusted client could forge as well.
            head.remove(&name::FORWARDED);
        }
        Trust::Believed => {
            let chain = appended(head, downstream);
            let client = chain
                .as_bytes()
                .split(|byte| *byte == b',')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let client = Value::from_bytes(client).unwrap_or_else(|_| downstream.address.clone());
            let missing = [
                (name::X_REAL_IP, Some(client)),
                (name::X_FORWARDED_PROTO, Some(proto)),
                (
                    name::X_FORWARDED_PORT,
                    Some(downstream.listener.port.clone()),
                ),
                (name::X_FORWARDED_HOST, host),
            ];
            for (name, value) in missing {
                if let (None, Some(value)) = (head.first(&name), value) {
                    head.set(name, value);
                }
            }
            head.set(name::X_FORWARDED_FOR, chain);
        }
    }
}

/// The chain of addresses with the peer's at its end.
fn appended(head: &RequestHead, downstream: &Downstream) -> Value {
    let mut chain: Vec<&[u8]> = head
        .all(&name::X_FORWARDED_FOR)
        .map(Value::as_bytes)
        .collect();
    chain.push(downstream.address.as_bytes());
    Value::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| downstream.address.clone())
}
