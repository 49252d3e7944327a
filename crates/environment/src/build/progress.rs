//! What is told while an environment is built.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spawnery_model::Name;
use std::collections::BTreeMap;

use super::limits::OUTPUT_BYTES_MAX;

/// Somebody who waits for an environment.
pub trait Progress: Send + Sync {
    /// A step begins, or is found done: `step 3 of 5: python packages`.
    fn step(&self, number: usize, of: usize, title: &str);

    /// A version is looked for that no lock pins, before the steps: `resolving the commit`.
    fn resolving(&self, what: &str) {
        let _ = what;
    }

    /// The tool or command of the step wrote this. Secrets are taken out.
    fn output(&self, bytes: &[u8]) {
        let _ = bytes;
    }
}

/// For those who do not want to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: usize, _: usize, _: &str) {}
}

/// The values of the secrets that a recipe names. Has no `Debug` of them.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<Name, Vec<u8>>);

impl Secrets {
    /// These values.
    pub fn new(values: impl IntoIterator<Item = (Name, Vec<u8>)>) -> Secrets {
        Secrets(values.into_iter().collect())
    }

    /// The value without the newline that editors put at the end, or what to do.
    pub(crate) fn text(&self, name: &Name) -> Result<String, String> {
        let Some(value) = self.0.get(name) else {
            return Err(format!(
                "there is no secret `{name}`: set it by `spawnery secret set {name}`"
            ));
        };
        let text = std::str::from_utf8(value)
            .map_err(|_| format!("the secret `{name}` is not text, so it is no credentials"))?;
        if text.contains('\0') {
            return Err(format!("the secret `{name}` holds a NUL byte, so it is no credentials"));
        }
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// What must never be shown: the values, and the passwords in them.
    pub(crate) fn hidden(&self) -> Vec<Vec<u8>> {
        let mut hidden = Vec::new();
        for value in self.0.values() {
            let trimmed = value.trim_ascii();
            hidden.push(trimmed.to_vec());
            if let Some(at) = trimmed.iter().position(|b| *b == b':') {
                hidden.push(trimmed[at + 1..].to_vec());
            }
            // A key has several lines, and output is often cut into lines.
            hidden.extend(trimmed.split(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
        // Shorter ones would hide parts of ordinary words, and are no secrets.
        hidden.retain(|value| value.len() >= HIDDEN_BYTES_MIN);
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.dedup();
        hidden
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Shortest secret that is taken out of output, in bytes.
const HIDDEN_BYTES_MIN: usize = 4;

/// Whether a build was given up by all who waited for it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Gives it up.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was given up.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gives up when it is dropped.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The output of one step: passed on without secrets, and its end kept.
pub(super) struct Output {
    progress: Arc<dyn Progress>,
    hidden: Vec<Vec<u8>>,
    state: Mutex<OutputState>,
}

#[derive(Default)]
struct OutputState {
    /// Not passed on yet, since a secret may begin in it.
    pending: Vec<u8>,
    kept: Vec<u8>,
}

impl Output {
    pub(super) fn new(progress: Arc<dyn Progress>, secrets: &Secrets) -> Output {
        Output { progress, hidden: secrets.hidden(), state: Mutex::default() }
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pending.extend_from_slice(bytes);
        let longest = self.hidden.first().map_or(0, |it| it.len() - 1);
        self.pass_on(&mut state, longest);
    }

    /// Passes on what was held back, and gives the end of all.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.pass_on(&mut state, 0);
        state.kept.clone()
    }

    fn pass_on(&self, state: &mut OutputState, held_back: usize) {
        let mut ready = Vec::new();
        let mut at = 0;
        while at < state.pending.len() {
            let rest = &state.pending[at..];
            if let Some(found) = self.hidden.iter().find(|it| rest.starts_with(it)) {
                ready.extend_from_slice(b"***");
                at += found.len();
            } else if rest.len() <= held_back && self.hidden.iter().any(|it| it.starts_with(rest)) {
                break;
            } else {
                ready.push(rest[0]);
                at += 1;
            }
        }
        state.pending.drain(..at);
        if ready.is_empty() {
            return;
        }
        self.progress.output(&ready);
        state.kept.extend_from_slice(&ready);
        if state.kept.len() > 2 * OUTPUT_BYTES_MAX {
            let surplus = state.kept.len() - OUTPUT_BYTES_MAX;
            state.kept.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Heard(Mutex<Vec<u8>>);

    impl Progress for Heard {
        fn step(&self, _: usize, _: usize, _: &str) {}
        fn output(&self, bytes: &[u8]) {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        }
    }

    #[test]
    fn secrets_are_taken_out_however_output_is_cut() {
        let name: Name = "index".parse().expect("a name");
        let secrets = Secrets::new([(name.clone(), b"user:hunter22\n".to_vec())]);
        let text = b"hunt user:hunter22 hunter22 hunter2 and hunt";
        for size in 1..text.len() {
            let heard = Arc::new(Heard(Mutex::default()));
            let output = Output::new(heard.clone(), &secrets);
            text.chunks(size).for_each(|chunk| output.write(chunk));
            let kept = output.finish();
            assert_eq!(kept, b"hunt *** *** hunter2 and hunt", "chunks of {size}");
            assert_eq!(*heard.0.lock().expect("not poisoned"), kept);
        }
        assert_eq!(secrets.text(&name), Ok("user:hunter22".to_owned()));
        assert!(!format!("{secrets:?}").contains("hunter22"));
    }

    #[test]
    fn of_much_output_the_end_is_kept() {
        let output = Output::new(Arc::new(Silent), &Secrets::default());
        for _ in 0..5 {
            output.write(&vec![b'x'; OUTPUT_BYTES_MAX]);
        }
        output.write(b"end");
        let kept = output.finish();
        assert!(kept.len() <= 2 * OUTPUT_BYTES_MAX && kept.ends_with(b"end"));
    }
}
