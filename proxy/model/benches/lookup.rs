//! Time of one route look-up by the number of routes: `cargo bench -p tidegate-model --bench lookup`.
//!
//! With `-- --figures` it says only what `cargo xtask bench scale` wants of it, in lines `figure: NAME = VALUE UNIT`.
#![allow(clippy::print_stdout, reason = "the table is the outcome")]
#![allow(clippy::expect_used, reason = "a bench ends at the first surprise")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tidegate_model::{
    HostPattern, NamespacedName, PathKind, PathMatch, Route, RouteLabels, RouteRank, RouteTable,
    Target, TlsRedirect, UpstreamId, VirtualHost,
};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Those of the figures.
const SCALE: [usize; 4] = [10, 1_000, 10_000, 100_000];
/// Requests in a row; the median of the rows counts.
const REQUESTS: usize = 1 << 16;
const ROWS: usize = 15;
/// How many different requests make up the hot set.
const HOT: usize = 64;

/// How routes spread over hosts and paths.
#[derive(Clone, Copy)]
enum Shape {
    Hosts,
    HostsAndPaths,
    Paths,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Hosts => "a host each, path /",
            Self::HostsAndPaths => "ten paths a host",
            Self::Paths => "one host, a path each",
        }
    }

    /// Host and path of a route. The texts have the same length whatever the number, so that the work of reading and
    /// comparing them is the same for every size of table.
    fn condition(self, number: usize) -> (String, String) {
        match self {
            Self::Hosts => (format!("app-{number:05}.team.example.com"), "/".to_owned()),
            Self::HostsAndPaths => (
                format!("app-{:05}.team.example.com", number / 10),
                format!("/api/v1/part-{}", number % 10),
            ),
            Self::Paths => (
                "shared.example.com".to_owned(),
                format!("/team-{:02}/app-{number:05}", number % 97),
            ),
        }
    }
}

/// Which routes requests are for.
#[derive(Clone, Copy)]
enum Traffic {
    Uniform,
    Hot,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Self::Uniform => "any route",
            Self::Hot => "64 hot ones",
        }
    }

    fn pick(self, random: &mut Random, routes: usize) -> usize {
        match self {
            Self::Uniform => random.below(routes),
            // Hot routes are spread over the table.
            Self::Hot => random.below(HOT) * 7919 % routes,
        }
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--figures") {
        figures();
    } else {
        table_of_all();
    }
}

fn figures() {
    let shape = Shape::HostsAndPaths;
    for routes in SCALE {
        let table = table(shape, routes);
        for (name, traffic) in [("hot", Traffic::Hot), ("any", Traffic::Uniform)] {
            let time = measure(&table, &requests(shape, traffic, routes));
            println!("figure: look-up {name} {routes} = {time:.1} ns");
        }
    }
}

fn table_of_all() {
    println!(
        "ns per look-up, median of {ROWS} rows of {REQUESTS} requests; ratio to {} routes",
        SIZES[0]
    );
    println!(
        "{:<24} {:<12} {:>9} {:>8} {:>7}",
        "routes", "requests", "count", "ns", "ratio"
    );
    for shape in [Shape::Hosts, Shape::HostsAndPaths, Shape::Paths] {
        let tables = SIZES.map(|routes| table(shape, routes));
        for traffic in [Traffic::Hot, Traffic::Uniform] {
            let mut base = None;
            for (routes, table) in SIZES.iter().zip(&tables) {
                let time = measure(table, &requests(shape, traffic, *routes));
                let ratio = time / *base.get_or_insert(time);
                println!(
                    "{:<24} {:<12} {routes:>9} {time:>8.1} {ratio:>7.2}",
                    shape.name(),
                    traffic.name()
                );
            }
        }
    }
}

fn table(shape: Shape, routes: usize) -> RouteTable {
    let mut hosts: BTreeMap<String, Vec<Arc<Route>>> = BTreeMap::new();
    for number in 0..routes {
        let (host, path) = shape.condition(number);
        let route = route(&host, &path, number);
        hosts.entry(host).or_default().push(route);
    }
    let mut table = RouteTable::default();
    for (host, routes) in hosts {
        let pattern = HostPattern::parse(&host).expect("host");
        table.set(pattern, Some(VirtualHost::new(routes, None, false).0));
    }
    table
}

fn route(host: &str, path: &str, number: usize) -> Arc<Route> {
    let object = NamespacedName::new("default", format!("web-{number}"));
    let upstream = format!("default/web-{number}:80");
    Arc::new(Route {
        host: HostPattern::parse(host).expect("host"),
        path: PathMatch::parse(PathKind::Prefix, path).expect("path"),
        target: Target::Upstream(UpstreamId::new(upstream.as_str())),
        tls_redirect: TlsRedirect::Inherit,
        labels: Arc::new(RouteLabels {
            ingress: Some(object.clone()),
            service: upstream,
        }),
        rank: RouteRank {
            created: None,
            object,
            position: 0,
        },
    })
}

/// Requests in one piece of memory, read from front to back as a connection's buffer would be. It has the same size for
/// every table: only what the look-up itself reads differs.
struct Requests {
    text: String,
    /// Where each ends: host, then path.
    ends: Vec<(usize, usize)>,
}

fn requests(shape: Shape, traffic: Traffic, routes: usize) -> Requests {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut requests = Requests {
        text: String::new(),
        ends: Vec::with_capacity(REQUESTS),
    };
    for _ in 0..REQUESTS {
        let (host, path) = shape.condition(traffic.pick(&mut random, routes));
        requests.text.push_str(&host);
        let host_end = requests.text.len();
        requests.text.push_str(&path);
        requests
            .text
            .push_str(if path == "/" { "index.html" } else { "/x" });
        requests.ends.push((host_end, requests.text.len()));
    }
    requests
}

/// Nanoseconds for one look-up.
fn measure(table: &RouteTable, requests: &Requests) -> f64 {
    let mut rows: Vec<f64> = (0..ROWS)
        .map(|_| {
            let before = Instant::now();
            let mut start = 0;
            let mut found = 0usize;
            for &(host_end, end) in &requests.ends {
                let (host, path) = (
                    &requests.text[start..host_end],
                    &requests.text[host_end..end],
                );
                found += usize::from(black_box(table.find(host, path)).route.is_some());
                start = end;
            }
            assert_eq!(found, REQUESTS, "every request has a route");
            before.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64
        })
        .collect();
    rows.sort_by(f64::total_cmp);
    rows[ROWS / 2]
}

/// A small generator of random numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
