//! Snapshots to save, and their text to compare.

use std::fmt::Write;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use tidegate_model::*;

use std::sync::Arc;
use std::time::Duration;

/// Everything that a snapshot says, private keys included.
pub(super) fn image(snapshot: &Snapshot) -> String {
    let mut text = format!("{:?} {:?}\n", snapshot.policy, snapshot.challenges);
    for TicketKey {
        name,
        active_from,
        secret,
    } in snapshot.tickets.all()
    {
        writeln!(text, "ticket {name:?} {active_from:?} {secret:?}").unwrap();
    }
    for (pattern, host) in snapshot.routes.hosts() {
        let routes = (host.routes(), host.default_route(), host.tls());
        writeln!(text, "{pattern} {routes:?}").unwrap();
    }
    let mut upstreams: Vec<_> = snapshot.upstreams.values().collect();
    upstreams.sort_by_key(|upstream| upstream.id.clone());
    writeln!(text, "{upstreams:?}").unwrap();
    for (pattern, list) in snapshot.certificates.entries() {
        for certificate in list {
            let key = certificate.key.der();
            let form = match key {
                PrivateKeyDer::Pkcs1(_) => "PKCS 1",
                PrivateKeyDer::Sec1(_) => "SEC 1",
                _ => "PKCS 8",
            };
            let key = (form, key.secret_der());
            writeln!(text, "{pattern} {certificate:?} {key:?}").unwrap();
        }
    }
    text
}

fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn route(pattern: &str, path: &str, kind: PathKind, number: usize) -> Arc<Route> {
    let object = NamespacedName::new("shop", format!("ingress-{}", number / 3));
    Arc::new(Route {
        host: host(pattern),
        path: PathMatch::parse(kind, path).unwrap(),
        target: match number % 5 {
            4 => Target::Unavailable,
            _ => Target::Upstream(UpstreamId::new(format!("shop/service-{number}:80"))),
        },
        tls_redirect: match number % 3 {
            0 => TlsRedirect::Inherit,
            1 => TlsRedirect::Always,
            _ => TlsRedirect::Never,
        },
        labels: Arc::new(RouteLabels {
            ingress: (number % 7 != 6).then(|| object.clone()),
            service: format!("shop/service-{}:80", number / 2),
        }),
        rank: RouteRank {
            created: number
                .is_multiple_of(2)
                .then_some(UnixTime(1_700_000_000 + number as i64)),
            object,
            position: number,
        },
    })
}

fn certificate(
    name: &str,
    number: u8,
    form: fn(Vec<u8>) -> PrivateKeyDer<'static>,
) -> Arc<Certificate> {
    Arc::new(Certificate {
        secret: NamespacedName::new("shop", name),
        names: vec![host("shop.example"), host("*.shop.example")],
        not_before: UnixTime(-1),
        not_after: UnixTime(i64::MAX),
        chain: vec![vec![number; 900].into(), vec![1; 1100].into()],
        key: PrivateKey::new(form([b"not for your eyes ".as_slice(), &[number]].concat())),
        fingerprint: Fingerprint([number; 32]),
    })
}

fn upstreams(list: impl IntoIterator<Item = Upstream>) -> Snapshot {
    let list = list.into_iter();
    Snapshot {
        upstreams: Arc::new(
            list.map(|upstream| (upstream.id.clone(), Arc::new(upstream)))
                .collect(),
        ),
        ..Snapshot::default()
    }
}

