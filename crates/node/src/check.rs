//! When an instance counts as ready.

use spawnery_model::{Name, Port, Process, Readiness};

/// What has to hold before an instance is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// All of these ports are listened on.
    Ports(Vec<Port>),
    /// An HTTP GET of `path` on this port is answered by a status below 400.
    Http {
        /// The path, with its query.
        path: String,
        /// The port.
        port: Port,
    },
    /// A line of its main process's output has this text in it.
    Output {
        /// The text.
        text: String,
    },
}

impl Check {
    /// What has to hold for a process; nothing, if it is ready as soon as it runs.
    pub(crate) fn of(process: &Process) -> Option<Check> {
        let named = |name: &Name| process.ports.iter().find(|port| port.name == *name).cloned();
        let all = || Check::Ports(process.ports.clone());
        // A manifest names only ports that it has; an order with others is taken as one without.
        let check = match &process.ready {
            None => all(),
            Some(Readiness::Port { port }) => {
                named(port).map_or_else(all, |port| Check::Ports(vec![port]))
            }
            Some(Readiness::Http { path, port }) => {
                let port = port.as_ref().and_then(named).or_else(|| process.ports.first().cloned());
                port.map_or_else(all, |port| Check::Http { path: path.clone(), port })
            }
            Some(Readiness::Output { text }) => Check::Output { text: text.clone() },
        };
        (check != Check::Ports(Vec::new())).then_some(check)
    }
}
