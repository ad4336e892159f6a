//! Which crate may be built from which.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Finding;
use crate::metadata::{Metadata, Package};

/// What a crate must not depend on.
#[derive(Debug)]
struct Boundary {
    member: &'static str,
    /// Not named in its Cargo.toml, not even for tests.
    direct: &'static [&'static str],
    /// Not in anything that it is built from.
    anywhere: &'static [&'static str],
}

const BOUNDARIES: [Boundary; 3] = [
    Boundary {
        member: "tidegate-model",
        direct: &[],
        anywhere: &[
            "aya",
            "hyper",
            "k8s-openapi",
            "kube",
            "mio",
            "redb",
            "rustls",
            "socket2",
            "tidegate",
            "tidegate-controller",
            "tidegate-dataplane",
            "tokio",
        ],
    },
    Boundary {
        member: "tidegate-dataplane",
        direct: &[],
        anywhere: &[
            "aya",
            "instant-acme",
            "k8s-openapi",
            "kube",
            "redb",
            "tidegate",
            "tidegate-controller",
        ],
    },
    Boundary {
        member: "tidegate-controller",
        // The name resolver and the Kubernetes client bring these two with them, which is not our use of them.
        direct: &["hyper", "socket2"],
        anywhere: &["aya", "redb", "tidegate", "tidegate-dataplane"],
    },
];

pub(super) fn check() -> Result<Vec<Finding>> {
    let metadata = Metadata::load()?;
    let mut findings = Vec::new();
    for boundary in &BOUNDARIES {
        match metadata.members().find(|package| package.name == boundary.member) {
            Some(package) => findings.extend(crossings(boundary, package, &metadata.built_from(package))),
            None => findings.push(Finding::new(
                boundary.member,
                "is no crate of the workspace any more; change the table in xtask/src/tidy/boundaries.rs",
            )),
        }
    }
    Ok(findings)
}

fn crossings(boundary: &Boundary, package: &Package, built_from: &BTreeSet<&str>) -> Vec<Finding> {
    let named: BTreeSet<&str> = package
        .dependencies
        .iter()
        .map(|found| &*found.name)
        .collect();
    let direct = boundary
        .direct
        .iter()
        .chain(boundary.anywhere)
        .filter(|name| named.contains(**name))
        .map(|name| {
            format!("names {name} in its Cargo.toml, which docs/architecture.md rules out")
        });
    let indirect = boundary
        .anywhere
        .iter()
        .filter(|name| built_from.contains(**name) && !named.contains(**name))
        .map(|name| {
            format!(
                "is built from {name}, which docs/architecture.md rules out; `cargo tree -p {} -i {name}` shows how",
                boundary.member
            )
        });
    direct
        .chain(indirect)
        .map(|message| Finding::new(boundary.member, message))
        .collect()
}
