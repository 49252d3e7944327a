//! Which instances are ready, as of now.

use crate::address::Address;
use crate::guide::Target;
use crate::refusal::Refusal;
use spawnery_cluster::State;
use spawnery_controller::{Controller, EventStart};
use spawnery_model::{InstanceId, Kind, Name, Phase, Port, SessionSettings};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

/// A session template.
#[derive(Debug, Default)]
pub(crate) struct Template {
    ports: Vec<Port>,
    pub(crate) settings: SessionSettings,
}

impl Template {
    /// The port that is meant by `name`; without, the one that its sessions are reached by.
    pub(crate) fn port(&self, name: Option<&Name>) -> Option<u16> {
        port_of(&self.ports, name.or(self.settings.port.as_ref()))
    }
}

/// What a name stands for.
pub(crate) enum Named {
    Service,
    Template(Arc<Template>),
    Nothing,
}

#[derive(Debug, Default)]
struct Known {
    services: BTreeMap<Name, Service>,
    templates: BTreeMap<Name, Arc<Template>>,
}

#[derive(Debug, Default)]
struct Service {
    ports: Vec<Port>,
    ready: Vec<(InstanceId, Vec<Port>)>,
}

/// What the gateway knows of the services. It goes on with it while the controller is away.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: RwLock<Arc<Known>>,
    turn: AtomicUsize,
}

impl Routes {
    /// Keeps the routes up to date until the controller stops.
    pub(crate) async fn follow(self: Arc<Routes>, controller: Controller) {
        let mut events = controller.events(EventStart::Now);
        loop {
            match controller.query(known_of).await {
                Ok(known) => {
                    *self.known.write().expect("no holder panics") = Arc::new(known);
                }
                Err(error) => tracing::debug!("the routes were not renewed: {error}"),
            }
            if events.next().await.is_none() {
                return;
            }
            // Many events, one look.
            while events.ready().is_some() {}
        }
    }

    /// What a name stands for.
    pub(crate) fn named(&self, name: &Name) -> Named {
        let known = self.known.read().expect("no holder panics");
        match known.templates.get(name) {
            Some(template) => Named::Template(template.clone()),
            None if known.services.contains_key(name) => Named::Service,
            None => Named::Nothing,
        }
    }

    /// The instance whose turn it is.
    pub(crate) fn choose(&self, address: &Address) -> Result<Target, Refusal> {
        let known = self.known.read().expect("no holder panics").clone();
        let services = &known.services;
        let name = &address.service;
        let service = services.get(name).ok_or_else(|| Refusal::ServiceUnknown(name.clone()))?;
        if service.ports.is_empty() {
            return Err(Refusal::NoPorts(name.clone()));
        }
        let has_port = |ports: &[Port]| port_of(ports, address.port.as_ref());
        if let (None, Some(port)) = (has_port(&service.ports), &address.port) {
            return Err(Refusal::PortUnknown { service: name.clone(), port: port.clone() });
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let ready = &service.ready;
        (0..ready.len())
            .map(|step| &ready[(turn + step) % ready.len()])
            .find_map(|(instance, ports)| {
                has_port(ports).map(|port| Target { instance: *instance, port })
            })
            .ok_or_else(|| Refusal::NotReady(name.clone()))
    }
}

fn port_of(ports: &[Port], name: Option<&Name>) -> Option<u16> {
    let found = match name {
        None => ports.first(),
        Some(name) => ports.iter().find(|port| port.name == *name),
    };
    found.map(|port| port.port)
}

fn known_of(state: &State) -> Known {
    let services = state.workloads().filter(|e| matches!(e.workload.kind, Kind::Service(_)));
    let services = services
        .map(|entry| {
            let instances = entry.slots.values().filter_map(|slot| slot.instance);
            let ready = instances
                .filter_map(|id| state.instance(id))
                .filter(|instance| instance.phase == Phase::Ready)
                .map(|found| (found.id, state.definition_of(found).process.ports.clone()))
                .collect();
            let ports = entry.workload.process.ports.clone();
            (entry.workload.name.clone(), Service { ports, ready })
        })
        .collect();
    let templates = state.workloads().filter_map(|entry| match &entry.workload.kind {
        Kind::Session(settings) => {
            let ports = entry.workload.process.ports.clone();
            let template = Template { ports, settings: settings.clone() };
            Some((entry.workload.name.clone(), Arc::new(template)))
        }
        _ => None,
    });
    Known { services, templates: templates.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn routes(ready: u128) -> Routes {
        let port = |label: &str, port| Port { name: name(label), port };
        let ports = vec![port("http", 80), port("admin", 81)];
        let ready =
            (0..ready).map(|bits| (InstanceId(Id::from_bits(bits)), ports.clone())).collect();
        let web = Service { ports, ready };
        let services = BTreeMap::from([(name("web"), web), (name("mute"), Service::default())]);
        let known = Known { services, ..Known::default() };
        Routes { known: RwLock::new(Arc::new(known)), turn: AtomicUsize::new(0) }
    }

    fn address(service: &str, port: Option<&str>) -> Address {
        Address { service: name(service), port: port.map(name) }
    }

    #[test]
    fn requests_take_turns() {
        let routes = routes(3);
        let turns = [(); 4].map(|()| routes.choose(&address("web", None)).unwrap());
        assert_eq!(turns.map(|target| target.instance.0.bits()), [0, 1, 2, 0]);
        assert_eq!(routes.choose(&address("web", Some("admin"))).unwrap().port, 81);
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let check = |ready, service, port, expected: Refusal| {
            assert_eq!(routes(ready).choose(&address(service, port)), Err(expected));
        };
        check(1, "wob", None, Refusal::ServiceUnknown(name("wob")));
        check(0, "web", None, Refusal::NotReady(name("web")));
        check(1, "mute", None, Refusal::NoPorts(name("mute")));
        let unknown = Refusal::PortUnknown { service: name("web"), port: name("x") };
        check(1, "web", Some("x"), unknown);
    }
}
