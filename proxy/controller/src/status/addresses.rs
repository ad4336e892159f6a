//! Which addresses are published.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use tidegate_model::NamespacedName;

use super::{NodeAddresses, Publish};
use crate::inventory::{Agent, Inventory, PublishedAddress};

/// External addresses of nodes, by the node's name.
pub(super) type External = BTreeMap<String, BTreeSet<IpAddr>>;

/// Why there are no addresses to publish, so that statuses stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Service(NamespacedName),
    Nodes,
    Agents,
    Ready,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(
                f,
                "the Service {name} does not exist; create it, or name another with --publish-service"
            ),
            Self::Nodes => f.write_str("the nodes are not known yet, whose external addresses are to be published"),
            Self::Agents => f.write_str(
                "no pod of this instance is known (by its labels app.kubernetes.io/name and app.kubernetes.io/instance); \
                 label them, or set --publish-address or --publish-service",
            ),
            Self::Ready => f.write_str("no pod of this instance is ready, or none has an address"),
        }
    }
}

/// The addresses to publish: IPv4, IPv6, names, each sorted.
///
/// An empty set is published only when a Service says so: that no agent is ready may pass in a moment, and nobody is
/// served better by no address than by the last ones.
pub(super) fn choose(
    publish: &Publish,
    inventory: &Inventory,
    external: Option<&External>,
) -> Result<Vec<PublishedAddress>, Missing> {
    let addresses: BTreeSet<PublishedAddress> = if !publish.addresses.is_empty() {
        publish.addresses.iter().cloned().collect()
    } else if let Some(service) = &publish.service {
        let published = inventory.published();
        published
            .ok_or_else(|| Missing::Service(service.clone()))?
            .into_iter()
            .collect()
    } else {
        let external = match (publish.nodes, external) {
            (NodeAddresses::Internal, _) => &External::new(),
            (NodeAddresses::External, Some(external)) => external,
            (NodeAddresses::External, None) => return Err(Missing::Nodes),
        };
        of_agents(&inventory.agents(), external)?
    };
    Ok(addresses.into_iter().collect())
}

fn of_agents(
    agents: &BTreeMap<NamespacedName, Agent>,
    external: &External,
) -> Result<BTreeSet<PublishedAddress>, Missing> {
    if agents.is_empty() {
        return Err(Missing::Agents);
    }
    let ready = agents.values().filter(|agent| agent.is_ready);
    let addresses: BTreeSet<PublishedAddress> = ready
        .flat_map(|agent| {
            let external = external
                .get(&agent.node)
                .filter(|addresses| !addresses.is_empty());
            external.unwrap_or(&agent.host_addresses)
        })
        .map(|address| PublishedAddress::Ip(*address))
        .collect();
    if addresses.is_empty() {
        Err(Missing::Ready)
    } else {
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> PublishedAddress {
        PublishedAddress::Ip(text.parse().expect("an address"))
    }

    fn agent(node: &str, addresses: &[&str], is_ready: bool) -> Agent {
        Agent {
            node: node.to_owned(),
            is_ready,
            host_addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            pod_addresses: BTreeSet::new(),
        }
    }

    fn inventory(agents: &[(&str, Agent)]) -> Inventory {
        let inventory = Inventory::default();
        for (name, agent) in agents {
            inventory.set_agent(&NamespacedName::new("tidegate", *name), Some(agent.clone()));
        }
        inventory
    }

    #[test]
    fn named_addresses_come_first_and_sorted() {
        let publish = Publish {
            addresses: vec![
                PublishedAddress::Hostname("lb.example".into()),
                ip("fd00::1"),
                ip("10.0.0.2"),
                ip("9.0.0.1"),
                ip("9.0.0.1"),
            ],
            service: Some(NamespacedName::new("tidegate", "lb")),
            nodes: NodeAddresses::External,
        };
        let chosen = choose(&publish, &Inventory::default(), None);
        let sorted = vec![
            ip("9.0.0.1"),
            ip("10.0.0.2"),
            ip("fd00::1"),
            PublishedAddress::Hostname("lb.example".into()),
        ];
        assert_eq!(chosen, Ok(sorted));
    }

    #[test]
    fn a_service_s_addresses_are_copied_even_none() {
        let name = NamespacedName::new("tidegate", "lb");
        let publish = Publish {
            service: Some(name.clone()),
            ..Publish::default()
        };
        let inventory = inventory(&[("a", agent("n1", &["10.0.0.1"], true))]);
        assert_eq!(
            choose(&publish, &inventory, None),
            Err(Missing::Service(name))
        );
        inventory.set_published(Some(Vec::new()));
        assert_eq!(choose(&publish, &inventory, None), Ok(Vec::new()));
        inventory.set_published(Some(vec![ip("192.0.2.1")]));
        assert_eq!(
            choose(&publish, &inventory, None),
            Ok(vec![ip("192.0.2.1")])
        );
    }

    #[test]
    fn only_nodes_with_a_ready_agent_are_published() {
        let publish = Publish::default();
        assert_eq!(
            choose(&publish, &inventory(&[]), None),
            Err(Missing::Agents)
        );
        let draining = agent("n1", &["10.0.0.1"], false);
        assert_eq!(
            choose(&publish, &inventory(&[("a", draining.clone())]), None),
            Err(Missing::Ready)
        );
        let inventory = inventory(&[
            ("a", draining.clone()),
            ("b", agent("n2", &["10.0.0.2", "fd00::2"], true)),
            ("c", agent("n3", &["10.0.0.3"], true)),
        ]);
        assert_eq!(
            choose(&publish, &inventory, None),
            Ok(vec![ip("10.0.0.2"), ip("10.0.0.3"), ip("fd00::2")])
        );
    }

    #[test]
    fn a_node_without_external_addresses_is_known_by_its_internal_ones() {
        let publish = Publish {
            nodes: NodeAddresses::External,
            ..Publish::default()
        };
        let inventory = inventory(&[
            ("a", agent("n1", &["10.0.0.1"], true)),
            ("b", agent("n2", &["10.0.0.2"], true)),
        ]);
        assert_eq!(choose(&publish, &inventory, None), Err(Missing::Nodes));
        let external = External::from([
            (
                "n1".to_owned(),
                BTreeSet::from(["203.0.113.1".parse().expect("an address")]),
            ),
            ("n2".to_owned(), BTreeSet::new()),
            (
                "n3".to_owned(),
                BTreeSet::from(["203.0.113.3".parse().expect("an address")]),
            ),
        ]);
        assert_eq!(
            choose(&publish, &inventory, Some(&external)),
            Ok(vec![ip("10.0.0.2"), ip("203.0.113.1")])
        );
    }
}
