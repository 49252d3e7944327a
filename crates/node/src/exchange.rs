//! What the node and the controller tell each other.

use crate::{Action, Node, due};
use spawnery_model::{InstanceId, Orders, Report, Timestamp, limits};

impl Node {
    pub(crate) fn introduce_again(&mut self) {
        self.introduced = false;
        self.sent_at = None;
        self.received.clear();
    }

    pub(crate) fn handle_orders(&mut self, orders: Orders, now: Timestamp) {
        if !self.link || orders.reign < self.reign {
            self.refused += 1;
            return;
        }
        if orders.introduce {
            // The answer to a report of an epoch that has passed says nothing about this one.
            if orders.epoch == self.epoch && self.introduced {
                self.introduce_again();
            }
            return;
        }
        if orders.incarnation != self.introduction.incarnation {
            self.refused += 1;
            return;
        }
        if orders.full {
            return self.handle_full_orders(orders, now);
        }
        let current = self.introduced && (orders.reign, orders.epoch) == (self.reign, self.epoch);
        // One that was overtaken may ask for what has been run, ended and forgotten since.
        if !current || orders.sequence <= self.orders_sequence {
            self.refused += 1;
            return;
        }
        self.take_in(orders, now);
    }

    fn handle_full_orders(&mut self, orders: Orders, now: Timestamp) {
        let of = (orders.reign, orders.epoch);
        if of <= self.full_orders_of {
            self.refused += 1;
            return;
        }
        self.full_orders_of = of;
        (self.reign, self.epoch) = of;
        self.introduced = true;
        self.end_unwanted(&orders.orders);
        self.take_in(orders, now);
    }

    fn take_in(&mut self, orders: Orders, now: Timestamp) {
        self.orders_sequence = orders.sequence;
        // First, so that what is started by this message may go on.
        if let Some(sent_at) = self.heard.confirm(&orders.received) {
            self.actions.push_back(Action::Renew { sent_at });
        }
        let instances = &self.instances;
        self.unconfirmed.retain(|instance| {
            let told = instances.get(instance).and_then(|held| held.told);
            !told.is_some_and(|(sequence, _)| orders.received.contains(&sequence))
        });
        if orders.full || !orders.orders.is_empty() || orders.pools.is_some() {
            self.received.push(orders.sequence);
        }
        if let Some(pools) = orders.pools {
            self.actions.push_back(Action::Warm { pools });
        }
        for order in orders.orders {
            self.carry_out(order, now);
        }
    }

    pub(crate) fn report_if_due(&mut self, now: Timestamp) {
        if self.next_report_at().is_some_and(|at| at <= now) {
            let report = self.report(now);
            self.actions.push_back(Action::Send(Box::new(report)));
        }
    }

    /// When the next report is due: at once with news, after a while without.
    pub(crate) fn next_report_at(&self) -> Option<Timestamp> {
        if !self.link {
            return None;
        }
        if !self.introduced {
            return Some(due(self.sent_at, limits::RESEND));
        }
        if !self.received.is_empty() {
            return Some(Timestamp(0));
        }
        let news = self.unconfirmed.iter().filter_map(|instance| self.instances.get(instance));
        let news = news.map(|held| due(held.told.map(|(_, at)| at), limits::RESEND)).min();
        let heartbeat = due(self.sent_at, limits::HEARTBEAT);
        Some(news.map_or(heartbeat, |news| news.min(heartbeat)))
    }

    fn report(&mut self, now: Timestamp) -> Report {
        self.sequence += 1;
        self.sent_at = Some(now);
        self.heard.sent(self.sequence, now);
        let everything = !self.introduced;
        let asked: Vec<InstanceId> = if everything {
            self.instances.keys().copied().collect()
        } else {
            self.unconfirmed.iter().copied().collect()
        };
        let mut observed = Vec::new();
        for instance in asked {
            let Some(held) = self.instances.get_mut(&instance) else {
                continue;
            };
            let told = held.told.map(|(_, at)| at);
            if everything || due(told, limits::RESEND) <= now {
                held.told = Some((self.sequence, now));
                observed.push(held.observed(instance));
            }
        }
        Report {
            node: self.id,
            epoch: self.epoch,
            reign: self.reign,
            sequence: self.sequence,
            received: std::mem::take(&mut self.received),
            introduction: everything.then(|| self.introduction.clone()),
            observed,
        }
    }
}
