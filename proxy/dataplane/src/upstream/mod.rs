//! Towards endpoints: what a worker remembers of each upstream, the choice among endpoints, pools, connecting.

mod answer;
mod connect;
mod endpoint;
mod table;
mod tls;

pub(crate) use answer::{Answered, answered};
pub(crate) use connect::{ConnectError, connect};
pub(crate) use endpoint::{EndpointState, InFlight};
pub(crate) use table::{UpstreamState, UpstreamTable};
pub(crate) use tls::client_config;
