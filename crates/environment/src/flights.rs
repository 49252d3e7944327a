//! One at a time for each key: who asks while it is under way gets the same result.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};

/// Work that is under way, by key.
///
/// The work goes on as long as somebody waits for it: it is dropped with the last who does. Its
/// result, an error too, goes to all who wait, and is forgotten then: who comes later starts anew.
#[derive(Default)]
pub struct Flights {
    under_way: Mutex<HashMap<(String, TypeId), Box<dyn Any + Send>>>,
}

type Flight<T, E> = Shared<BoxFuture<'static, Result<T, E>>>;

impl Flights {
    /// Does the work, or waits for the one who does it already.
    ///
    /// # Errors
    ///
    /// That of the work.
    pub async fn once<T, E, W>(&self, key: &str, work: impl FnOnce() -> W) -> Result<T, E>
    where
        T: Clone + Send + Sync + 'static,
        E: Clone + Send + Sync + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
    {
        let key = (key.to_owned(), TypeId::of::<Result<T, E>>());
        let flight: Flight<T, E> = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let known = under_way
                .get(&key)
                .and_then(|it| it.downcast_ref::<WeakShared<BoxFuture<'static, Result<T, E>>>>())
                .and_then(WeakShared::upgrade)
                // One that has a result is over: only those who waited for it get that.
                .filter(|flight| flight.peek().is_none());
            match known {
                Some(flight) => flight,
                None => {
                    let flight = work().boxed().shared();
                    if let Some(weak) = flight.downgrade() {
                        under_way.insert(key.clone(), Box::new(weak));
                    }
                    flight
                }
            }
        };
        let result = flight.clone().await;
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = under_way
            .get(&key)
            .and_then(|it| it.downcast_ref::<WeakShared<BoxFuture<'static, Result<T, E>>>>())
            .and_then(WeakShared::upgrade)
            .is_none_or(|known| known.ptr_eq(&flight));
        if is_this {
            under_way.remove(&key);
        }
        result
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_who_ask_meanwhile_get_the_same_result_and_the_next_starts_anew() {
        let flights = Flights::default();
        let count = Arc::new(AtomicU32::new(0));
        let work = || {
            let count = count.clone();
            async move {
                tokio::task::yield_now().await;
                let number = count.fetch_add(1, Ordering::SeqCst);
                if number == 0 { Err(format!("failed at {number}")) } else { Ok(number) }
            }
        };
        let both = tokio::join!(flights.once("a", work), flights.once("a", work));
        assert_eq!(both.0, Err("failed at 0".to_owned()));
        assert_eq!(both.1, both.0);
        let three =
            tokio::join!(flights.once("a", work), flights.once("a", work), flights.once("b", work));
        assert_eq!(three.0, three.1);
        assert_ne!(three.0, three.2);
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn work_goes_on_for_those_who_still_wait() {
        let flights = Flights::default();
        let (done, wait) = futures::channel::oneshot::channel::<()>();
        let mut first = Box::pin(flights.once("a", || async {
            wait.await.map_err(|_| ())?;
            Ok::<_, ()>(7)
        }));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.once("a", || async { Ok::<i32, ()>(8) }));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        done.send(()).expect("somebody waits");
        assert_eq!(second.await, Ok(7));
    }
}
