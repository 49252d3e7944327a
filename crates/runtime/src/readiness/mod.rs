//! Whether an instance is ready, found out from outside.

mod http;
mod output;

use crate::runtime::{DialError, OperationError, Runtime};
use spawnery_model::{InstanceId, Port};
use spawnery_node::Check;
use std::time::Duration;

/// Time before the second try; doubled for each further one. A server that is quick to start is
/// ready after some milliseconds, and whoever asked for it waits.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// The longest that it grows to: so much later may a slow one be seen to be ready.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// The instance is over, or was never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the instance is over")]
pub struct Gone;

/// Waits until `check` holds for an instance. `unready` is told why it does not hold yet, each time
/// that the reason is another one.
pub async fn until_ready(
    runtime: &dyn Runtime,
    instance: InstanceId,
    check: &Check,
    mut unready: impl FnMut(&str) + Send,
) -> Result<(), Gone> {
    if let Check::Output { text } = check {
        unready(&format!("no line of its output has `{text}` in it"));
    }
    let mut delay = RETRY_DELAY;
    let mut last = String::new();
    loop {
        let reason = match look(runtime, instance, check).await {
            Look::Ready => return Ok(()),
            Look::Gone => return Err(Gone),
            Look::Not(reason) => reason,
        };
        if reason != last {
            unready(&reason);
            last = reason;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// What one look tells.
enum Look {
    Ready,
    Gone,
    Not(String),
}

impl From<OperationError> for Look {
    fn from(error: OperationError) -> Look {
        match error {
            OperationError::Unknown | OperationError::NotRunning => Look::Gone,
            error => Look::Not(error.to_string()),
        }
    }
}

async fn look(runtime: &dyn Runtime, instance: InstanceId, check: &Check) -> Look {
    match check {
        Check::Ports(ports) => look_at_ports(runtime, instance, ports).await,
        Check::Http { path, port } => look_by_http(runtime, instance, path, port).await,
        Check::Output { text } => output::look(runtime, instance, text).await,
    }
}

async fn look_at_ports(runtime: &dyn Runtime, instance: InstanceId, ports: &[Port]) -> Look {
    let numbers = ports.iter().map(|port| port.port).collect();
    let listening = match runtime.listening(instance, numbers).await {
        Ok(listening) => listening,
        Err(error) => return error.into(),
    };
    match ports.iter().zip(listening).find(|(_, listening)| !listening) {
        None => Look::Ready,
        Some((port, _)) => Look::Not(format!("nothing listens on port {}", describe(port))),
    }
}

async fn look_by_http(
    runtime: &dyn Runtime,
    instance: InstanceId,
    path: &str,
    port: &Port,
) -> Look {
    let on = || format!("port {}", describe(port));
    let stream = match runtime.dial(instance, port.port).await {
        Ok(stream) => stream,
        Err(DialError::Operation(error)) => return error.into(),
        Err(error) => return Look::Not(format!("{}: {error}", on())),
    };
    match http::get(stream, path, port.port).await {
        Ok(status) if status < 400 => Look::Ready,
        Ok(status) => Look::Not(format!("GET {path} is answered by status {status}")),
        Err(error) => Look::Not(format!("GET {path} on {}: {error}", on())),
    }
}

fn describe(port: &Port) -> String {
    format!("{} ({})", port.port, port.name)
}
