//! Towards endpoints: what a worker remembers of each upstream, the choice among endpoints, pools, connecting.

mod connect;
mod endpoint;
mod exchange;
mod table;
mod tls;

pub(crate) use connect::{ConnectError, connect};
pub(crate) use endpoint::{EndpointState, InFlight};
pub(crate) use exchange::{Reuse, UpstreamConnection, UpstreamError, UpstreamExchange};
pub(crate) use table::{UpstreamState, UpstreamTable};
pub(crate) use tls::{UpstreamTls, connector};
