//! What happens to files (`inotify(7)`).

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::place::{About, Obstacle, Outcome, Root};
use super::protocol::{FileErrorKind, FileEvent, FileEventKind, FileKind, FileReply};
use super::serve::{Stop, tell};
use crate::limits::{FOLDERS_WATCHED_MAX, WATCH_GATHER_MS};

/// Bytes of news that are read at once.
const NEWS_BYTES: usize = 64 * 1024;

/// Tells what happens until the other side has had enough, or what is watched is gone.
pub(super) fn tell_events(
    root: &Root,
    path: &str,
    recursive: bool,
    socket: &mut UnixStream,
) -> Result<(), Stop> {
    root.info(path).about(path)?;
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).about(path)?;
    let mut watcher = Watcher { root, inotify, recursive, paths: BTreeMap::new() };
    watcher.add(path)?;
    if recursive {
        watcher.add_below(path, &mut Vec::new())?;
    }
    tell(socket, &FileReply::Done)?;
    loop {
        {
            let mut fds =
                [PollFd::new(&watcher.inotify, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            // Nothing is said to a watcher, so this is its end.
            if !fds[1].revents().is_empty() {
                return Ok(());
            }
        }
        // A program that writes in small pieces makes one event of many.
        std::thread::sleep(Duration::from_millis(WATCH_GATHER_MS));
        let (events, is_over) = watcher.read()?;
        for event in events {
            tell(socket, &FileReply::Event(event))?;
        }
        if is_over {
            return Ok(());
        }
    }
}

struct Watcher<'a> {
    root: &'a Root,
    inotify: OwnedFd,
    recursive: bool,
    /// Which watch is where. The first is what was asked for.
    paths: BTreeMap<i32, String>,
}

/// What a piece of news means.
enum Meaning {
    Event(FileEventKind),
    /// The other half may be next.
    HalfMove,
    /// What was asked for is gone.
    End,
    Nothing,
}

/// One piece of news, taken out of the buffer.
struct News {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<String>,
}

impl Watcher<'_> {
    fn add(&mut self, path: &str) -> Outcome<()> {
        if self.paths.len() >= FOLDERS_WATCHED_MAX {
            let reason = format!("more than {FOLDERS_WATCHED_MAX} folders cannot be watched");
            return Err(Obstacle::new(FileErrorKind::Other, reason));
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF;
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => {
                self.paths.insert(watch, path.to_owned());
                Ok(())
            }
            Err(Errno::NOSPC | Errno::MFILE) => {
                let reason = "too much is watched on this node already";
                Err(Obstacle::new(FileErrorKind::Other, reason))
            }
            Err(error) => Err(error).about(path),
        }
    }

    /// Watches all folders below, and notes what is in them, which came before the watch did.
    fn add_below(&mut self, path: &str, found: &mut Vec<String>) -> Outcome<()> {
        let mut waiting = vec![path.to_owned()];
        while let Some(above) = waiting.pop() {
            // What is gone already, or may not be looked into, has no news for us.
            for entry in std::fs::read_dir(&above).into_iter().flatten().flatten() {
                let path = format!(
                    "{}/{}",
                    above.trim_end_matches('/'),
                    entry.file_name().to_string_lossy()
                );
                found.push(path.clone());
                let info = self.root.info(&path);
                if info.is_ok_and(|info| info.kind == FileKind::Folder) {
                    match self.add(&path) {
                        Err(obstacle) if obstacle.kind == FileErrorKind::NotFound => {}
                        added => {
                            added?;
                            waiting.push(path);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What has happened, without repetitions, and whether nothing more will.
    fn read(&mut self) -> Result<(Vec<FileEvent>, bool), Stop> {
        let mut events: Vec<FileEvent> = Vec::new();
        // Moves whose other half has not come.
        let mut begun: Option<(u32, String)> = None;
        let mut is_over = false;
        for news in take(&self.inotify)? {
            let event = |kind, path| FileEvent { kind, path, from: None };
            if news.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                let path = self.paths.values().next().cloned().unwrap_or_default();
                events.push(event(FileEventKind::Missed, path));
                continue;
            }
            let Some(folder) = self.paths.get(&news.watch).cloned() else {
                continue;
            };
            let path = match &news.name {
                Some(name) => format!("{}/{name}", folder.trim_end_matches('/')),
                None => folder,
            };
            if let Some((cookie, from)) = begun.take() {
                if news.flags.contains(ReadFlags::MOVED_TO) && news.cookie == cookie {
                    events.push(FileEvent {
                        kind: FileEventKind::Moved,
                        path: path.clone(),
                        from: Some(from),
                    });
                    self.enter(&news, &path, &mut events)?;
                    continue;
                }
                events.push(event(FileEventKind::Removed, from));
            }
            let kind = match self.meaning(&news) {
                Meaning::Event(kind) => kind,
                Meaning::HalfMove => {
                    begun = Some((news.cookie, path));
                    continue;
                }
                Meaning::End => {
                    is_over = true;
                    FileEventKind::Removed
                }
                Meaning::Nothing => continue,
            };
            events.push(event(kind, path.clone()));
            if kind == FileEventKind::Created {
                self.enter(&news, &path, &mut events)?;
            }
        }
        events.extend(begun.map(|(_, path)| FileEvent {
            kind: FileEventKind::Removed,
            path,
            from: None,
        }));
        let mut told = std::collections::BTreeSet::new();
        events.retain(|event| {
            event.kind != FileEventKind::Modified || told.insert(event.path.clone())
        });
        Ok((events, is_over))
    }

    /// What a piece of news means by itself.
    fn meaning(&mut self, news: &News) -> Meaning {
        let table = [
            (ReadFlags::CREATE | ReadFlags::MOVED_TO, FileEventKind::Created),
            (ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE, FileEventKind::Modified),
            (ReadFlags::ATTRIB, FileEventKind::Attributes),
            (ReadFlags::DELETE, FileEventKind::Removed),
        ];
        if let Some((_, kind)) = table.iter().find(|(flags, _)| news.flags.intersects(*flags)) {
            return Meaning::Event(*kind);
        }
        if news.flags.contains(ReadFlags::MOVED_FROM) {
            return Meaning::HalfMove;
        }
        // Of a folder below, the one above it tells.
        let is_first = self.paths.first_key_value().is_some_and(|(first, _)| *first == news.watch);
        if news.flags.contains(ReadFlags::IGNORED) {
            self.paths.remove(&news.watch);
        }
        match is_first && news.flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            true => Meaning::End,
            false => Meaning::Nothing,
        }
    }

    /// Watches a folder that came to be.
    fn enter(&mut self, news: &News, path: &str, events: &mut Vec<FileEvent>) -> Result<(), Stop> {
        if !self.recursive || !news.flags.contains(ReadFlags::ISDIR) {
            return Ok(());
        }
        let mut found = Vec::new();
        match self.add(path).and_then(|()| self.add_below(path, &mut found)) {
            Err(obstacle) if obstacle.kind == FileErrorKind::NotFound => {}
            done => done?,
        }
        let created = |path| FileEvent { kind: FileEventKind::Created, path, from: None };
        events.extend(found.into_iter().map(created));
        Ok(())
    }
}

/// All news that there are.
fn take(inotify: &OwnedFd) -> io::Result<Vec<News>> {
    let mut buffer = vec![MaybeUninit::uninit(); NEWS_BYTES];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut all = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => all.push(News {
                watch: event.wd(),
                flags: event.events(),
                cookie: event.cookie(),
                name: event.file_name().map(|name| name.to_string_lossy().into_owned()),
            }),
            Err(Errno::AGAIN) => return Ok(all),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
