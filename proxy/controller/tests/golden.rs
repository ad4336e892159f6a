//! Golden tests of the translation: manifests in, what is served and what is wrong out.
//!
//! `translate/NAME.in.yaml` is what a user could apply, `translate/NAME.out.yaml` what comes of it. A first document of
//! kind `TranslateTest` may hold settings, the time, answers of name servers, and requests to try. `UPDATE_GOLDEN=1`
//! writes the outputs anew.
#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_controller::translate::{
    CanWildcard, CertificateDefaults, Hosts, Issue, PortRef, ServicePort,
};
use tidegate_controller::{Change, Object, Resolution, Settings, Translation, Translator};
use tidegate_model::{
    CertificateRequest, Hostname, Issuance, NamespacedName, Policy, RedirectMode, RedirectPolicy,
    SecretOwner, Snapshot, Target, UnixTime,
};

/// What a test may set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TranslateTest {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    now: Option<String>,
    settings: TestSettings,
    /// Addresses, or why there are none.
    resolutions: BTreeMap<String, Value>,
    requests: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TestSettings {
    ingress_class: Option<BTreeSet<String>>,
    watch_ingress_without_class: bool,
    namespaces: BTreeSet<String>,
    selector: String,
    namespace_selector: String,
    own_namespace: Option<String>,
    instance: Option<String>,
    certificates: TestCertificates,
    default_backend: Option<String>,
    default_certificate: Option<String>,
    redirect: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TestCertificates {
    issue: String,
    hosts: String,
    issuer: Option<String>,
    /// With the challenge of each: `http-01` or `dns-01`.
    issuers: Option<BTreeMap<String, String>>,
}

#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = Vec::new();
    let inputs = files(&folder, ".in.yaml");
    assert!(
        !inputs.is_empty(),
        "no golden tests in {}",
        folder.display()
    );
    for (name, input) in &inputs {
        let found = run(name, &read(input));
        let output = folder.join(format!("{name}.out.yaml"));
        if update {
            std::fs::write(&output, &found).expect("write the output");
        }
        let wanted = std::fs::read_to_string(&output).unwrap_or_default();
        if found != wanted {
            failures.push(format!("{name}:\n{}", difference(&wanted, &found)));
        }
    }
    for (name, output) in files(&folder, ".out.yaml") {
        if !inputs.contains_key(&name) {
            failures.push(format!("{} has no input", output.display()));
        }
    }
    let failed = failures.len();
    assert!(
        failures.is_empty(),
        "{}\n{failed} of {} golden tests differ; UPDATE_GOLDEN=1 accepts what was found",
        failures.join("\n"),
        inputs.len()
    );
}

/// Translates an input, in its own order, backwards, and object by object.
fn run(name: &str, text: &str) -> String {
    let (test, changes) = parse(name, text);
    let settings = test.settings.parse();
    let now = test.now.as_deref().unwrap_or("2030-01-01T00:00:00Z");
    let now: Timestamp = now.parse().expect("now");
    let now = UnixTime(now.as_second());
    let once = |changes: Vec<Change>| Translator::new(settings.clone()).apply(changes, now);
    let found = show(&test, &once(changes.clone()));
    let backwards: Vec<_> = changes.iter().rev().cloned().collect();
    assert_eq!(found, show(&test, &once(backwards)), "{name}: backwards");
    let mut translator = Translator::new(settings.clone());
    let mut one_by_one = translator.apply([], now);
    let middle = changes.len() / 2;
    for change in changes[middle..].iter().chain(&changes[..middle]) {
        one_by_one = translator.apply([change.clone()], now);
    }
    assert_eq!(found, show(&test, &one_by_one), "{name}: one by one");
    found
}

fn parse(name: &str, text: &str) -> (TranslateTest, Vec<Change>) {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut test = TranslateTest::default();
    let mut changes = Vec::new();
    for document in documents {
        match document["kind"].as_str().unwrap_or_default() {
            "TranslateTest" => test = typed(name, document),
            "Ingress" => changes.push(Object::Ingress(Arc::new(typed(name, document)))),
            "IngressClass" => changes.push(Object::IngressClass(Arc::new(typed(name, document)))),
            "Service" => changes.push(Object::Service(Arc::new(typed(name, document)))),
            "EndpointSlice" => changes.push(Object::EndpointSlice(Arc::new(typed(name, document)))),
            "Secret" => changes.push(Object::Secret(Arc::new(typed(name, document)))),
            "Namespace" => changes.push(Object::Namespace(Arc::new(typed(name, document)))),
            other => panic!("{name}: no object of kind '{other}' is read"),
        }
    }
    let mut changes: Vec<_> = changes.into_iter().map(Change::Put).collect();
    changes.extend(
        test.resolutions
            .iter()
            .map(|(name, answer)| resolved(name, answer)),
    );
    (test, changes)
}

