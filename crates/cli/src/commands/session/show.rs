//! How sessions are shown.

use crate::commands::instances;
use crate::table::{Cell, Table};
use crate::words::{age, phase_style, until};
use spawnery_client::api::InstanceView;
use spawnery_model::{Bytes, CpuMillis, DurationMs};

/// Sessions, one on each line.
pub(super) fn table(sessions: &[InstanceView]) -> Table {
    let mut table = Table::new(&["SESSION", "TEMPLATE", "KEY", "OWNER", "PHASE", "AGE", "NOTE"]);
    for session in sessions {
        let key = session.session.as_ref().and_then(|it| it.key.as_ref());
        table.row([
            session.id.short().into(),
            session.workload.as_str().into(),
            key.map(ToString::to_string).unwrap_or_default().into(),
            session.owner.clone().unwrap_or_default().into(),
            Cell::styled(session.phase.word(), phase_style(session.phase)),
            age(session.created_at_ms).into(),
            note(session).into(),
        ]);
    }
    table
}

/// Why a session is where it is, or when it ends.
fn note(session: &InstanceView) -> String {
    let told = instances::note(session);
    let Some(own) = session.session.as_ref().filter(|_| told.is_empty()) else {
        return told;
    };
    let ends = [
        (own.idle_ends_at_ms, "if nobody uses it"),
        (own.drain_ends_at_ms, "its node is drained"),
        (own.ends_at_ms, ""),
    ];
    let next = ends.into_iter().filter_map(|(at, why)| Some((at?, why))).min();
    match next {
        Some((at, "")) => format!("ends in {}", until(at)),
        Some((at, why)) => format!("ends in {}: {why}", until(at)),
        None => String::new(),
    }
}

/// All about one session.
pub(super) fn facts(session: &InstanceView) -> Table {
    let mut table = Table::new(&["", ""]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            table.row([name.into(), value.into()]);
        }
    };
    fact("session", Some(session.id.to_string()));
    fact("template", Some(session.workload.to_string()));
    fact("owner", session.owner.clone());
    fact("phase", Some(session.phase.word().to_owned()));
    fact("note", Some(note(session)));
    fact("urls", Some(session.urls.join(" ")));
    let Some(own) = &session.session else {
        return table;
    };
    let limits = &own.limits;
    let amount = |bytes: Option<u64>| bytes.map(|bytes| Bytes(bytes).to_string());
    let time = |ms: Option<u64>| ms.map(|ms| DurationMs(ms).to_string());
    let tags = own.tags.iter().map(|(tag, value)| format!("{tag}={value}"));
    fact("key", own.key.as_ref().map(ToString::to_string));
    fact("epoch", own.epoch.map(|epoch| epoch.to_string()));
    fact("tags", Some(tags.collect::<Vec<_>>().join(" ")));
    fact("shared with", Some(own.shared_with.iter().cloned().collect::<Vec<_>>().join(" ")));
    fact("memory", amount(limits.memory_bytes));
    fact("cpu", limits.cpu_millis.map(|cpu| CpuMillis(cpu).to_string()));
    fact("disk", amount(limits.disk_bytes));
    fact("processes", limits.pids.map(|pids| pids.to_string()));
    fact("clients", limits.clients.map(|clients| clients.to_string()));
    fact("transfer", amount(limits.transfer_bytes));
    fact("duration", time(limits.duration_ms));
    fact("idle timeout", time(limits.idle_timeout_ms));
    fact("place in queue", own.queue_place.map(|place| (place + 1).to_string()));
    fact("waits until", own.queue_until_ms.map(|at| format!("in {}", until(at))));
    table
}
