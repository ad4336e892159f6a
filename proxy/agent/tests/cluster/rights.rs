//! What Tidegate asks of the API server is what its manifests allow: no less, or it would be refused, and no more.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_controller::access::{Need, RULES};

use crate::support::bed::{Bed, SYSTEM, with_tidegate};
use crate::support::{DEADLINE, eventually, make};

/// The service account of the manifests.
const ACCOUNT: &str = "system:serviceaccount:tidegate:tidegate";

#[test]
fn every_request_is_allowed_and_every_permission_is_used() {
    with_tidegate(2, async |bed: Bed| {
        // Whatever asks for something does so once.
        let settings = json!({ "data": { "settings.yaml": "publishNodeAddresses: external\n" } });
        let settings = settings.to_string();
        bed.kubectl(&[
            "patch",
            "configmap",
            "tidegate-settings",
            "--namespace",
            SYSTEM,
            "--patch",
            &settings,
        ]);
        bed.backend("web", 1).await;
        let pair = make::Pair::new("tls.test");
        bed.create(&pair.secret("tls")).await;
        bed.create(&make::tls_ingress("tls", "tls.test", "web", "tls"))
            .await;
        bed.create(&make::ingress("lost", "lost.test", "missing"))
            .await;
        bed.everywhere("lost.test", 503).await;

        let of = |is_meant: fn(Need) -> bool| -> BTreeSet<_> {
            let rules = RULES.iter().filter(|rule| is_meant(rule.need));
            let rights = rules.flat_map(|rule| rule.verbs.iter().map(|verb| (verb, rule.resource)));
            rights
                .map(|(verb, resource)| format!("{verb} {resource}"))
                .collect()
        };
        let granted = of(|_| true);
        // No certificate is ordered here.
        let expected = of(|need| need == Need::Always);
        let all_used = async || unused(&expected, &asked(&bed)).is_empty();
        let used = eventually("every permission is used", all_used);
        let used = tokio::time::timeout(DEADLINE / 2, used).await;
        let unused = unused(&expected, &asked(&bed));
        assert!(used.is_ok(), "granted and never used: {unused:?}");
        let excess: BTreeSet<_> = asked(&bed).difference(&granted).cloned().collect();
        assert!(
            excess.is_empty(),
            "asked for and not in the table: {excess:?}"
        );
        let events = bed.testbed.audit().unwrap().into_iter();
        let refused: Vec<_> = events
            .filter(|event| event.user == ACCOUNT && matches!(event.code, 401 | 403))
            .map(|event| format!("{} {}", event.verb, event.uri))
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    });
}

/// What is granted and was not asked for. Lists take the place of streaming lists, which are watches, where an API server has none.
fn unused(granted: &BTreeSet<String>, asked: &BTreeSet<String>) -> BTreeSet<String> {
    let stands_in = |right: &String| {
        let resource = right.strip_prefix("list ");
        resource.is_some_and(|resource| asked.contains(&format!("watch {resource}")))
    };
    let unused = granted.difference(asked);
    unused.filter(|right| !stands_in(right)).cloned().collect()
}

/// What the service account has asked for, as verb and resource.
fn asked(bed: &Bed) -> BTreeSet<String> {
    let events = bed.testbed.audit().unwrap().into_iter();
    let ours = events.filter(|event| event.user == ACCOUNT && !event.resource.is_empty());
    ours.map(|event| match event.subresource.as_str() {
        "" => format!("{} {}", event.verb, event.resource),
        sub => format!("{} {}/{sub}", event.verb, event.resource),
    })
    .collect()
}
