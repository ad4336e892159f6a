//! The data plane over real sockets, with snapshots written by hand: no Kubernetes anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up has failed"
)]

mod alpn_challenge;
mod bodies;
mod challenges;
mod drain;
mod exchanges;
mod faults;
mod forwarding;
mod handshake;
mod hostile;
mod http2;
mod http2_hostile;
mod load;
mod on_demand;
mod patience;
mod policy;
mod protocols;
mod resumption;
mod retire;
mod start;
mod support;
mod tls;
mod upgrade;
