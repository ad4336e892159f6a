//! CPU time of translating one change among 10,000 Ingresses: `cargo bench -p tidegate-controller --bench incremental`.
//!
//! With `-- --figures` it says only what `cargo xtask bench scale` wants of it, in lines `figure: NAME = VALUE UNIT`.
#![allow(clippy::print_stdout, reason = "the table is the outcome")]
#![allow(clippy::expect_used, reason = "a bench ends at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_controller::{Change, Object, Settings, Translator};
use tidegate_model::UnixTime;

const INGRESSES: usize = 10_000;
/// Ingresses of the figures, with ten routes each.
const SCALE: [usize; 4] = [1, 100, 1_000, 10_000];
const ROUNDS: usize = 100;
const NOW: UnixTime = UnixTime(1_900_000_000);

/// How the Ingresses share hosts.
#[derive(Clone, Copy)]
enum Hosts {
    /// One each, with TLS by a Secret of its own.
    Own,
    /// One each, without TLS.
    Plain,
    /// All of them name the same, each with a path of its own.
    Shared,
}

fn main() {
    if std::env::args().any(|argument| argument == "--figures") {
        figures();
    } else {
        table_of_all();
    }
}

fn figures() {
    let certificate = certificate();
    let most = SCALE.into_iter().max().unwrap_or_default();
    let sizes = SCALE.map(|ingresses| (Hosts::Plain, "without", ingresses));
    for (hosts, tls, ingresses) in sizes.into_iter().chain([(Hosts::Own, "with", most)]) {
        let mut translator = translator(hosts, ingresses, &certificate);
        let times = measure(&mut translator, ingresses, |number, round| {
            vec![ingress(hosts, number, round)]
        });
        let median = times[ROUNDS / 2].as_secs_f64() * 1e6;
        println!("figure: translate {tls} TLS {ingresses} = {median:.1} µs");
    }
}

fn table_of_all() {
    println!("CPU time of one change among {INGRESSES} Ingresses, thread time, {ROUNDS} rounds");
    println!("{:<44} {:>10} {:>10}", "change", "median", "worst");
    let certificates = [certificate(), certificate()];
    let secret = |number, round: usize| vec![secret(number, &certificates[round % 2])];

    let mut own = start(Hosts::Own, &certificates[0]);
    row(
        "one path, each Ingress with a host of its own",
        &mut own,
        |number, round| vec![ingress(Hosts::Own, number, round)],
    );
    row("one EndpointSlice", &mut own, |number, round| {
        vec![slice(number, round)]
    });
    row("one TLS Secret renewed", &mut own, secret);
    row(
        "one Ingress removed, another added",
        &mut own,
        |number, round| {
            let name = ingress(Hosts::Own, number, 0);
            let Change::Put(object) = &name else {
                unreachable!("an Ingress is put")
            };
            let added = INGRESSES + round;
            vec![
                Change::Remove(object.reference()),
                ingress(Hosts::Own, added, 0),
                service(added),
            ]
        },
    );
    drop(own);
    let mut shared = start(Hosts::Shared, &certificates[0]);
    row(
        "one path, all Ingresses on one host",
        &mut shared,
        |number, round| vec![ingress(Hosts::Shared, number, round)],
    );
}

/// A translator that knows all objects, with the time that it took.
fn start(hosts: Hosts, certificate: &(String, String)) -> Translator {
    let before = thread_time();
    let translator = translator(hosts, INGRESSES, certificate);
    println!(
        "(all objects made and translated at first: {:.0?})",
        thread_time() - before
    );
    translator
}

/// A translator that knows all objects.
fn translator(hosts: Hosts, ingresses: usize, certificate: &(String, String)) -> Translator {
    let objects = (0..ingresses).flat_map(|number| {
        [
            ingress(hosts, number, 0),
            service(number),
            slice(number, 0),
            secret(number, certificate),
        ]
    });
    let mut translator = Translator::new(Settings::default());
    let translation = translator.apply(objects, NOW);
    assert_eq!(translation.statuses.len(), ingresses);
    assert_eq!(translation.problems, []);
    translator
}

