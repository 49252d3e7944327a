//! The launcher as the `spawnery` binary runs it, for the tests of this crate, and an agent that a
//! test can kill without killing itself.

use spawnery_agent::connect::{Connecting, Connection};
use spawnery_agent::{
    Agent, BuildSettings, CapacityGiven, Config as AgentConfig, Connect, Runtimes,
};
use spawnery_model::{Allowances, Bytes, CpuMillis, Name, limits};
use spawnery_sandbox::launcher::{self, Config};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let data = after("--data").ok_or("--data is missing")?;
    if let Some(socket) = after("--socket") {
        let token = after("--token").ok_or("--token is missing")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(run_agent(data.into(), socket.into(), token.to_owned()));
    }
    let mut config = Config::new(data);
    config.spares = after("--spares").ok_or("--spares is missing")?.parse()?;
    Ok(launcher::serve(config)?)
}

/// Reaches a controller by its socket.
struct Socket(PathBuf);

impl Connect for Socket {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let stream = UnixStream::connect(&self.0).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

async fn run_agent(
    data_dir: PathBuf,
    socket: PathBuf,
    token: String,
) -> Result<(), Box<dyn Error>> {
    let config = AgentConfig {
        data_dir,
        name: Name::new("node-1")?,
        labels: BTreeMap::new(),
        capacity: CapacityGiven { memory: Some(Bytes::mib(4096)), cpu: Some(CpuMillis(2000)) },
        launcher_exe: std::env::current_exe()?,
        version: "0.0.0".to_owned(),
        allowances: Allowances::default(),
        build: BuildSettings::default(),
        runtimes: Runtimes::default(),
        environments_bytes_max: limits::ENVIRONMENTS_BYTES_DEFAULT.0,
    };
    let mut agent = Agent::start(config, Arc::new(Socket(socket)), Some(token)).await?;
    Err(agent.ended().await.into())
}
