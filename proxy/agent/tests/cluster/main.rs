//! Tidegate on a cluster: a real etcd, API server and controllers, nodes as network namespaces, and the manifests that are
//! shipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]
#![allow(
    clippy::print_stdout,
    reason = "figures are read off the tests' output"
)]

mod certificates;
mod faults;
mod instances;
mod leader;
mod objects;
mod restart;
mod rights;
mod serving;
mod status;
mod support;
mod upgrade;