fn row(what: &str, translator: &mut Translator, change: impl Fn(usize, usize) -> Vec<Change>) {
    let times = measure(translator, INGRESSES, change);
    println!(
        "{what:<44} {:>10.2?} {:>10.2?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
}

/// Measures a change to another Ingress in every round, while the translation before is still in force. The times are
/// sorted.
fn measure(
    translator: &mut Translator,
    ingresses: usize,
    change: impl Fn(usize, usize) -> Vec<Change>,
) -> Vec<Duration> {
    let mut in_force = translator.apply([], NOW);
    let mut times: Vec<Duration> = (1..=ROUNDS)
        .map(|round| {
            let changes = change(round * 7919 % ingresses, round);
            let before = thread_time();
            // The translation before is dropped within the measured time: its parts have to be freed too.
            in_force = translator.apply(changes, NOW);
            thread_time() - before
        })
        .collect();
    assert_eq!(in_force.problems, []);
    times.sort();
    times
}

fn typed<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("object"))
}

/// An Ingress with ten paths, one of which is another in every round.
fn ingress(hosts: Hosts, number: usize, round: usize) -> Change {
    let name = format!("web-{number}");
    let host = match hosts {
        Hosts::Own | Hosts::Plain => format!("{name}.example.com"),
        Hosts::Shared => "shared.example.com".to_owned(),
    };
    let backend = json!({"service": {"name": name, "port": {"number": 80}}});
    let count = match hosts {
        Hosts::Own | Hosts::Plain => 10,
        Hosts::Shared => 1,
    };
    let paths: Vec<_> = (0..count)
        .map(|path| {
            let path = if path == 0 {
                format!("{round}")
            } else {
                format!("path-{path}")
            };
            json!({"path": format!("/{name}/{path}"), "pathType": "Prefix", "backend": backend})
        })
        .collect();
    let mut spec = json!({
        "ingressClassName": "tidegate",
        "rules": [{"host": host, "http": {"paths": paths}}],
    });
    if matches!(hosts, Hosts::Own) && number < INGRESSES {
        spec["tls"] = json!([{"hosts": [host], "secretName": name}]);
    }
    let created = "2025-01-01T00:00:00Z";
    let metadata = json!({"name": name, "namespace": "default", "creationTimestamp": created});
    Change::Put(Object::Ingress(typed(
        json!({"metadata": metadata, "spec": spec}),
    )))
}

fn service(number: usize) -> Change {
    let name = format!("web-{number}");
    // Requests go to the cluster IP of the Services that come without slices.
    let annotation = if number < INGRESSES { "false" } else { "true" };
    let annotations = json!({"tidegate.dev/service-upstream": annotation});
    Change::Put(Object::Service(typed(json!({
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]},
    }))))
}

fn slice(number: usize, round: usize) -> Change {
    let name = format!("web-{number}");
    let endpoints: Vec<_> = (1..=3)
        .map(|host| json!({"addresses": [format!("10.1.{round}.{host}")]}))
        .collect();
    Change::Put(Object::EndpointSlice(typed(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    }))))
}

fn secret(number: usize, (chain, key): &(String, String)) -> Change {
    Change::Put(Object::Secret(typed(json!({
        "metadata": {"name": format!("web-{number}"), "namespace": "default"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": chain, "tls.key": key},
    }))))
}

fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("key");
    let names = vec!["*.example.com".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("names");
    let certificate = params.self_signed(&key).expect("certificate");
    (certificate.pem(), key.serialize_pem())
}

fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to, and the clock exists on every Linux.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "clock_gettime");
    let seconds = u64::try_from(time.tv_sec).expect("seconds");
    let nanos = u32::try_from(time.tv_nsec).expect("nanoseconds");
    Duration::new(seconds, nanos)
}
