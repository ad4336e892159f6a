//! What the settings file says about certificates and TLS.

use std::io::Write as _;

use tidegate_certificates::issuer::{
    AwsKey, Dns01, DnsProvider, KeyType, SecretSource, TsigAlgorithm,
};
use tidegate_model::{CipherSuite, Level, Reason, TlsVersion};

use super::*;
use crate::settings::Settings;
use crate::settings::effective::Place;
use crate::settings::pod::Environment;
use crate::settings::tests::flags;

const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

fn of(arguments: &[&str], text: &str) -> Result<Settings, SettingsError> {
    let place = Place::Path("/etc/settings.yaml".to_owned());
    let file = File::parse_at(text, &place)?;
    let flags = flags(&[arguments, &["--manifests", "m"]].concat());
    Settings::of(&flags, &file, Some(&place), &Environment::default())
}

fn issuer(text: &str) -> Issuer {
    let settings = of(&[], &format!("issuers:\n  - {{name: a, {text}}}\n")).unwrap();
    settings.certificates.issuers.0[0].clone()
}

#[test]
fn nothing_is_ordered_by_default() -> Result<(), SettingsError> {
    let settings = of(&[], "")?;
    assert_eq!(settings.certificates, CertificateSettings::default());
    assert_eq!(settings.translation.policy.tls, TlsPolicy::default());
    assert_eq!(settings.translation.policy.on_demand, None);
    assert_eq!(settings.problems, []);
    Ok(())
}

