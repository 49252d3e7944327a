//! A container of the `oci` runtime with a private network, between test hosts.

use crate::support::{DEADLINE, is_root, skip};
use crate::trial::Trial;
use crate::world::World;
use spawnery_model::{Egress, EgressRule, Network, RuntimeKind};
use spawnery_runtime::{Prepared, Runtimes};

/// Writes what it hears from each address.
const ASK: &str = "
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(':', 1)
    try:
        with socket.create_connection((host, int(port)), 5) as it:
            print(address, it.recv(20).decode())
    except OSError as error:
        print(address, 'refused')
";

async fn check(egress: Egress, expected: &[(&str, &str)]) {
    let world = World::new();
    let mut trial = Trial::new(&world, RuntimeKind::Oci, Runtimes::default()).await;
    let mut run = vec!["/usr/bin/python3", "-c", ASK];
    run.extend(expected.iter().map(|(address, _)| *address));
    let mut order = trial.order(&run);
    order.process.network = Network::Private;
    order.surroundings.get_or_insert_default().egress = egress;
    let instance = trial.start(&order, Prepared::default()).await.expect("started");
    let exit = trial.end_of(instance, DEADLINE).await.expect("it ends");
    let (output, _) = trial.output(instance);
    assert_eq!(exit.code, Some(0), "{output}");
    let lines: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
    let expected: Vec<String> =
        expected.iter().map(|(address, answer)| format!("{address} {answer}")).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_container_reaches_what_it_may_and_nothing_else() {
    if !is_root() {
        return skip("only root makes test hosts");
    }
    let public = ("198.51.100.1:80", "canary of the networ");
    let others = ["10.9.9.1:80", "169.254.169.254:80", "198.51.100.254:8080", "127.0.0.1:8080"];
    let expected: Vec<_> =
        [public].into_iter().chain(others.map(|address| (address, "refused"))).collect();
    check(Egress::default(), &expected).await;
}

#[tokio::test]
async fn rules_hold_for_a_container_too() {
    if !is_root() {
        return skip("only root makes test hosts");
    }
    let rule = |allow, block: &str, ports| EgressRule { allow, block: block.to_owned(), ports };
    let rules =
        vec![rule(false, "198.51.100.0/24", None), rule(true, "10.9.9.1/32", Some((80, 80)))];
    let expected = [("198.51.100.1:80", "refused"), ("10.9.9.1:80", "canary of the networ")];
    check(Egress { rules, ..Egress::default() }, &expected).await;
}
