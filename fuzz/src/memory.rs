/// What reading may allocate beyond its input, in bytes: the largest frame expanded a few times over.
const ALLOWED: usize = 64 << 20;

/// Runs `read` on `input`, and fails if it held much more memory than that at any time.
pub(crate) fn bounded<R>(input: &[u8], read: impl FnOnce() -> R) -> R {
    let mut result = None;
    let most = allocation_counter::measure(|| result = Some(read())).bytes_max;
    let allowed = (ALLOWED + input.len()) as u64;
    assert!(most <= allowed, "{} bytes of input took {most} bytes of memory", input.len());
    result.expect("it ran")
}
