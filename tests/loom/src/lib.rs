//! The hand-off of `ms-rpc`, compiled with the model checker's primitives.

#[path = "../../../rpc/src/server/handoff.rs"]
#[allow(dead_code)]
mod handoff;

/// Primitives that the checker controls.
mod sync {
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::Arc as StdArc,
        task::{Wake, Waker},
    };

    use loom::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        thread,
    };

    use super::handoff::{Bell, Mailbox};

    /// A connection's task: woken, or asleep.
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: StdArc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    struct Connection {
        task: StdArc<Task>,
        waker: Waker,
        mailbox: Arc<Mailbox<u32>>,
        ready: VecDeque<u32>,
        returned: Vec<u32>,
    }

    impl Connection {
        fn new(mailbox: Arc<Mailbox<u32>>) -> Self {
            let task = StdArc::new(Task(AtomicBool::new(true)));
            Self { waker: task.clone().into(), task, mailbox, ready: VecDeque::new(), returned: Vec::new() }
        }

        /// Runs the task if it was woken.
        fn turn(&mut self) {
            if self.task.0.swap(false, Ordering::AcqRel) {
                self.mailbox.collect(&mut self.ready, &mut self.returned, &self.waker);
            }
        }
    }

    /// Two completions of one waiting call, one right after the other, each seen by a poll that comes after it.
    #[test]
    fn no_wake_up_of_a_waiting_call_is_lost() {
        loom::model(|| {
            let (mailbox, bell) = (Arc::new(Mailbox::default()), Arc::new(Bell::new(false)));
            let steps = Arc::new(AtomicUsize::new(0));
            let completing = {
                let (mailbox, bell, steps) = (mailbox.clone(), bell.clone(), steps.clone());
                thread::spawn(move || {
                    for step in 1..=2 {
                        steps.store(step, Ordering::Relaxed);
                        if bell.ring() {
                            mailbox.wake(0);
                        }
                    }
                })
            };
            let mut connection = Connection::new(mailbox);
            let mut seen = 0;
            let poll = |connection: &mut Connection, seen: &mut usize| {
                connection.turn();
                while connection.ready.pop_front().is_some() {
                    bell.reset();
                    *seen = steps.load(Ordering::Relaxed);
                }
            };
            poll(&mut connection, &mut seen);
            completing.join().unwrap();
            poll(&mut connection, &mut seen);
            assert_eq!(seen, 2, "the last completion is seen by a poll");
        });
    }

    /// A call comes back from a pool while the task goes to sleep.
    #[test]
    fn no_call_that_comes_back_is_left_behind() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::default());
            let pools: Vec<_> = (0..2)
                .map(|call| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || {
                        if mailbox.has_room(10) {
                            mailbox.give_back(call, 20);
                        } else {
                            mailbox.give_back(call, 0);
                        }
                    })
                })
                .collect();
            let mut connection = Connection::new(mailbox);
            connection.turn();
            pools.into_iter().for_each(|pool| pool.join().unwrap());
            connection.turn();
            assert_eq!(connection.returned.len(), 2);
            assert!(connection.mailbox.has_room(0), "what was collected waits here no more");
        });
    }

    /// A drain is told while the task goes to sleep.
    #[test]
    fn no_drain_is_missed() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::<u32>::default());
            let drains = {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.drain())
            };
            let mut connection = Connection::new(mailbox.clone());
            connection.turn();
            drains.join().unwrap();
            assert!(mailbox.collect(&mut connection.ready, &mut connection.returned, &connection.waker));
            assert!(connection.task.0.load(Ordering::Acquire) || connection.returned.is_empty());
        });
    }
}
