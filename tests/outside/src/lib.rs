//! Extensions of ms-rpc that see its public API alone: one file of `tests/` a seam.
