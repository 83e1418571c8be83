//! Primitives of the hand-off between threads, in one place: the model checker puts its own in their stead.

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