fn typed<T: DeserializeOwned>(name: &str, document: Value) -> T {
    serde_json::from_value(document).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn resolved(name: &str, answer: &Value) -> Change {
    let resolution = match answer {
        Value::Array(addresses) => Resolution::Addresses(
            addresses
                .iter()
                .map(|address| address.as_str().expect("text").parse().expect("address"))
                .collect(),
        ),
        other => Resolution::Failed(other.as_str().expect("cause").to_owned()),
    };
    Change::Resolved(Hostname::parse(name).expect("name"), Some(resolution))
}

impl TestSettings {
    fn parse(&self) -> Settings {
        let mode = match self.redirect.as_deref() {
            None => RedirectMode::TlsHosts,
            Some("all") => RedirectMode::All,
            Some("none") => RedirectMode::None,
            Some(other) => panic!("redirect: {other}"),
        };
        let policy = Policy {
            redirect: RedirectPolicy {
                mode,
                ..RedirectPolicy::default()
            },
            ..Policy::default()
        };
        Settings {
            ingress_class: self.ingress_class.clone(),
            watch_ingress_without_class: self.watch_ingress_without_class,
            namespaces: self.namespaces.clone(),
            selector: self.selector.parse().expect("selector"),
            namespace_selector: self.namespace_selector.parse().expect("selector"),
            own_namespace: self.own_namespace.clone(),
            instance_label: self.instance.clone().unwrap_or_default(),
            certificates: self.certificates.parse(),
            default_backend: self.default_backend.as_deref().map(service_port),
            default_certificate: self.default_certificate.as_deref().map(object_name),
            policy,
        }
    }
}

impl TestCertificates {
    fn parse(&self) -> CertificateDefaults {
        let can_wildcard = |challenge: &str| match challenge {
            "dns-01" => CanWildcard::Yes,
            "http-01" => CanWildcard::No,
            other => panic!("challenge: {other}"),
        };
        let issuers = self.issuers.iter().flatten();
        let issuers = issuers.map(|(name, challenge)| (name.clone(), can_wildcard(challenge)));
        CertificateDefaults {
            issue: match self.issue.as_str() {
                "acme" => Issue::Acme,
                "" => Issue::None,
                other => panic!("issue: {other}"),
            },
            hosts: match self.hosts.as_str() {
                "rules" => Hosts::Rules,
                "" => Hosts::Tls,
                other => panic!("hosts: {other}"),
            },
            issuer: self.issuer.clone(),
            known_issuers: self.issuers.is_some().then(|| issuers.collect()),
        }
    }
}

fn object_name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

fn service_port(text: &str) -> ServicePort {
    let (service, port) = text.rsplit_once(':').expect("namespace/name:port");
    let port = port
        .parse()
        .map_or_else(|_| PortRef::Name(port.to_owned()), PortRef::Number);
    ServicePort {
        service: object_name(service),
        port,
    }
}

fn show(test: &TranslateTest, translation: &Translation) -> String {
    let snapshot = translation.snapshot.describe();
    let mut text = String::new();
    let routes = snapshot.routes.iter().map(|route| {
        let kind = route
            .path_type
            .map_or("default".to_owned(), |kind| format!("{kind:?}"));
        let path = route.path.as_deref().unwrap_or("backend");
        let upstream = route
            .upstream
            .as_ref()
            .map_or("503".to_owned(), ToString::to_string);
        let ingress = route
            .ingress
            .as_ref()
            .map_or("controller".to_owned(), ToString::to_string);
        let redirect = if route.tls_redirect { " redirect" } else { "" };
        format!(
            "{} {kind} {path} -> {upstream} ({ingress}){redirect}",
            route.host
        )
    });
    section(&mut text, "routes", routes);
    let upstreams = snapshot.upstreams.iter().map(|upstream| {
        let protocol = format!("{:?}", upstream.protocol).to_lowercase();
        let server_name = &translation.snapshot.upstreams[&upstream.id].server_name;
        let server_name = server_name
            .as_ref()
            .map_or(String::new(), |name| format!(" as {name}"));
        let endpoints: Vec<_> = upstream.endpoints.iter().map(ToString::to_string).collect();
        format!(
            "{} {protocol}{server_name} [{}]",
            upstream.id,
            endpoints.join(", ")
        )
    });
    section(&mut text, "upstreams", upstreams);
    let certificates = snapshot
        .certificates
        .iter()
        .map(|certificate| format!("{} {}", certificate.host, certificate.secret));
    section(&mut text, "certificates", certificates);
    let challenges = translation.snapshot.challenges.entries().into_iter();
    section(
        &mut text,
        "challenges",
        challenges.map(|(token, answer)| format!("{token} -> {answer}")),
    );
    let handshakes = translation.snapshot.challenges.handshakes().into_iter();
    section(
        &mut text,
        "handshakes",
        handshakes.map(|(host, answer)| format!("{host} -> {answer}")),
    );
    let tickets = translation.snapshot.tickets.all().iter();
    section(
        &mut text,
        "tickets",
        tickets.map(|key| {
            let name = u128::from_be_bytes(key.name);
            format!("{name:032x} from {}", key.active_from.0)
        }),
    );
    let statuses = translation.statuses.iter().map(|(name, status)| {
        let tls = if status.tls { " tls" } else { "" };
        format!("{name} routes={}{tls}", status.routes)
    });
    section(&mut text, "statuses", statuses);
    section(&mut text, "issuance", issuance(&translation.issuance));
    section(
        &mut text,
        "problems",
        translation.problems.iter().map(ToString::to_string),
    );
    section(
        &mut text,
        "names",
        translation.names.iter().map(ToString::to_string),
    );
    if let Some(UnixTime(at)) = translation.recheck_at
        && test.now.is_some()
    {
        let at = Timestamp::from_second(at).expect("time");
        section(&mut text, "recheckAt", [at.to_string()].into_iter());
    }
    let requests = test
        .requests
        .iter()
        .map(|request| format!("{request} -> {}", answer(&translation.snapshot, request)));
    section(&mut text, "requests", requests);
    text
}

/// What is asked for and held; nothing where no certificate is.
fn issuance(issuance: &Issuance) -> impl Iterator<Item = String> {
    let issuer = |name: &Option<String>| {
        let name = name.as_ref();
        name.map_or_else(String::new, |name| format!(" by {name}"))
    };
    let names = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(" ");
    let wishes = issuance.wishes.iter().map(|wish| {
        let secret = wish.secret.as_ref();
        let secret = secret.map_or("our own".to_owned(), ToString::to_string);
        let by = issuer(&wish.issuer);
        let names = names(&mut wish.names.iter().map(ToString::to_string));
        format!(
            "wish {names}{by} -> {secret} ({} {})",
            wish.object, wish.field
        )
    });
    let secrets = issuance.secrets.iter().map(|(name, held)| {
        let whose = match held.owner {
            SecretOwner::Tidegate => "ours",
            SecretOwner::Other => "other's",
        };
        let holds = held
            .certificate
            .as_ref()
            .map_or("nothing".to_owned(), |it| {
                names(&mut it.names.iter().map(ToString::to_string))
            });
        format!("secret {name} {whose} {holds}{}", issuer(&held.issuer))
    });
    let requests = issuance
        .requests
        .iter()
        .map(|(request, time)| match request {
            CertificateRequest::Renew(host) => format!("renew {host} since {time}"),
            CertificateRequest::OnDemand(host) => format!("on demand {host} since {time}"),
        });
    let mut lines: Vec<_> = wishes.chain(secrets).chain(requests).collect();
    if !lines.is_empty() && !issuance.hosts.is_empty() {
        let hosts = names(&mut issuance.hosts.iter().map(ToString::to_string));
        lines.push(format!("hosts {hosts}"));
    }
    lines.into_iter()
}

/// What a request gets, as the data plane would decide.
fn answer(snapshot: &Snapshot, request: &str) -> String {
    let (scheme, rest) = request.split_once("://").expect("scheme");
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let tls = scheme == "https";
    if !tls && let Some(answer) = snapshot.challenges.answer_to(path) {
        return answer.to_owned();
    }
    let lookup = snapshot.routes.find(host, path);
    let certificate = match snapshot.certificates.select(Some(host)) {
        _ if !tls => String::new(),
        [] => " with no certificate".to_owned(),
        several => {
            let secrets: Vec<_> = several.iter().map(|one| one.secret.to_string()).collect();
            format!(" with {}", secrets.join(", "))
        }
    };
    if !tls && snapshot.redirects(lookup) {
        return "redirect".to_owned();
    }
    let backend = match lookup.route {
        None => "404".to_owned(),
        Some(route) => match &route.target {
            Target::Upstream(id) if snapshot.upstreams[id].endpoints.is_empty() => "503".to_owned(),
            Target::Upstream(id) => match &route.labels.ingress {
                Some(ingress) => format!("{id} ({ingress})"),
                None => format!("{id} (controller)"),
            },
            Target::Unavailable => "503".to_owned(),
        },
    };
    format!("{backend}{certificate}")
}

/// A list in YAML, left out when it is empty.
fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return;
    }
    writeln!(text, "{title}:").expect("text");
    for line in lines {
        let plain = line.starts_with(|first: char| first.is_ascii_alphanumeric())
            && !line.contains(": ")
            && !line.contains(" #");
        let line = if plain {
            line
        } else {
            Value::String(line).to_string()
        };
        writeln!(text, "- {line}").expect("text");
    }
}

fn files(folder: &Path, ending: &str) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(folder).expect("folder");
    entries
        .filter_map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned();
            Some((name, path))
        })
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines that only one of two texts has.
fn difference(wanted: &str, found: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (wanted, found) = (lines(wanted), lines(found));
    let missing = wanted
        .iter()
        .filter(|line| !found.contains(line))
        .map(|line| format!("  -{line}"));
    let extra = found
        .iter()
        .filter(|line| !wanted.contains(line))
        .map(|line| format!("  +{line}"));
    missing.chain(extra).collect::<Vec<_>>().join("\n")
}
