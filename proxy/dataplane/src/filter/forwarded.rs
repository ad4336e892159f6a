//! Who the client is, told to the endpoint: `X-Forwarded-*` and `X-Real-IP`.

use tidegate_model::Policy;

use crate::downstream::Downstream;
use crate::listen::ListenerProtocol;
use crate::message::{Fields, Name, RequestHead, members};

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
    let facts = Facts {
        peer: downstream.address.as_bytes(),
        proto: match downstream.listener.protocol {
            ListenerProtocol::Http => b"http",
            ListenerProtocol::Https => b"https",
        },
        port: downstream.listener.port.as_bytes(),
    };
    match trust {
        Trust::Replaced => facts.replace(head.fields_mut()),
        Trust::Believed => facts.complete(head.fields_mut()),
    }
}

/// What is known of the client's connection.
struct Facts<'a> {
    peer: &'a [u8],
    proto: &'static [u8],
    port: &'a [u8],
}

impl Facts<'_> {
    /// Puts the facts in place of what the client says.
    fn replace(&self, fields: &mut Fields) {
        fields.set(Name::XForwardedFor, self.peer);
        fields.set(Name::XRealIp, self.peer);
        fields.set(Name::XForwardedProto, self.proto);
        fields.set(Name::XForwardedPort, self.port);
        fields.copy(Name::Host, Name::XForwardedHost);
        // The same facts in the standard's form (RFC 7239), and under names that some endpoints take for them, which an
        // untrusted client could forge as well.
        fields.remove(Name::Forwarded);
        fields.remove(Name::ForwardedLookalike);
    }

    /// Adds the peer to what a trusted proxy says, and what that leaves out.
    fn complete(&self, fields: &mut Fields) {
        let mut chain: Vec<&[u8]> = fields.all(Name::XForwardedFor).collect();
        chain.push(self.peer);
        let chain = chain.join(&b", "[..]);
        let client = members(&chain).next().unwrap_or(self.peer);
        let missing = [
            (Name::XRealIp, client),
            (Name::XForwardedProto, self.proto),
            (Name::XForwardedPort, self.port),
        ];
        for (name, value) in missing {
            if !fields.has(name) {
                fields.append(name, value);
            }
        }
        if !fields.has(Name::XForwardedHost) {
            fields.copy(Name::Host, Name::XForwardedHost);
        }
        fields.set(Name::XForwardedFor, &chain);
    }
}
