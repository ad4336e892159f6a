//! Which Ingresses are ours: classes, and the two ways in which an Ingress names one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use tidegate_model::{Excerpt, NamespacedName, Problem, Reason};

use super::Settings;
use super::annotation::{self, CertificateAnnotations};
use super::report::Report;

/// `spec.controller` of the IngressClasses that are ours.
pub const CONTROLLER: &str = "tidegate.dev/ingress-controller";
/// The class that is served unless set otherwise, whether or not an IngressClass of that name exists.
pub const DEFAULT_CLASS: &str = "tidegate";

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const CLASS_FIELD: &str = "spec.ingressClassName";

/// Whose an Ingress is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ownership {
    Ours,
    #[default]
    Foreign,
}

/// The served classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    served: BTreeSet<String>,
    /// Names that would be served, were there no IngressClass that gives them to another controller.
    taken: BTreeMap<String, String>,
    /// Whose the Ingresses are that name no class.
    classless: Ownership,
    /// The class of those Ingresses, where an IngressClass says that it is.
    default: Option<String>,
    /// What IngressClasses of ours say about certificates.
    certificates: BTreeMap<String, CertificateAnnotations>,
}

impl Classes {
    pub(super) fn new(
        settings: &Settings,
        objects: &BTreeMap<NamespacedName, Arc<IngressClass>>,
    ) -> Self {
        let controller = |class: &IngressClass| {
            let spec = class.spec.as_ref();
            spec.and_then(|spec| spec.controller.clone())
                .unwrap_or_default()
        };
        let ours = |class: &IngressClass| controller(class) == CONTROLLER;
        let mut served = match &settings.ingress_class {
            Some(names) => names.clone(),
            None => {
                let classes = objects.iter().filter(|(_, class)| ours(class));
                let names = classes.map(|(name, _)| name.name.clone());
                names.chain([DEFAULT_CLASS.to_owned()]).collect()
            }
        };
        let taken: BTreeMap<_, _> = objects
            .iter()
            .filter(|(name, class)| served.contains(&name.name) && !ours(class))
            .map(|(name, class)| (name.name.clone(), controller(class)))
            .collect();
        served.retain(|name| !taken.contains_key(name));
        let classes = || {
            let all = objects.iter().map(|(name, class)| (&name.name, class));
            all.filter(|(name, class)| served.contains(*name) && ours(class))
        };
        let default = classes().find(|(_, class)| is_default(class));
        let default = default.map(|(name, _)| name.clone());
        let classless = if settings.watch_ingress_without_class || default.is_some() {
            Ownership::Ours
        } else {
            Ownership::Foreign
        };
        // What is wrong with them is told with the other problems of classes.
        let mut unheard = Report::about("IngressClass", &NamespacedName::default());
        let certificates = classes()
            .map(|(name, class)| {
                let annotations = class.metadata.annotations.as_ref();
                (
                    name.clone(),
                    annotation::of_class(annotations, &mut unheard),
                )
            })
            .filter(|(_, written)| *written != CertificateAnnotations::default())
            .collect();
        Self {
            served,
            taken,
            classless,
            default,
            certificates,
        }
    }

    /// What the class of an Ingress says about certificates.
    pub(super) fn certificates(&self, ingress: &Ingress) -> Option<&CertificateAnnotations> {
        let annotations = ingress.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.get(CLASS_ANNOTATION));
        let spec = ingress.spec.as_ref();
        let named = spec.and_then(|spec| spec.ingress_class_name.as_ref());
        let class = annotation.or(named).or(self.default.as_ref())?;
        self.certificates.get(class)
    }

    /// Whose an Ingress is. Reports what looks like a slip of the pen.
    pub(super) fn ownership(&self, ingress: &Ingress, report: &mut Report) -> Ownership {
        let annotations = ingress.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.get(CLASS_ANNOTATION));
        let spec = ingress.spec.as_ref();
        let named = spec.and_then(|spec| spec.ingress_class_name.as_ref());
        if let (Some(annotation), Some(named)) = (annotation, named) {
            self.report_difference(annotation, named, report);
        }
        let field = super::annotation::field(CLASS_ANNOTATION);
        match (annotation, named) {
            (Some(class), _) => self.named(class, &field, report),
            (None, Some(class)) => self.named(class, CLASS_FIELD, report),
            (None, None) => self.classless,
        }
    }

    fn named(&self, class: &str, field: &str, report: &mut Report) -> Ownership {
        if self.served.contains(class) {
            return Ownership::Ours;
        }
        if let Some(controller) = self.taken.get(class) {
            report.warning(
                Reason::ClassMismatch,
                field,
                format!(
                    "the IngressClass '{class}' has the controller '{}', so Tidegate does not serve this \
                     Ingress; set spec.controller of the IngressClass to '{CONTROLLER}' or name another class",
                    Excerpt(controller)
                ),
            );
        } else if let Some(near) = self.near(class) {
            report.warning(
                Reason::ClassMismatch,
                field,
                format!(
                    "the class '{}' is not served: it is compared exactly; write '{near}'",
                    Excerpt(class)
                ),
            );
        }
        Ownership::Foreign
    }

    /// The served class that was probably meant: other letter case, or blanks around it.
    fn near(&self, class: &str) -> Option<&String> {
        let mut served = self.served.iter();
        served.find(|served| served.eq_ignore_ascii_case(class.trim()))
    }

    fn report_difference(&self, annotation: &str, named: &str, report: &mut Report) {
        let concerns_us = self.served.contains(annotation) || self.served.contains(named);
        if annotation == named || !concerns_us {
            return;
        }
        let outcome = if self.served.contains(annotation) {
            "is served"
        } else {
            "is not served"
        };
        report.warning(
            Reason::ClassMismatch,
            CLASS_FIELD,
            format!(
                "the class is '{}' here and '{}' in the annotation {CLASS_ANNOTATION}, which has \
                 precedence: the Ingress {outcome}; remove one of the two",
                Excerpt(named),
                Excerpt(annotation)
            ),
        );
    }
}

fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(IS_DEFAULT))
        .map(String::as_str)
        == Some("true")
}

/// What is wrong with the IngressClasses themselves.
pub(super) fn problems(
    settings: &Settings,
    objects: &BTreeMap<NamespacedName, Arc<IngressClass>>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, class) in objects {
        let Some(spec) = &class.spec else { continue };
        if spec.controller.as_deref() != Some(CONTROLLER) {
            continue;
        }
        let mut report = Report::about("IngressClass", name);
        if spec.parameters.is_some() {
            report.warning(
                Reason::InvalidField,
                "spec.parameters",
                "Tidegate takes no parameters from an IngressClass and ignores them; remove the field",
            );
        }
        let written = annotation::of_class(class.metadata.annotations.as_ref(), &mut report);
        settings.certificates.report_unknown(&written, &mut report);
        problems.extend(report.into_problems());
    }
    problems
}
