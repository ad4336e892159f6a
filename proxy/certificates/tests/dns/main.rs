//! DNS-01 with real name servers, with what answers as Route 53 does, and with a stand-in for Cloudflare.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

mod cloudflare;
mod delegation;
mod http_server;
mod lookup;
mod rfc2136;
mod route53;
mod site;
mod webhook;
