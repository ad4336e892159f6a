//! What the manifests permit is what the code uses: every rule of every role against `tidegate_controller::access`.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use tidegate_controller::access::{Names, Need, RULES, Reach, Rule, lease_name, requests_name};

use crate::rendering::{self, Rendering, text};
use crate::typed::parse;
use crate::workload::{self, Workload};

/// One verb for one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    /// A namespace, or everywhere.
    place: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Of the one object that it is for.
    name: Option<String>,
}

/// Every verb that a rule grants at a place.
fn grants(rules: Vec<PolicyRule>, place: Option<&str>) -> impl Iterator<Item = Grant> {
    rules.into_iter().flat_map(move |rule| {
        assert_eq!(rule.non_resource_urls, None, "no URL is needed");
        let names = rule.resource_names.unwrap_or_default();
        let names: Vec<_> = match names.is_empty() {
            true => vec![None],
            false => names.into_iter().map(Some).collect(),
        };
        let mut all = Vec::new();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    all.extend(names.iter().map(|name| Grant {
                        place: place.map(str::to_owned),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
        all
    })
}

/// What the account of a workload may do.
fn granted(rendering: &Rendering, workload: &Workload) -> BTreeSet<Grant> {
    let account = workload.pod().service_account_name.clone().unwrap();
    let is_for_account = |subjects: Option<Vec<Subject>>| {
        let subjects = subjects.unwrap_or_default();
        subjects.into_iter().any(|subject| {
            assert_eq!(subject.kind, "ServiceAccount");
            assert_eq!(subject.namespace.as_deref(), Some("tidegate"));
            subject.name == account
        })
    };
    let mut all = BTreeSet::new();
    for object in rendering.of_kind("ClusterRoleBinding") {
        let binding: ClusterRoleBinding = parse(object).unwrap();
        if is_for_account(binding.subjects) {
            all.extend(grants(cluster_role(rendering, &binding.role_ref), None));
        }
    }
    for object in rendering.of_kind("RoleBinding") {
        let binding: RoleBinding = parse(object).unwrap();
        if is_for_account(binding.subjects) {
            let namespace = binding.metadata.namespace.unwrap();
            let rules = role(rendering, &binding.role_ref, &namespace);
            all.extend(grants(rules, Some(&namespace)));
        }
    }
    all
}

fn cluster_role(rendering: &Rendering, reference: &RoleRef) -> Vec<PolicyRule> {
    assert_eq!(reference.kind, "ClusterRole");
    let mut roles = rendering.of_kind("ClusterRole");
    let found = roles.find(|role| text(role, "/metadata/name") == reference.name);
    let found = found.unwrap_or_else(|| panic!("{}: {reference:?}", rendering.name));
    let role: ClusterRole = parse(found).unwrap();
    assert_eq!(role.aggregation_rule, None);
    role.rules.unwrap_or_default()
}

fn role(rendering: &Rendering, reference: &RoleRef, namespace: &str) -> Vec<PolicyRule> {
    assert_eq!(reference.kind, "Role");
    let mut roles = rendering.of_kind("Role");
    let found = roles.find(|role| {
        text(role, "/metadata/name") == reference.name
            && text(role, "/metadata/namespace") == namespace
    });
    let found = found.unwrap_or_else(|| panic!("{}: {reference:?}", rendering.name));
    parse::<Role>(found).unwrap().rules.unwrap_or_default()
}

/// Whether certificates may be written into the namespaces of Ingresses, which one value of the chart takes away.
fn has(rendering: &Rendering, rule: &Rule) -> bool {
    let is_taken_away = rule.need == Need::Certificates && rule.reach == Reach::Served;
    rendering.name != "chart: own-certificates" || !is_taken_away
}

/// What the code needs with the settings of a workload.
fn needed(rendering: &Rendering, workload: &Workload) -> BTreeSet<Grant> {
    let served = workload
        .flag("namespaces")
        .map(|list| list.split(',').map(str::to_owned));
    let served: Option<Vec<String>> = served.map(Iterator::collect);
    let everywhere = || vec![None];
    let mut all = BTreeSet::new();
    for rule in RULES.iter().filter(|rule| has(rendering, rule)) {
        let places = match (rule.reach, &served) {
            (Reach::Cluster, _) | (Reach::Served, None) => everywhere(),
            (Reach::Served, Some(namespaces)) => namespaces.iter().cloned().map(Some).collect(),
            (Reach::OwnNamespace, _) => vec![Some("tidegate".to_owned())],
        };
        let name = match rule.names {
            Names::Any => None,
            Names::Lease => Some(lease_name(workload.instance())),
            Names::Settings => Some(settings_name(workload)),
            Names::Requests => Some(requests_name(workload.instance())),
        };
        for place in places {
            all.extend(rule.verbs.iter().map(|verb| Grant {
                place: place.clone(),
                group: rule.group.to_owned(),
                resource: rule.resource.to_owned(),
                verb: (*verb).to_owned(),
                name: name.clone(),
            }));
        }
    }
    all
}

fn settings_name(workload: &Workload) -> String {
    let reference = workload.flag("config-map").unwrap();
    reference
        .strip_prefix("$(POD_NAMESPACE)/")
        .unwrap()
        .to_owned()
}

#[test]
fn the_manifests_permit_what_the_code_uses_and_no_more() {
    let mut count = 0;
    for rendering in rendering::all() {
        for workload in workload::all(rendering) {
            let granted = granted(rendering, &workload);
            let needed = needed(rendering, &workload);
            let of = format!("{} ({})", rendering.name, workload.name);
            let missing: Vec<_> = needed.difference(&granted).collect();
            assert!(
                missing.is_empty(),
                "{of}: the code needs, and nothing grants: {missing:#?}"
            );
            let spare: Vec<_> = granted.difference(&needed).collect();
            assert!(
                spare.is_empty(),
                "{of}: granted, and no code needs it: {spare:#?}"
            );
            count += granted.len();
        }
    }
    println!("{count} permissions are held against the code's");
}

#[test]
fn no_role_is_bound_by_nobody() {
    for rendering in rendering::all() {
        for (role, binding) in [
            ("ClusterRole", "ClusterRoleBinding"),
            ("Role", "RoleBinding"),
        ] {
            let place = |object| {
                (
                    text(object, "/metadata/namespace"),
                    text(object, "/metadata/name"),
                )
            };
            let roles: BTreeSet<_> = rendering.of_kind(role).map(place).collect();
            let bound: BTreeSet<_> = rendering
                .of_kind(binding)
                .map(|it| (text(it, "/metadata/namespace"), text(it, "/roleRef/name")))
                .collect();
            assert_eq!(roles, bound, "{}: {role}", rendering.name);
            assert!(!roles.is_empty(), "{}: {role}", rendering.name);
        }
    }
}
