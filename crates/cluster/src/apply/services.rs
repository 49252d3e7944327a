//! What follows when a replica of a service ends.

use super::Applier;
use crate::state::{Slot, SlotState};
use spawnery_model::{
    DurationMs, EndReason, Instance, InstanceId, Name, Restart, RestartPolicy, Timestamp,
};

impl Applier<'_> {
    pub(super) fn replica_ended(&mut self, name: &Name, slot: Slot, id: InstanceId) {
        let (at, instance) = (self.at, &self.state.instances[&id]);
        // The workload may be gone, or be another one of the same name.
        let Some(entry) = self.state.workloads.get(name) else {
            return;
        };
        let Some(state) = entry.slots.get(&slot).filter(|s| s.instance == Some(id)) else {
            return;
        };
        let next = slot_after(state, instance, &entry.workload.restart, at);
        let gone = matches!(slot, Slot::Node(node) if !self.state.nodes.contains_key(&node));
        let entry = self.state.workloads.get_mut(name);
        let slots = &mut entry.expect("it was just looked at").slots;
        match gone {
            true => slots.remove(&slot),
            false => slots.insert(slot, next),
        };
        self.reconcile(name);
    }
}

/// The state of a replica whose instance has ended.
fn slot_after(state: &SlotState, ended: &Instance, restart: &Restart, at: Timestamp) -> SlotState {
    let reason = &ended.end.as_ref().expect("it has ended").reason;
    let by_itself = !matches!(
        reason,
        EndReason::Stopped { .. } | EndReason::NodeLost | EndReason::LostByNode { .. }
    );
    if !by_itself {
        return SlotState { instance: None, not_before: at, ..state.clone() };
    }
    if !restarts(restart.policy, reason) {
        return SlotState { instance: None, finished: true, ..state.clone() };
    }
    let ran = ended.started_at.map_or(DurationMs(0), |started_at| at.since(started_at));
    let failures = if ran >= restart.reset_after { 1 } else { state.failures.saturating_add(1) };
    let not_before = at.plus(delay(restart, failures, ended.id));
    SlotState { instance: None, failures, not_before, finished: false }
}

/// Whether an instance that ended by itself is followed by another.
pub(super) fn restarts(policy: RestartPolicy, reason: &EndReason) -> bool {
    match policy {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => reason.is_failure(),
        RestartPolicy::Always => true,
    }
}

/// How long to wait after the `failures`th end in a row: doubled each time up to the longest
/// delay, and up to a quarter more, by the id, so that replicas that failed together do not all
/// come back together.
pub(super) fn delay(restart: &Restart, failures: u32, ended: InstanceId) -> DurationMs {
    let doubled = restart.delay.0.saturating_mul(1 << failures.saturating_sub(1).min(32));
    let base = doubled.min(restart.delay_max.0);
    let spread = (ended.0.bits() % 256) as u64;
    DurationMs(base + base / 4 * spread / 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;

    #[test]
    fn the_delay_doubles_up_to_its_limit() {
        let restart = Restart {
            policy: RestartPolicy::Always,
            delay: DurationMs(500),
            delay_max: DurationMs(10_000),
            reset_after: DurationMs(60_000),
            restarts_max: None,
        };
        let check = |failures, expected| {
            let id = InstanceId(Id::from_bits(256));
            assert_eq!(delay(&restart, failures, id), DurationMs(expected), "{failures}");
        };
        check(1, 500);
        check(2, 1000);
        check(5, 8000);
        check(6, 10_000);
        check(u32::MAX, 10_000);
    }

    #[test]
    fn replicas_that_fail_together_come_back_apart() {
        let restart = Restart {
            policy: RestartPolicy::Always,
            delay: DurationMs(1000),
            delay_max: DurationMs(10_000),
            reset_after: DurationMs(60_000),
            restarts_max: None,
        };
        let delays: Vec<_> = [0u128, 128, 255]
            .map(|bits| delay(&restart, 1, InstanceId(Id::from_bits(bits))).0)
            .to_vec();
        assert_eq!(delays, [1000, 1125, 1249]);
    }
}
