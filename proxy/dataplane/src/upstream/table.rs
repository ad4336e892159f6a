//! Every upstream that a worker has used, kept across snapshots, and the choice among its endpoints.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_model::{Hostname, Protocol, Snapshot, Upstream, UpstreamId};

use super::EndpointState;
use crate::clock::Clock;

/// The upstreams of one worker.
pub(crate) struct UpstreamTable {
    clock: Rc<Clock>,
    states: RefCell<HashMap<UpstreamId, Rc<UpstreamState>>>,
    random: Cell<u64>,
}

/// One upstream, as seen by one worker.
pub(crate) struct UpstreamState {
    /// The version in force.
    upstream: RefCell<Arc<Upstream>>,
    endpoints: RefCell<Vec<Rc<EndpointState>>>,
}

impl UpstreamTable {
    /// An empty table; `seed` sets the course of its choices.
    pub(crate) fn new(clock: Rc<Clock>, seed: u64) -> Self {
        Self {
            clock,
            states: RefCell::default(),
            random: Cell::new(seed | 1),
        }
    }

    /// The state of an upstream, made at its first use. `None` if the snapshot does not have it.
    pub(crate) fn find(&self, id: &UpstreamId, snapshot: &Snapshot) -> Option<Rc<UpstreamState>> {
        if let Some(state) = self.states.borrow().get(id) {
            return Some(state.clone());
        }
        let upstream = snapshot.upstreams.get(id)?;
        let state = Rc::new(UpstreamState::new(upstream.clone(), &self.clock));
        self.states.borrow_mut().insert(id.clone(), state.clone());
        Some(state)
    }

    /// Follows a new snapshot: endpoints that stay keep their connections and load, those that left drain.
    pub(crate) fn follow(&self, snapshot: &Snapshot) {
        self.states
            .borrow_mut()
            .retain(|id, state| match snapshot.upstreams.get(id) {
                Some(upstream) if state.is_same_service(upstream) => {
                    state.follow(upstream, &self.clock);
                    true
                }
                _ => {
                    state
                        .endpoints
                        .borrow()
                        .iter()
                        .for_each(|endpoint| endpoint.remove());
                    false
                }
            });
    }

    /// Closes what lay idle for longer than `limit` ticks.
    pub(crate) fn sweep(&self, limit: u64) {
        let states: Vec<_> = self.states.borrow().values().cloned().collect();
        for state in states {
            state
                .endpoints
                .borrow()
                .iter()
                .for_each(|endpoint| endpoint.sweep(limit));
        }
    }

    /// Connections kept for later.
    pub(crate) fn idle_connections(&self) -> usize {
        let states = self.states.borrow();
        let count = |state: &Rc<UpstreamState>| -> usize {
            state
                .endpoints
                .borrow()
                .iter()
                .map(|endpoint| endpoint.idle_connections())
                .sum()
        };
        states.values().map(count).sum()
    }

    /// An endpoint: of two drawn at random the one with fewer requests in flight. Endpoints in `tried`, and those that
    /// refused a connection lately, are drawn only if there are no others. `None` when all were tried.
    pub(crate) fn pick(
        &self,
        state: &UpstreamState,
        tried: &[Rc<EndpointState>],
    ) -> Option<Rc<EndpointState>> {
        let endpoints = state.endpoints.borrow();
        if let ([only], true) = (endpoints.as_slice(), tried.is_empty()) {
            return Some(only.clone());
        }
        // The usual case allocates nothing.
        if tried.is_empty()
            && let Some(better) = self.better_of_two(&endpoints)
            && !better.is_suspect()
        {
            return Some(better.clone());
        }
        let untried =
            |endpoint: &&Rc<EndpointState>| !tried.iter().any(|tried| Rc::ptr_eq(tried, endpoint));
        let left: Vec<_> = endpoints.iter().filter(untried).cloned().collect();
        let sound: Vec<_> = left
            .iter()
            .filter(|endpoint| !endpoint.is_suspect())
            .cloned()
            .collect();
        self.better_of_two(&sound)
            .or_else(|| self.better_of_two(&left))
            .cloned()
    }

    /// Of two candidates drawn at random the one with fewer requests in flight.
    fn better_of_two<'a>(
        &self,
        candidates: &'a [Rc<EndpointState>],
    ) -> Option<&'a Rc<EndpointState>> {
        let first = candidates.get(self.draw(candidates.len()))?;
        let second = candidates.get(self.draw(candidates.len()))?;
        Some(if second.load() < first.load() {
            second
        } else {
            first
        })
    }

    /// A number below `limit` (xorshift64*, Marsaglia; spread, not secrecy, is what counts here).
    fn draw(&self, limit: usize) -> usize {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        let high = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from((high * limit as u64) >> 32).unwrap_or(0)
    }
}