/// A snapshot with something of each form that there is.
pub(super) fn every_form() -> Snapshot {
    let mut routes = RouteTable::default();
    let many: Vec<_> = (0..40)
        .map(|number| {
            route(
                "shop.example",
                &format!("/{number}/x"),
                PathKind::Prefix,
                number,
            )
        })
        .collect();
    let default = Some(route("shop.example", "/", PathKind::Prefix, 41));
    let all = Some(route("", "/", PathKind::Prefix, 42));
    let set = |routes: &mut RouteTable, pattern: &str, list, default, tls| {
        let (virtual_host, _) = VirtualHost::new(list, default, tls);
        routes.set(host(pattern), Some(virtual_host));
    };
    set(&mut routes, "shop.example", many, default, true);
    let two = vec![
        route("*.shop.example", "/", PathKind::Prefix, 3),
        route("*.shop.example", "/A%20/", PathKind::Exact, 4),
    ];
    set(&mut routes, "*.shop.example", two, None, false);
    set(&mut routes, "listed.example", Vec::new(), None, true);
    set(&mut routes, "", Vec::new(), all, false);

    let endpoint = |text: &str| Endpoint {
        address: text.parse().unwrap(),
    };
    let upstream = |number: usize, protocol, endpoints: &[&str]| Upstream {
        id: UpstreamId::new(format!("shop/service-{number}:80")),
        protocol,
        server_name: (number == 1).then(|| Hostname::parse("api.example").unwrap()),
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
    };
    let mut snapshot = upstreams([
        upstream(0, Protocol::Http, &["10.0.0.1:80", "10.0.0.2:65535"]),
        upstream(1, Protocol::Https, &["[fe80::1%3]:443", "[2001:db8::1]:1"]),
        upstream(2, Protocol::H2c, &[]),
    ]);
    snapshot.routes = Arc::new(routes);
    let rsa = certificate("rsa", 1, |der| PrivatePkcs1KeyDer::from(der).into());
    let ecdsa = certificate("ecdsa", 2, |der| PrivateSec1KeyDer::from(der).into());
    let other = certificate("other", 3, |der| PrivatePkcs8KeyDer::from(der).into());
    snapshot.certificates = Arc::new(CertificateIndex::new([
        (host("shop.example"), vec![rsa.clone(), ecdsa]),
        (host("*.shop.example"), vec![rsa]),
        (HostPattern::Any, vec![other]),
    ]));
    snapshot.policy = Arc::new(Policy {
        redirect: RedirectPolicy {
            mode: RedirectMode::All,
            status: 301,
            port: 8443,
        },
        timeouts: Timeouts {
            idle: Duration::from_millis(1500),
            ..Timeouts::default()
        },
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()],
        tls: TlsPolicy {
            min_version: TlsVersion::Tls13,
            cipher_suites: vec![
                CipherSuite::TLS_AES_256_GCM_SHA384,
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ],
        },
        on_demand: Some(OnDemand {
            suffixes: vec![Hostname::parse("shop.example").unwrap()],
            routes: AllowRoutes::Yes,
            asks: Asks::No,
            wait: Duration::from_millis(2500),
        }),
    });
    snapshot.tickets = Arc::new(TicketKeys::new([0, 1].map(ticket)));
    let mut challenges = ChallengeAnswers::default();
    for token in ["one", "two"] {
        let answer = format!("{token}.{}", "x".repeat(43));
        challenges.insert(token, &answer).unwrap();
    }
    let host = Hostname::parse("pay.shop.example").unwrap();
    let answer = format!("three.{}", "x".repeat(43));
    challenges.insert_handshake(host, &answer).unwrap();
    snapshot.challenges = Arc::new(challenges);
    snapshot
}

/// A key of session tickets.
pub(super) fn ticket(number: u8) -> TicketKey {
    let mut secret = [number; 32];
    secret[..17].copy_from_slice(b"not for your eyes");
    TicketKey {
        name: [number; 16],
        active_from: UnixTime(1_800_000_000 + i64::from(number)),
        secret,
    }
}

/// As many hosts with a certificate and an upstream each. The number is in every upstream, and no part is shared with
/// another such snapshot.
pub(super) fn numbered(hosts: u16, number: u32) -> Snapshot {
    let mut routes = RouteTable::default();
    let mut certificates = Vec::new();
    let mut list = Vec::new();
    for place in 0..hosts {
        let name = format!("host-{place}.example");
        let id = UpstreamId::new(format!("shop/service-{place}:80"));
        let found = route(&name, "/", PathKind::Prefix, usize::from(place) * 5);
        let found = Route {
            target: Target::Upstream(id.clone()),
            ..(*found).clone()
        };
        let (virtual_host, _) = VirtualHost::new(vec![Arc::new(found)], None, true);
        routes.set(host(&name), Some(virtual_host));
        let address = std::net::Ipv4Addr::from(number);
        list.push(Upstream {
            id,
            protocol: Protocol::Http,
            server_name: None,
            endpoints: [Endpoint {
                address: (address, place + 1).into(),
            }]
            .into(),
        });
        certificates.push((host(&name), vec![of_host(place, &name)]));
    }
    let mut snapshot = upstreams(list);
    snapshot.routes = Arc::new(routes);
    snapshot.certificates = Arc::new(CertificateIndex::new(certificates));
    snapshot.policy = Arc::new(Policy {
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..Policy::default()
    });
    snapshot
}

/// As long as a P-256 certificate with its issuer.
fn of_host(place: u16, name: &str) -> Arc<Certificate> {
    let mut fingerprint = [7; 32];
    fingerprint[..2].copy_from_slice(&place.to_be_bytes());
    let leaf: CertificateDer<'_> = fingerprint.repeat(32).into();
    Arc::new(Certificate {
        secret: NamespacedName::new("shop", format!("certificate-{place}")),
        names: vec![host(name)],
        not_before: UnixTime(0),
        not_after: UnixTime(4_000_000_000),
        chain: vec![leaf, vec![9; 1100].into()],
        key: PrivateKey::new(PrivatePkcs8KeyDer::from(fingerprint.repeat(4)).into()),
        fingerprint: Fingerprint(fingerprint),
    })
}

/// The number of such a snapshot, if it is the same everywhere.
pub(super) fn number_of(snapshot: &Snapshot) -> Option<u32> {
    let addresses = snapshot.upstreams.values().map(|upstream| {
        match upstream.endpoints.first()?.address.ip() {
            std::net::IpAddr::V4(address) => Some(u32::from(address)),
            std::net::IpAddr::V6(_) => None,
        }
    });
    let mut numbers: Vec<_> = addresses.collect();
    numbers.dedup();
    match *numbers {
        [number] => number,
        _ => None,
    }
}
