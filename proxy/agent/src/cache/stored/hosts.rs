//! The form of a virtual host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_model as model;
use tidegate_model::{
    HostPattern, NamespacedName, PathKind, PathMatch, RouteLabels, RouteRank, Target, TlsRedirect,
    UnixTime, UpstreamId, VirtualHost,
};

use super::{Damaged, Name, decode, encode};

#[derive(Serialize, Deserialize)]
struct Host<'a> {
    is_tls: bool,
    /// Routes of a host mostly have the same labels.
    #[serde(borrow)]
    labels: Vec<Labels<'a>>,
    routes: Vec<Route<'a>>,
    default: Option<Route<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Labels<'a> {
    #[serde(borrow)]
    ingress: Option<Name<'a>>,
    service: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Route<'a> {
    is_exact: bool,
    path: &'a str,
    upstream: Option<&'a str>,
    redirect: Redirect,
    /// Place in the host's labels.
    labels: u32,
    created: Option<i64>,
    #[serde(borrow)]
    object: Name<'a>,
    position: u64,
}

#[derive(Serialize, Deserialize)]
enum Redirect {
    Inherit,
    Always,
    Never,
}

pub(in crate::cache) fn encode_host(host: &VirtualHost) -> Vec<u8> {
    let mut labels: Vec<&Arc<RouteLabels>> = Vec::new();
    let routes = host.routes();
    let default = host.default_route();
    let places: Vec<u32> = routes
        .iter()
        .copied()
        .chain(default)
        .map(|route| place(&mut labels, &route.labels))
        .collect();
    let mut stored: Vec<Route<'_>> = routes
        .into_iter()
        .chain(default)
        .zip(places)
        .map(|(route, labels)| Route::of(route, labels))
        .collect();
    let default = default.and_then(|_| stored.pop());
    encode(&Host {
        is_tls: host.tls(),
        labels: labels
            .into_iter()
            .map(|labels| Labels::of(labels))
            .collect(),
        routes: stored,
        default,
    })
}

/// The place of labels in a list, put at its end if they are not in it.
fn place<'a>(list: &mut Vec<&'a Arc<RouteLabels>>, labels: &'a Arc<RouteLabels>) -> u32 {
    // Routes of an Ingress to one service follow each other.
    let known = list
        .iter()
        .rposition(|known| Arc::ptr_eq(known, labels) || *known == labels);
    let place = known.unwrap_or_else(|| {
        list.push(labels);
        list.len() - 1
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<'a> Labels<'a> {
    fn of(labels: &'a RouteLabels) -> Self {
        Self {
            ingress: labels.ingress.as_ref().map(Name::from),
            service: &labels.service,
        }
    }
}

impl<'a> Route<'a> {
    fn of(route: &'a model::Route, labels: u32) -> Self {
        Self {
            is_exact: route.path.kind() == PathKind::Exact,
            path: route.path.as_str(),
            upstream: match &route.target {
                Target::Upstream(id) => Some(id.as_str()),
                Target::Unavailable => None,
            },
            redirect: match route.tls_redirect {
                TlsRedirect::Inherit => Redirect::Inherit,
                TlsRedirect::Always => Redirect::Always,
                TlsRedirect::Never => Redirect::Never,
            },
            labels,
            created: route.rank.created.map(|created| created.0),
            object: Name::from(&route.rank.object),
            position: route.rank.position as u64,
        }
    }

    fn decode(
        self,
        host: &HostPattern,
        labels: &[Arc<RouteLabels>],
        upstream: &impl Fn(&str) -> UpstreamId,
    ) -> Result<Arc<model::Route>, Damaged> {
        let kind = match self.is_exact {
            true => PathKind::Exact,
            false => PathKind::Prefix,
        };
        let labels = labels.get(self.labels as usize).ok_or(Damaged)?;
        Ok(Arc::new(model::Route {
            host: host.clone(),
            path: PathMatch::parse(kind, self.path).map_err(|_| Damaged)?,
            target: match self.upstream {
                Some(id) => Target::Upstream(upstream(id)),
                None => Target::Unavailable,
            },
            tls_redirect: match self.redirect {
                Redirect::Inherit => TlsRedirect::Inherit,
                Redirect::Always => TlsRedirect::Always,
                Redirect::Never => TlsRedirect::Never,
            },
            labels: labels.clone(),
            rank: RouteRank {
                created: self.created.map(UnixTime),
                object: self.object.into(),
                position: usize::try_from(self.position).map_err(|_| Damaged)?,
            },
        }))
    }
}

/// A host's routes; `upstream` names upstreams, so that names can be shared.
pub(in crate::cache) fn decode_host(
    pattern: &HostPattern,
    bytes: &[u8],
    upstream: impl Fn(&str) -> UpstreamId,
) -> Result<VirtualHost, Damaged> {
    let stored: Host<'_> = decode(bytes)?;
    let labels: Vec<_> = stored
        .labels
        .into_iter()
        .map(|labels| {
            Arc::new(RouteLabels {
                ingress: labels.ingress.map(NamespacedName::from),
                service: labels.service.to_owned(),
            })
        })
        .collect();
    let decoded = |route: Route<'_>| route.decode(pattern, &labels, &upstream);
    let routes: Vec<_> = stored
        .routes
        .into_iter()
        .map(decoded)
        .collect::<Result<_, _>>()?;
    let default = stored.default.map(decoded).transpose()?;
    let (host, shadowed) = VirtualHost::new(routes, default, stored.is_tls);
    match shadowed.is_empty() {
        true => Ok(host),
        false => Err(Damaged),
    }
}