impl UpstreamState {
    fn new(upstream: Arc<Upstream>, clock: &Rc<Clock>) -> Self {
        let endpoints = upstream
            .endpoints
            .iter()
            .map(|found| EndpointState::new(found.address, clock.clone()));
        Self {
            endpoints: RefCell::new(endpoints.collect()),
            upstream: RefCell::new(upstream),
        }
    }

    fn is_same_service(&self, other: &Upstream) -> bool {
        let known = self.upstream.borrow();
        known.protocol == other.protocol && known.server_name == other.server_name
    }

    fn follow(&self, upstream: &Arc<Upstream>, clock: &Rc<Clock>) {
        if Arc::ptr_eq(&self.upstream.borrow(), upstream) {
            return;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let mut known: HashMap<_, _> = endpoints
            .drain(..)
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        endpoints.extend(upstream.endpoints.iter().map(|found| {
            known
                .remove(&found.address)
                .unwrap_or_else(|| EndpointState::new(found.address, clock.clone()))
        }));
        known.into_values().for_each(|gone| gone.remove());
        *self.upstream.borrow_mut() = upstream.clone();
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.upstream.borrow().protocol
    }

    pub(crate) fn server_name(&self) -> Option<Hostname> {
        self.upstream.borrow().server_name.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tidegate_model::Endpoint;

    use super::super::InFlight;
    use super::*;

    fn upstream(ports: &[u16]) -> Arc<Upstream> {
        let endpoint = |port: &u16| Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], *port)),
        };
        Arc::new(Upstream {
            id: UpstreamId::new("a/b:80"),
            protocol: Protocol::Http,
            server_name: None,
            endpoints: ports.iter().map(endpoint).collect(),
        })
    }

    fn snapshot(upstream: &Arc<Upstream>) -> Snapshot {
        let upstreams = [(upstream.id.clone(), upstream.clone())]
            .into_iter()
            .collect();
        Snapshot {
            upstreams: Arc::new(upstreams),
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_less_loaded_endpoint_is_preferred() {
        let table = UpstreamTable::new(Clock::new(), 7);
        let two = upstream(&[1, 2]);
        let state = table.find(&two.id, &snapshot(&two)).unwrap();
        let busy = state.endpoints.borrow()[0].clone();
        let _load: Vec<_> = (0..10).map(|_| InFlight::new(busy.clone())).collect();
        let picks = (0..1000)
            .filter(|_| table.pick(&state, &[]).unwrap().address == busy.address)
            .count();
        // Drawn twice in a quarter of the cases, and only then taken.
        assert!((150..350).contains(&picks), "{picks}");
    }

    #[test]
    fn a_tried_endpoint_is_not_picked_again() {
        let table = UpstreamTable::new(Clock::new(), 7);
        let two = upstream(&[1, 2]);
        let state = table.find(&two.id, &snapshot(&two)).unwrap();
        let first = table.pick(&state, &[]).unwrap();
        let second = table.pick(&state, std::slice::from_ref(&first)).unwrap();
        assert_ne!(first.address, second.address);
        assert!(table.pick(&state, &[first, second]).is_none());
    }

    #[test]
    fn a_suspect_endpoint_waits_while_there_are_others() {
        let table = UpstreamTable::new(Clock::new(), 7);
        let two = upstream(&[1, 2]);
        let state = table.find(&two.id, &snapshot(&two)).unwrap();
        state.endpoints.borrow()[0].suspect();
        assert!((0..100).all(|_| table.pick(&state, &[]).unwrap().address.port() == 2));
        state.endpoints.borrow()[1].suspect();
        assert!(table.pick(&state, &[]).is_some());
    }

    #[test]
    fn endpoints_that_stay_keep_their_state_over_a_snapshot() {
        let table = UpstreamTable::new(Clock::new(), 7);
        let (before, after) = (upstream(&[1, 2]), upstream(&[2, 3]));
        let state = table.find(&before.id, &snapshot(&before)).unwrap();
        let kept = state.endpoints.borrow()[1].clone();
        table.follow(&snapshot(&after));
        let state = table.find(&after.id, &snapshot(&after)).unwrap();
        assert!(
            state
                .endpoints
                .borrow()
                .iter()
                .any(|endpoint| Rc::ptr_eq(endpoint, &kept))
        );
        table.follow(&Snapshot::default());
        assert!(table.find(&after.id, &Snapshot::default()).is_none());
    }

    #[test]
    fn an_upstream_without_endpoints_has_none_to_pick() {
        let table = UpstreamTable::new(Clock::new(), 7);
        let none = upstream(&[]);
        let state = table.find(&none.id, &snapshot(&none)).unwrap();
        assert!(table.pick(&state, &[]).is_none());
    }
}
