//! Figures for Prometheus.

use crate::app::App;
use crate::failure::{Answer, Failure, code};
use crate::status;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use spawnery_controller::Statistics;
use spawnery_wire::api::{NodeCounts, WorkloadCounts};
use std::time::Duration;

/// Requests, counted as they are answered.
pub(crate) struct RequestMetrics {
    answered: Family<[(&'static str, &'static str); 1], Counter>,
    /// By the first digit of the status, from 1.
    by_class: [Counter; 5],
    seconds: Histogram,
    /// Requests whose token did not allow them.
    forbidden: Counter,
}

/// The classes of status codes (RFC 9110, section 15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Default for RequestMetrics {
    fn default() -> RequestMetrics {
        let answered: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        RequestMetrics {
            by_class: CLASSES.map(|class| answered.get_or_create_owned(&[("status", class)])),
            answered,
            // From a quarter of a millisecond to four seconds.
            seconds: Histogram::new(exponential_buckets(0.000_25, 4.0, 8)),
            forbidden: Counter::default(),
        }
    }
}

impl RequestMetrics {
    /// Counts a request whose token did not allow it.
    pub(crate) fn count_forbidden(&self) {
        self.forbidden.inc();
    }

    /// Counts a request. Of a stream, the time is that until its answer begins.
    pub(crate) fn count(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.by_class[class - 1].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Figures for Prometheus, in its text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")),
)]
pub(crate) async fn get_metrics(State(app): State<App>) -> Answer<impl IntoResponse> {
    // While the journal is full nothing can be counted, but that it is full can be told.
    let counted = app.query(|state| {
        let (nodes, workloads) = (status::nodes(state), status::workloads(state));
        let sessions = (state.sessions_live(), state.sessions_queued() as u64);
        (nodes, workloads, state.instances_live(), sessions)
    });
    let figures = Figures {
        statistics: app.controller.statistics(),
        counted: counted.await.ok(),
        streams_open: app.streams_open() as u64,
    };
    let mut registry = Registry::with_prefix("spawnery");
    registry.register_collector(Box::new(figures));
    let requests = &app.metrics;
    let help = "HTTP requests that were answered, by the class of their status";
    registry.register("http_requests", help, requests.answered.clone());
    let help = "Time from a request's head to its answer's head";
    registry.register("http_request_seconds", help, requests.seconds.clone());
    let refused: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
    for (reason, count) in app.verifier.refusals() {
        refused.get_or_create_owned(&[("reason", reason)]).inc_by(count);
    }
    let help = "Tokens that were refused, by the reason";
    registry.register("tokens_refused", help, refused);
    let help = "Requests that their tokens did not allow";
    registry.register("requests_forbidden", help, requests.forbidden.clone());
    app.sessions.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|_| Failure::new(code::INTERNAL, "the figures cannot be written"))?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], text))
}

/// What the controller counted.
#[derive(Debug)]
struct Figures {
    statistics: Statistics,
    counted: Option<(NodeCounts, WorkloadCounts, u64, (u64, u64))>,
    streams_open: u64,
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let known = &self.statistics;
        for (name, help, value) in [
            ("commands", "Commands that came in", known.commands_total),
            ("reports", "Reports of agents that came in", known.reports_total),
            ("reports_refused", "Reports older than what is known", known.reports_refused_total),
            ("journal_records", "Records that became durable", known.records_total),
            ("journal_batches", "Synced writes of the journal", known.batches_total),
            ("journal_snapshots", "Snapshots that were saved", known.snapshots_total),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        let seconds = ConstCounter::new(known.append_us_total as f64 / 1e6);
        let help = "Time spent in writing the journal";
        let kind = seconds.metric_type();
        seconds.encode(encoder.encode_descriptor("journal_append_seconds", help, None, kind)?)?;
        let is_full = u64::from(known.journal_full.is_some());
        for (name, help, value) in [
            ("reign", "The number of this controller process", known.reign),
            ("journal_position", "The position of the last durable record", known.position),
            ("journal_full", "1 while the journal takes nothing", is_full),
            ("links_up", "Links to agents", known.links_up),
            ("streams_open", "Streams of logs, events and input", self.streams_open),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        let Some((nodes, workloads, instances_live, sessions)) = &self.counted else {
            return Ok(());
        };
        for (name, help, value) in [
            ("instances_live", "Instances that are not ended", *instances_live),
            ("sessions_live", "Sessions that live or wait", sessions.0),
            ("sessions_queued", "Sessions that wait for room", sessions.1),
            ("nodes_up", "Nodes that hold their lease", nodes.up),
            ("nodes_stopping", "Nodes that are being shut down", nodes.stopping),
            ("nodes_lost", "Nodes that were silent for too long", nodes.lost),
            ("nodes_draining", "Nodes that are being emptied", nodes.draining),
            ("services", "Services", workloads.services),
            ("jobs", "Jobs", workloads.jobs),
            ("session_templates", "Session templates", workloads.session_templates),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> std::fmt::Result {
    let counter = ConstCounter::new(value);
    let kind = counter.metric_type();
    counter.encode(encoder.encode_descriptor(name, help, None, kind)?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> std::fmt::Result {
    let gauge = ConstGauge::new(value);
    let kind = gauge.metric_type();
    gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
}