#[test]
fn an_issuer_in_three_lines() {
    let plain = issuer("directory: letsencrypt, contact: admin@example.com");
    assert_eq!(
        plain,
        Issuer {
            name: "a".to_owned(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            staging: Some(STAGING.to_owned()),
            contact: vec!["mailto:admin@example.com".to_owned()],
            external_account: None,
            profile: None,
            key_type: KeyType::EcdsaP256,
            challenge: ChallengeSettings::Http01,
            ca_bundle: None,
            preferred_chain: None,
            fallback: Vec::new(),
        }
    );
    let by_url = issuer("directory: 'https://acme-v02.api.letsencrypt.org/directory'");
    assert_eq!(by_url.staging.as_deref(), Some(STAGING));
    assert_eq!(issuer("directory: letsencrypt, staging: off").staging, None);
    let own =
        issuer("directory: 'https://ca.example.com/dir', staging: 'https://test.example.com/'");
    assert_eq!(own.staging.as_deref(), Some("https://test.example.com/"));
    let rehearsal = issuer("directory: letsencrypt-staging");
    assert_eq!((&*rehearsal.directory, rehearsal.staging), (STAGING, None));
}

#[test]
fn everything_that_an_issuer_can_be_told() -> Result<(), Box<dyn std::error::Error>> {
    let key = rcgen::generate_simple_self_signed(["ca.example".to_owned()])?;
    let pem = key.cert.pem();
    let mut bundle = tempfile::NamedTempFile::new()?;
    bundle.write_all(pem.as_bytes())?;
    let inline: String = pem.lines().map(|line| format!("      {line}\n")).collect();
    let text = format!(
        "
issuers:
  - name: main
    directory: https://ca.example.com/directory
    staging: https://staging.example.com/directory
    contact: [admin@example.com, 'mailto:ops@example.com', 'tel:+1-201-555-0123']
    externalAccount: {{ keyId: kid-1, key: {{ secret: eab, key: hmac }} }}
    profile: shortlived
    keyType: rsa-3072
    challenge: tls-alpn-01
    caBundle: {}
    preferredChain: ISRG Root X1
    fallback: [other]
  - name: other
    directory: https://other.example.com/directory
    caBundle: |
{inline}",
        bundle.path().display()
    );
    let settings = of(&[], &text)?;
    let [main, other] = &*settings.certificates.issuers.0 else {
        panic!("{settings:?}");
    };
    assert_eq!(main.contact.len(), 3);
    assert_eq!(main.contact[1], "mailto:ops@example.com");
    let external = main.external_account.as_ref().unwrap();
    let source = SecretSource::Secret {
        name: "eab".to_owned(),
        key: "hmac".to_owned(),
    };
    assert_eq!((&*external.key_id, &external.key), ("kid-1", &source));
    assert_eq!(main.profile.as_deref(), Some("shortlived"));
    assert_eq!(main.key_type, KeyType::Rsa3072);
    assert_eq!(main.challenge, ChallengeSettings::TlsAlpn01);
    assert_eq!(main.preferred_chain.as_deref(), Some("ISRG Root X1"));
    assert_eq!(main.fallback, ["other"]);
    let bundles = [main, other].map(|issuer| {
        let bundle = issuer.ca_bundle.clone().unwrap();
        String::from_utf8(bundle).unwrap()
    });
    assert_eq!(bundles[0].trim(), bundles[1].trim());
    let printed = settings.printed();
    let again = of(&[], &printed)?;
    assert_eq!(again.certificates, settings.certificates, "{printed}");
    Ok(())
}

#[test]
fn every_way_to_make_a_record() {
    let provider = |dns: &str| {
        let ChallengeSettings::Dns01(dns) =
            issuer(&format!("directory: letsencrypt, dns: {{{dns}}}")).challenge
        else {
            panic!("{dns} is not dns-01");
        };
        *dns
    };
    let env = |name: &str| SecretSource::Environment(name.to_owned());
    let zone = provider(
        "rfc2136: {server: 192.0.2.53, keyName: acme, algorithm: hmac-sha512, key: {env: TSIG}}, \
         resolvers: ['10.0.0.1:5353'], propagationTimeout: 30s",
    );
    assert_eq!(
        zone,
        Dns01 {
            provider: DnsProvider::Rfc2136 {
                server: "192.0.2.53:53".parse().unwrap(),
                key_name: "acme".to_owned(),
                algorithm: TsigAlgorithm::HmacSha512,
                key: env("TSIG"),
            },
            propagation_timeout: Duration::from_secs(30),
            resolvers: vec!["10.0.0.1:5353".parse().unwrap()],
        }
    );
    let amazon = provider(
        "route53: {hostedZoneId: Z1, accessKey: {id: {env: ID}, secret: {file: /run/key}}}",
    );
    assert_eq!(
        amazon.provider,
        DnsProvider::Route53 {
            hosted_zone_id: Some("Z1".to_owned()),
            region: "us-east-1".to_owned(),
            endpoint: None,
            credentials: Some(AwsKey {
                id: env("ID"),
                secret: SecretSource::File("/run/key".into()),
            }),
        }
    );
    let nothing_more = provider("route53: {}");
    assert!(matches!(
        nothing_more.provider,
        DnsProvider::Route53 {
            credentials: None,
            ..
        }
    ));
    let token = provider("cloudflare: {token: {secret: cloudflare, key: token}}");
    assert!(matches!(token.provider, DnsProvider::Cloudflare { .. }));
    let hook = provider("webhook: {url: 'http://127.0.0.1:8000/dns'}");
    assert_eq!(
        hook.provider,
        DnsProvider::Webhook {
            url: "http://127.0.0.1:8000/dns".to_owned(),
            token: None,
        }
    );
    let program = provider("exec: {command: [/bin/hook, --zone, x]}");
    assert_eq!(
        program.provider,
        DnsProvider::Exec {
            command: ["/bin/hook", "--zone", "x"].map(str::to_owned).to_vec(),
        }
    );
}

#[test]
fn certificates_and_names_on_demand() -> Result<(), SettingsError> {
    let settings = of(
        &[],
        "
issuers:
  - { name: web, directory: letsencrypt }
  - { name: zone, directory: letsencrypt, dns: { route53: {} } }
certificates:
  issue: acme
  hosts: rules
  issuer: web
  names:
    - names: [example.com, www.example.com]
    - { names: '*.example.com', issuer: zone, secret: web/wildcard }
  onDemand: { suffixes: [shops.example.net], routes: true, ask: 'https://allow.example.com/', perHour: 7, wait: 3s, forgetAfter: 14d }
  grace: 2d
  limits: { ordersPer3Hours: 10, perDomainPerWeek: 9, failuresPerHour: 8, duplicatesPerWeek: 7 }
tls: { minVersion: 1.3, ticketRotation: 4h }
",
    )?;
    let certificates = &settings.certificates;
    let [first, second] = &*certificates.certificates else {
        panic!("{certificates:?}");
    };
    assert_eq!(first.names.len(), 2);
    assert_eq!(first.issuer.as_deref(), Some("web"));
    assert_eq!(first.secret, None);
    assert_eq!(second.issuer.as_deref(), Some("zone"));
    let secret = second.secret.as_ref().map(ToString::to_string);
    assert_eq!(secret.as_deref(), Some("web/wildcard"));
    let on_demand = certificates.on_demand.as_ref().unwrap();
    assert_eq!((on_demand.per_hour, on_demand.routes), (7, true));
    assert_eq!(on_demand.forget_after.as_secs(), 14 * 24 * 3600);
    assert_eq!(certificates.grace.as_secs(), 2 * 24 * 3600);
    assert_eq!(certificates.ticket_rotation.as_secs(), 4 * 3600);
    let limits = &certificates.limits;
    let limits = [
        limits.duplicates_per_week,
        limits.failures_per_hour,
        limits.per_domain_per_week,
        limits.orders_per_3_hours,
    ];
    assert_eq!(limits, [7, 8, 9, 10]);
    let policy = &settings.translation.policy;
    assert_eq!(policy.tls.min_version, TlsVersion::Tls13);
    let shown = policy.on_demand.as_ref().unwrap();
    assert_eq!((shown.routes, shown.asks), (AllowRoutes::Yes, Asks::Yes));
    assert_eq!(shown.wait, Duration::from_secs(3));
    assert_eq!(shown.suffixes, on_demand.suffixes);
    let printed = settings.printed();
    let again = of(&[], &printed)?;
    assert_eq!(again.certificates, settings.certificates, "{printed}");
    assert_eq!(&again.translation.policy, policy, "{printed}");
    Ok(())
}

#[test]
fn one_issuer_by_flags() -> Result<(), SettingsError> {
    let arguments = [
        "--acme-directory=letsencrypt-staging",
        "--acme-email=admin@example.com",
        "--certificates=acme",
        "--certificate-hosts=rules",
        "--tls-min-version=1.3",
    ];
    let settings = of(&arguments, "certificates: {issue: none}")?;
    let [issuer] = &*settings.certificates.issuers.0 else {
        panic!("{:?}", settings.certificates);
    };
    assert_eq!((&*issuer.name, &*issuer.directory), ("default", STAGING));
    assert_eq!(issuer.contact, ["mailto:admin@example.com"]);
    let file = "acme: {directory: letsencrypt-staging, email: admin@example.com}\n\
                certificates: {issue: acme, hosts: rules}\ntls: {minVersion: '1.3'}\n";
    let same = of(&[], file)?;
    assert_eq!(same.certificates, settings.certificates);
    let printed = of(&[], &settings.printed())?;
    assert_eq!(printed.certificates, settings.certificates);
    let only_mail = of(&["--acme-email=a@example.com"], "")?;
    let found = &only_mail.certificates.issuers.0[0];
    assert_eq!(found.staging.as_deref(), Some(STAGING));
    let both = of(&arguments, "issuers: [{name: a, directory: letsencrypt}]");
    let both = both.unwrap_err().to_string();
    assert!(both.contains("acme.email (from --acme-email)"), "{both}");
    Ok(())
}

#[test]
fn a_suite_that_is_not_offered_is_a_problem_and_no_failure() -> Result<(), SettingsError> {
    let settings = of(
        &[],
        "tls: {cipherSuites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_RSA_WITH_AES_128_CBC_SHA, ECDHE-ECDSA-AES256-SHA]}",
    )?;
    let suites = &settings.translation.policy.tls.cipher_suites;
    assert_eq!(
        **suites,
        [CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
    );
    let [first, second] = &*settings.problems else {
        panic!("{:?}", settings.problems);
    };
    assert_eq!(first.level, Level::Warning);
    assert_eq!(first.reason, Reason::UnsupportedCipherSuite);
    assert_eq!(first.object.to_string(), "File /etc/settings.yaml");
    assert_eq!(first.field, "tls.cipherSuites[1]");
    let rsa = "use TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    assert!(first.message.contains(rsa), "{first}");
    assert!(first.message.ends_with("It is left out."), "{first}");
    let ecdsa = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    assert!(second.message.contains(ecdsa), "{second}");

    let none = of(&[], "tls: {cipherSuites: [x, TLS_AES_128_CCM_SHA256]}")?;
    assert_eq!(none.translation.policy.tls.cipher_suites, []);
    assert!(none.problems[0].message.contains("all that there are"));
    assert!(none.problems[1].message.contains("TLS_AES_128_GCM_SHA256"));

    let only = of(&[], "tls: {cipherSuites: TLS_AES_256_GCM_SHA384}")?;
    let suites = only.translation.policy.tls.cipher_suites;
    assert_eq!(suites, [CipherSuite::TLS_AES_256_GCM_SHA384]);
    Ok(())
}

#[test]
fn the_place_of_a_problem_may_be_a_config_map() {
    let place = Place::ConfigMap("edge/settings".to_owned());
    let names = ["RC4".to_owned()];
    let (_, problems) = tls::suites(&names, Some(&place));
    assert_eq!(problems[0].object.to_string(), "ConfigMap edge/settings");
    let (_, problems) = tls::suites(&names, None);
    assert_eq!(problems[0].object.kind, "File");
}

#[test]
fn an_error_names_key_value_and_remedy() {
    let named = |rest: &str| format!("issuers: [{{name: a, directory: letsencrypt, {rest}}}]");
    let two = "issuers: [{name: a, directory: letsencrypt}, {name: b, directory: letsencrypt}]";
    let wrong = [
        (
            "issuers: [{directory: letsencrypt}]".to_owned(),
            ["issuers[0].name", "is missing", "name: letsencrypt"],
        ),
        (
            "issuers: [{name: a}]".to_owned(),
            [
                "issuers[0].directory",
                "is missing",
                "directory: letsencrypt",
            ],
        ),
        (
            "issuers: [{name: A_b, directory: letsencrypt}]".to_owned(),
            ["issuers[0].name", "A_b", "a-z"],
        ),
        (
            "issuers: [{name: a, directory: 'http://ca/dir'}]".to_owned(),
            ["issuers[0].directory", "http://ca/dir", "https://"],
        ),
        (
            "issuers: [{name: a, directory: 'https://'}]".to_owned(),
            ["issuers[0].directory", "https://", "letsencrypt-staging"],
        ),
        (
            "issuers: [{name: a, directory: letsencrypt}, {name: a, directory: letsencrypt}]"
                .to_owned(),
            ["issuers[1].name", "\"a\"", "name of its own"],
        ),
        (
            named("fallback: [b]"),
            ["issuers[0].fallback", "\"b\"", "write a, or add"],
        ),
        (
            named("fallback: [a]"),
            ["issuers[0].fallback", "\"a\"", "another one"],
        ),
        (
            named("staging: letsencrypt"),
            ["issuers[0].staging", "acme-v02", "or off"],
        ),
        (
            named("staging: somewhere"),
            ["issuers[0].staging", "somewhere", "or off"],
        ),
        (
            named("contact: [admin]"),
            ["issuers[0].contact", "admin", "admin@example.com"],
        ),
        (
            named("contact: ['a@b.c,d@e.f']"),
            ["issuers[0].contact", "a@b.c,d@e.f", "one mail address"],
        ),
        (
            named("keyType: dsa"),
            ["issuers[0].keyType", "dsa", "ecdsa-p256"],
        ),
        (
            named("challenge: http"),
            ["issuers[0].challenge", "\"http\"", "http-01"],
        ),
        (
            named("challenge: dns-01"),
            ["issuers[0].challenge", "dns-01", "add `dns:`"],
        ),
        (
            named("challenge: http-01, dns: {route53: {}}"),
            ["issuers[0].challenge", "http-01", "take `dns:` out"],
        ),
        (
            named("dns: {}"),
            ["issuers[0].dns", "exactly one of", "rfc2136"],
        ),
        (
            named("dns: {route53: {}, exec: {command: x}}"),
            ["issuers[0].dns", "exactly one of", "webhook"],
        ),
        (
            named("dns: {exec: {}}"),
            [
                "issuers[0].dns.exec.command",
                "empty",
                "[/usr/local/bin/dns-hook]",
            ],
        ),
        (
            named("dns: {cloudflare: {}}"),
            [
                "issuers[0].dns.cloudflare.token",
                "is missing",
                "{env: VARIABLE}",
            ],
        ),
        (
            named("dns: {cloudflare: {token: {env: a, file: b}}}"),
            ["issuers[0].dns.cloudflare.token", "one of", "{file: PATH}"],
        ),
        (
            named("dns: {cloudflare: {token: {secret: a}}}"),
            ["token.secret", "\"a\"", "key: ENTRY"],
        ),
        (
            named("dns: {rfc2136: {server: ns1, keyName: a, key: {env: A}}}"),
            ["rfc2136.server", "ns1", "10.96.0.10"],
        ),
        (
            named("dns: {webhook: {url: ftp://x}}"),
            ["webhook.url", "ftp://x", "https://"],
        ),
        (
            named("dns: {route53: {}, propagationTimeout: 2h}"),
            ["propagationTimeout", "2h", "from 1s to 3600s"],
        ),
        (
            named("externalAccount: {keyId: a}"),
            ["externalAccount.key", "is missing", "{env: VARIABLE}"],
        ),
        (
            named("caBundle: /does/not/exist"),
            ["issuers[0].caBundle", "/does/not/exist", "PEM"],
        ),
        (
            named("caBundle: '-----BEGIN X-----'"),
            ["issuers[0].caBundle", "BEGIN", "PEM"],
        ),
        (
            "certificates: {issue: acme}".to_owned(),
            ["certificates.issue", "no issuer", "--acme-directory"],
        ),
        (
            "certificates: {issue: true}".to_owned(),
            ["certificates.issue", "true", "acme or none"],
        ),
        (
            format!("{two}\ncertificates: {{hosts: all}}"),
            ["certificates.hosts", "all", "rules"],
        ),
        (
            format!("{two}\ncertificates: {{issuer: c}}"),
            ["certificates.issuer", "\"c\"", "write a or b"],
        ),
        (
            "certificates: {names: [{names: a.example}]}".to_owned(),
            ["certificates.names[0].names", "a.example", "issuers:"],
        ),
        (
            format!("{two}\ncertificates: {{names: [{{names: ['*.a.example']}}]}}"),
            ["certificates.names[0].names", "*.a.example", "dns-01"],
        ),
        (
            format!("{two}\ncertificates: {{names: [{{names: [a.example, a.example]}}]}}"),
            ["certificates.names[0].names", "a.example", "once"],
        ),
        (
            format!(
                "{two}\ncertificates: {{names: [{{names: a.example}}, {{names: a.example, issuer: b}}]}}"
            ),
            [
                "certificates.names[1].names",
                "a.example",
                "certificates.names[0] is for the same",
            ],
        ),
        (
            format!("{two}\ncertificates: {{names: [{{issuer: a}}]}}"),
            ["certificates.names[0].names", "empty", "www.example.com"],
        ),
        (
            format!("{two}\ncertificates: {{names: [{{names: Shop.example}}]}}"),
            ["certificates.names[0].names", "Shop.example", "lower case"],
        ),
        (
            format!("{two}\ncertificates: {{names: [{{names: a.example, secret: b}}]}}"),
            ["certificates.names[0].secret", "\"b\"", "NAMESPACE/NAME"],
        ),
        (
            format!("{two}\ncertificates: {{onDemand: {{}}}}"),
            ["certificates.onDemand", "allows no name", "routes: true"],
        ),
        (
            format!("{two}\ncertificates: {{onDemand: {{suffixes: '*.a.example'}}}}"),
            [
                "certificates.onDemand.suffixes",
                "*.a.example",
                "all names below",
            ],
        ),
        (
            format!("{two}\ncertificates: {{onDemand: {{routes: true, perHour: 0}}}}"),
            ["certificates.onDemand.perHour", "\"0\"", "from 1"],
        ),
        (
            format!("{two}\ncertificates: {{onDemand: {{routes: true, wait: 5m}}}}"),
            ["certificates.onDemand.wait", "5m", "60s"],
        ),
        (
            format!("{two}\ncertificates: {{limits: {{failuresPerHour: -1}}}}"),
            ["certificates.limits.failuresPerHour", "-1", "from 1"],
        ),
        (
            "certificates: {onDemand: {routes: true}}".to_owned(),
            ["certificates.onDemand", "no issuer", "issuers:"],
        ),
        (
            "certificates: {grace: 7}".to_owned(),
            ["certificates.grace", "\"7\"", "unit"],
        ),
        (
            "tls: {minVersion: 1.1}".to_owned(),
            ["tls.minVersion", "1.1", "1.2 or 1.3"],
        ),
        (
            "tls: {ticketRotation: 8d}".to_owned(),
            ["tls.ticketRotation", "8d", "604800s"],
        ),
        (
            "acme: {email: x}".to_owned(),
            ["acme.email", "\"x\"", "admin@example.com"],
        ),
        (
            "issuers: [{name: a, directroy: x}]".to_owned(),
            ["directroy", "directory", "unknown"],
        ),
    ];
    for (text, parts) in wrong {
        let error = of(&[], &text).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{text} was taken"));
        for part in parts {
            assert!(error.contains(part), "{text}: {error} / {part}");
        }
    }
}

/// The blocks of YAML in a page, without those that are indented, which show a part.
fn blocks(page: &str) -> Vec<&str> {
    let blocks = page.split("\n```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0));
    blocks.filter(|block| !block.starts_with(' ')).collect()
}

#[test]
fn the_files_that_the_pages_show_are_taken() -> Result<(), SettingsError> {
    let pages = [("certificates-settings", 4), ("dns-challenges", 1)];
    for (name, least) in pages {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join(format!("../../docs/{name}.md"));
        let page = std::fs::read_to_string(&path).unwrap();
        let is_ours = |block: &&str| {
            let keys = ["issuers:", "certificates:", "tls:"];
            keys.iter().any(|key| block.starts_with(key))
        };
        let files: Vec<_> = blocks(&page).into_iter().filter(is_ours).collect();
        assert!(files.len() >= least, "{name}: {files:?}");
        for file in files {
            let settings = of(&[], file)?;
            assert_eq!(settings.problems, [], "{file}");
        }
    }
    Ok(())
}
