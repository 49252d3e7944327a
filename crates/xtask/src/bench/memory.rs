//! How much memory things take.

use std::path::Path;

use spawnery_cluster::Command;

use super::cluster::{Cluster, workloads};
use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use super::server::{self, Process, Server};
use crate::Failure;

/// Services of the cluster that is measured, and replicas of each.
const SERVICES: usize = 500;
const REPLICAS: usize = 100;

/// What the controller's core holds for each live instance: a cluster of 50,000 that are ready.
pub fn controller(_: &Options) -> Result<Vec<Row>, Failure> {
    let mut cluster = Cluster::new(None)?;
    for number in 0..10 {
        cluster.join(number)?;
    }
    let before = resident("self")?;
    let mut manifest = "services:\n".to_owned();
    for number in 0..SERVICES {
        manifest.push_str(&format!(
            "  service-{number}: {{run: [server, --port, '80'], memory: 1M, cpu: 0.001, \
             replicas: {REPLICAS}, env: {{GREETING: hello}}, ports: [80]}}\n"
        ));
    }
    let workloads = workloads(&manifest)?;
    cluster.command(Command::Apply { workloads, by: "bench".to_owned() })?;
    let count = SERVICES * REPLICAS;
    let ready = cluster.state().instances().filter(|it| it.phase.word() == "ready").count();
    if ready != count {
        return Err(format!("{ready} of {count} instances became ready"));
    }
    let bytes = resident("self")?.saturating_sub(before) / count as u64;
    let what = "controller's memory for each of 50,000 live instances";
    Ok(vec![Row::new(what, Figure::Memory { bytes, count }, Goal::BytesAtMost(2048.0))])
}

/// The memory of a process that no other process shares, and its part of what is shared, in
/// bytes (`Pss` in `proc_pid_smaps(5)`).
///
/// # Errors
///
/// When there is no such process, or it is another user's.
pub fn resident(process: &str) -> Result<u64, Failure> {
    let path = Path::new("/proc").join(process).join("smaps_rollup");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB")).and_then(|it| it.parse().ok());
    kib.map(|kib: u64| kib * 1024).ok_or_else(|| format!("{} has no Pss", path.display()))
}

/// What an agent and its launcher hold when nothing runs: in processes of their own, as on a
/// machine that joined a server elsewhere.
pub fn node(options: &Options) -> Result<Vec<Row>, Failure> {
    let binary = server::binary(options)?;
    let mut server = Server::start(&binary, &["--no-agent", "--link-listen", "127.0.0.1:0"])?;
    let link = server.link.clone().ok_or("the server takes in no agents")?;
    let invitation = server.process.ask(&["nodes", "invite"])?;
    let token = invitation["token"].as_str().ok_or("an invitation has no token")?;
    let agent = ["agent", "--join", &link, "--token", token, "--name", "bench"];
    let mut agent = Process::start(&binary, &agent)?;
    server.process.wait_for("node that is up", server::node_is_up)?;
    let launcher = agent.wait_for("launcher", |agent| agent.launcher().ok())?;
    // Once something has run, all that comes with the first time is there.
    server.process.run(&["run", "--", "true"])?;
    let agent_bytes = resident(&agent.id().to_string())?;
    let launcher_bytes = resident(&launcher.to_string())?;
    let bytes = agent_bytes + launcher_bytes;
    let goal = Goal::BytesAtMost(20.0 * 1048576.0);
    let row = Row::new(
        "memory of an idle node (agent + launcher)",
        Figure::Memory { bytes, count: 2 },
        goal,
    );
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    let parts =
        format!("agent {:.1} MiB, launcher {:.1} MiB", mib(agent_bytes), mib(launcher_bytes));
    Ok(vec![row.note(parts)])
}
