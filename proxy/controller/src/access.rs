//! Every permission that this crate asks of the API server. The manifests grant exactly these: a test holds one against the
//! other, so code that needs another verb gets a line here first.

use std::fmt;

/// What a process may do with objects of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name of the kind, with the subresource where it is one: `ingresses/status`.
    pub resource: &'static str,
    /// Verbs of RBAC.
    pub verbs: &'static [&'static str],
    /// Where.
    pub reach: Reach,
    /// Which of them.
    pub names: Names,
    /// When.
    pub need: Need,
    /// What for.
    pub why: &'static str,
}

/// Where objects are that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// In no namespace: always by a ClusterRole.
    Cluster,
    /// In every namespace by a ClusterRole, or in those of `--namespaces` by a Role in each.
    Served,
    /// In the namespace of the process, by a Role.
    OwnNamespace,
}

/// Which objects a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Names {
    /// All of them.
    Any,
    /// The Lease of the instance: see [`lease_name`].
    Lease,
    /// The ConfigMap with the settings.
    Settings,
    /// The Secret with requests: see [`requests_name`].
    Requests,
}

/// When a rule is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Always.
    Always,
    /// For certificates that are ordered.
    Certificates,
}

/// The permissions, each kind and subresource at one place; a kind has several rules where their names, reaches or needs
/// differ.
pub const RULES: &[Rule] = &[
    Rule {
        group: "networking.k8s.io",
        resource: "ingresses",
        verbs: &["list", "watch"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "what is served",
    },
    Rule {
        group: "networking.k8s.io",
        resource: "ingresses/status",
        verbs: &["patch"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "the leader writes the addresses at which an Ingress is reached",
    },
    Rule {
        group: "networking.k8s.io",
        resource: "ingressclasses",
        verbs: &["list", "watch"],
        reach: Reach::Cluster,
        names: Names::Any,
        need: Need::Always,
        why: "which classes are ours",
    },
    Rule {
        group: "",
        resource: "services",
        verbs: &["list", "watch"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "backends and their ports, and the addresses of --publish-service",
    },
    Rule {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        verbs: &["list", "watch"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "the addresses of backends",
    },
    Rule {
        group: "",
        resource: "secrets",
        verbs: &["get", "list", "watch"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "certificates: metadata of all is watched, those that an Ingress refers to are fetched",
    },
    Rule {
        group: "",
        resource: "secrets",
        verbs: &["create", "update", "delete"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Certificates,
        why: "the leader puts certificates into the Secrets that Ingresses name, and removes those that nobody wants any \
              more; RBAC knows no labels, so only the program keeps it from Secrets that are not its own",
    },
    Rule {
        group: "",
        resource: "secrets",
        verbs: &["get", "list", "watch"],
        reach: Reach::OwnNamespace,
        names: Names::Any,
        need: Need::Certificates,
        why: "what an instance keeps for itself: certificates, accounts, ledger, answers to challenges, ticket keys, \
              requests; and credentials that settings name. With Roles in some namespaces only, nothing else reaches them",
    },
    Rule {
        group: "",
        resource: "secrets",
        verbs: &["create", "update", "delete"],
        reach: Reach::OwnNamespace,
        names: Names::Any,
        need: Need::Certificates,
        why: "the leader keeps all this there, in Secrets that are named after what they are for",
    },
    Rule {
        group: "",
        resource: "secrets",
        verbs: &["patch"],
        reach: Reach::OwnNamespace,
        names: Names::Requests,
        need: Need::Certificates,
        why: "any agent asks the leader for a certificate by an entry of one Secret",
    },
    Rule {
        group: "",
        resource: "namespaces",
        verbs: &["list", "watch"],
        reach: Reach::Cluster,
        names: Names::Any,
        need: Need::Always,
        why: "the labels that --namespace-selector looks at",
    },
    Rule {
        group: "",
        resource: "nodes",
        verbs: &["list", "watch"],
        reach: Reach::Cluster,
        names: Names::Any,
        need: Need::Always,
        why: "the leader reads external addresses for --publish-node-addresses external",
    },
    Rule {
        group: "events.k8s.io",
        resource: "events",
        verbs: &["create"],
        reach: Reach::Served,
        names: Names::Any,
        need: Need::Always,
        why: "the leader reports Problems on the objects that have them",
    },
    Rule {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["create"],
        reach: Reach::OwnNamespace,
        names: Names::Any,
        need: Need::Always,
        why: "the first election; RBAC cannot limit a creation by name",
    },
    Rule {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "list", "watch", "update"],
        reach: Reach::OwnNamespace,
        names: Names::Lease,
        need: Need::Always,
        why: "who leads",
    },
    Rule {
        group: "",
        resource: "pods",
        verbs: &["list", "watch"],
        reach: Reach::OwnNamespace,
        names: Names::Any,
        need: Need::Always,
        why: "the agents of this instance: which nodes an Ingress is reached at",
    },
    Rule {
        group: "",
        resource: "configmaps",
        verbs: &["list", "watch"],
        reach: Reach::OwnNamespace,
        names: Names::Settings,
        need: Need::Always,
        why: "settings that change while the process runs",
    },
];

/// The name of an instance's Lease: `tidegate` for the instance `tidegate`, else `tidegate-INSTANCE`. Its field manager has
/// the same name.
pub fn lease_name(instance: &str) -> String {
    match instance {
        "tidegate" => instance.to_owned(),
        _ => format!("tidegate-{instance}"),
    }
}

/// The name of the Secret with what people and agents have asked an instance for.
pub fn requests_name(instance: &str) -> String {
    let kind = tidegate_certificates::RecordKind::Requests;
    format!("{}-{}", lease_name(instance), kind.as_str())
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group, resource, ..
        } = self;
        write!(f, "{} of {resource}", self.verbs.join(", "))?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        write!(f, " ({:?}, names: {:?})", self.reach, self.names)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_permission_stands_twice_and_none_is_for_everything() {
        let mut seen = BTreeSet::new();
        for rule in RULES {
            assert!(!rule.why.is_empty(), "{rule}");
            for verb in rule.verbs {
                assert!(!format!("{rule}").contains('*'), "{rule}");
                assert!(
                    seen.insert((rule.group, rule.resource, *verb, rule.reach)),
                    "{verb} stands twice: {rule}"
                );
            }
        }
    }

    #[test]
    fn each_instance_has_a_lease_of_its_own() {
        assert_eq!(lease_name("tidegate"), "tidegate");
        assert_eq!(lease_name("internal"), "tidegate-internal");
    }
}
