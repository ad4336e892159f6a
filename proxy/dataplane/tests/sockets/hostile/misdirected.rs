//! Requests on a TLS connection that was made for another host.

use std::collections::BTreeMap;

use http_body_util::Full;
use hyper::{Request, StatusCode};
use tidegate_model::{CertificateIndex, HostPattern};

use super::*;
use crate::tls::{certificate, client_config, http2_client, open};

struct Case {
    id: &'static str,
    /// The name that the client asks for in its handshake. An address is none.
    server_name: &'static str,
    request: &'static str,
    status: u16,
}

const CASES: &[Case] = &[
    Case {
        id: "misdirected",
        server_name: "a.example",
        request: "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n",
        status: 421,
    },
    Case {
        id: "misdirected-by-target",
        server_name: "a.example",
        request: "GET https://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        status: 421,
    },
    Case {
        id: "misdirected-unknown",
        server_name: "a.example",
        request: "GET / HTTP/1.1\r\nHost: x.test\r\n\r\n",
        status: 421,
    },
    Case {
        id: "shared-certificate",
        server_name: "a.example",
        request: "GET / HTTP/1.1\r\nHost: www.a.example\r\n\r\n",
        status: 200,
    },
    Case {
        id: "same-host-otherwise-written",
        server_name: "a.example",
        request: "GET / HTTP/1.1\r\nHost: A.Example.:8443\r\n\r\n",
        status: 200,
    },
    Case {
        id: "no-server-name",
        server_name: "127.0.0.1",
        request: "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n",
        status: 200,
    },
];

const OVER_HTTP2: &str = "misdirected-over-http2";

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let outcome = |status| match status {
        200 => "passes".to_owned(),
        status => status.to_string(),
    };
    let rows = CASES.iter().map(|case| (case.id, outcome(case.status)));
    rows.chain([(OVER_HTTP2, "421".to_owned())]).collect()
}

/// One certificate for `a.example` and `www.a.example`, another for `b.example`; every host has the same endpoint.
fn gate(endpoint: &Endpoint) -> Gate {
    let (a, b) = (certificate("a.example"), certificate("b.example"));
    let shown = [("a.example", &a), ("www.a.example", &a), ("b.example", &b)];
    let index: BTreeMap<_, _> = shown
        .into_iter()
        .map(|(host, shown)| (HostPattern::parse(host).unwrap(), vec![shown.clone()]))
        .collect();
    let mut snapshot = everything_to(endpoint.backend.address);
    snapshot.certificates = Arc::new(CertificateIndex::new(index));
    Gate::start(snapshot)
}

#[test]
fn each_is_answered_421_unless_the_certificate_is_the_same() {
    let endpoint = Endpoint::new();
    let gate = gate(&endpoint);
    let config = client_config(Arc::default(), &[b"http/1.1"]);
    for case in CASES {
        let mut stream = open(gate.https, case.server_name, &config);
        stream.write_all(case.request.as_bytes()).unwrap();
        let answer = read_message(&mut BufReader::new(&mut stream)).unwrap();
        assert_eq!(answer.status(), case.status, "{}", case.id);
        let forwarded = endpoint.take().requests.len();
        assert_eq!(forwarded, usize::from(case.status == 200), "{}", case.id);
    }
}

#[test]
fn over_http2_it_is_421_as_well_and_the_connection_goes_on() {
    let endpoint = Endpoint::new();
    let gate = gate(&endpoint);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sender = http2_client(gate.https).await;
        let ask = |host: &str| {
            let request = Request::get(format!("https://{host}/"));
            request.body(Full::default()).unwrap()
        };
        for (host, status) in [
            ("b.example", StatusCode::MISDIRECTED_REQUEST),
            ("www.a.example", StatusCode::OK),
        ] {
            let answer = sender.send_request(ask(host)).await.unwrap();
            assert_eq!(answer.status(), status, "{host}");
        }
    });
    assert_eq!(endpoint.take().requests.len(), 1);
}
