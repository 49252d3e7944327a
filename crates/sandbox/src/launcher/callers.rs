//! The launcher's callers: connections, replies, events.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::sockopt;

use super::connection::Connection;
use super::core::{Launcher, Source, epoll_add};
use super::sandbox::Asker;
use crate::limits::{CONNECTIONS_MAX, PROTOCOL_VERSION};
use crate::protocol::{Event, FrameError, Hello, Message, Reply};

impl Launcher {
    pub(super) fn accept(&mut self) {
        let Ok((socket, _)) = self.listener.accept() else {
            return;
        };
        let allowed = sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if !allowed || self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let token = self.token();
        if socket.set_nonblocking(true).is_err()
            || epoll_add(&self.epoll, socket.as_fd(), token).is_err()
        {
            return;
        }
        let mut connection = Connection::new(socket);
        let hello = Hello { version: PROTOCOL_VERSION, subscribe: false, pid: std::process::id() };
        connection.push(&Message::Hello(hello), None);
        self.connections.insert(token, connection);
        self.sources.insert(token, Source::Connection);
    }

    pub(super) fn serve_connection(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let open = connection.fill().unwrap_or(false);
        loop {
            let Some(connection) = self.connections.get_mut(&token) else {
                return;
            };
            match connection.next() {
                Ok(Some(message)) => self.handle_message(token, message),
                Ok(None) => break,
                Err(FrameError::NotUnderstood { request_id: Some(id), reason, .. }) => {
                    let reason = format!("the launcher does not understand: {reason}");
                    self.reply((token, id), Reply::Refused { reason });
                }
                Err(FrameError::NotUnderstood { .. }) => {}
                Err(FrameError::TooLarge { .. }) => return self.disconnect(token),
            }
        }
        if !open {
            self.disconnect(token);
        }
    }

    pub(super) fn handle_message(&mut self, token: u64, message: Message) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match message {
            Message::Hello(hello) => {
                connection.greeted = true;
                connection.subscribed = hello.subscribe;
            }
            Message::Request { id, request } if connection.greeted => {
                if let Some(reply) = self.handle_request((token, id), request) {
                    self.reply((token, id), reply);
                }
            }
            _ => self.disconnect(token),
        }
    }

    pub(super) fn disconnect(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some(connection) = self.connections.remove(&token) {
            let _ = epoll::delete(&self.epoll, &connection);
        }
    }

    /// Answers a request, if its caller is still there.
    pub(super) fn reply(&mut self, (token, id): Asker, reply: Reply) {
        self.reply_with_fd((token, id), reply, None);
    }

    pub(super) fn reply_with_fd(&mut self, (token, id): Asker, reply: Reply, fd: Option<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.push(&Message::Reply { id, reply }, fd);
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        let mut too_slow = Vec::new();
        for (token, connection) in &mut self.connections {
            if connection.subscribed && connection.is_too_slow() {
                too_slow.push(*token);
            } else if connection.subscribed {
                connection.push(&message, None);
            }
        }
        // It connects again and lists, which costs less than a queue without a limit.
        too_slow.into_iter().for_each(|token| self.disconnect(token));
    }

    pub(super) fn tell_output(&mut self) {
        for (number, process) in std::mem::take(&mut self.fresh_output) {
            let Some(sandbox) = self.sandboxes.get(&number) else {
                continue;
            };
            let Some(instance) = sandbox.instance.clone() else {
                continue;
            };
            let Some(found) = sandbox.processes.get(&process) else {
                continue;
            };
            let next_seq = found.log.next_seq();
            self.tell(&Event::Output { instance, process, next_seq });
        }
    }

    pub(super) fn flush_connections(&mut self) {
        let mut closed = Vec::new();
        for (token, connection) in &mut self.connections {
            match connection.flush() {
                Ok(left) => {
                    if left != connection.wants_out {
                        connection.wants_out = left;
                        let out = if left { EventFlags::OUT } else { EventFlags::empty() };
                        let data = EventData::new_u64(*token);
                        let _ =
                            epoll::modify(&self.epoll, &*connection, data, EventFlags::IN | out);
                    }
                }
                Err(_) => closed.push(*token),
            }
        }
        closed.into_iter().for_each(|token| self.disconnect(token));
    }
}
