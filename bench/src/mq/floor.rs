//! What the disk alone can do: the bytes of a batch at the end of a growing file, and `fdatasync`.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use super::broker::Home;
use crate::{peer::Failure, process};

/// Messages per second when each append of `outstanding` bodies is synced before the next.
pub(crate) fn rate(directory: &Path, outstanding: usize, body: usize, length: Duration) -> Result<f64, Failure> {
    let path = directory.join("floor");
    let mut file = File::create(&path)?;
    let batch = vec![b'x'; outstanding * body];
    let mut append = |until: Duration| -> Result<f64, Failure> {
        let (begin, mut appended) = (Instant::now(), 0);
        while begin.elapsed() < until {
            file.write_all(&batch)?;
            file.sync_data()?;
            appended += outstanding;
        }
        Ok(appended as f64 / begin.elapsed().as_secs_f64())
    };
    append(length / 4)?;
    let rate = append(length)?;
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// How long each of so many appends of one body took with its sync on that CPU, one begun every `interval`; in nanoseconds.
pub(crate) fn paced(home: &Home, body: usize, count: u32, interval: Duration) -> Result<Vec<u64>, Failure> {
    let path = home.directory.join("floor");
    let mut file = File::create(&path)?;
    let body = vec![b'x'; body];
    let append = || {
        process::pin(home.cpu)?;
        let begin = Instant::now();
        let mut taken = Vec::new();
        for number in 0..count {
            #[expect(clippy::disallowed_methods, reason = "no runtime has this thread")]
            std::thread::sleep((begin + interval * number).saturating_duration_since(Instant::now()));
            let before = Instant::now();
            file.write_all(&body)?;
            file.sync_data()?;
            taken.push(before.elapsed().as_nanos() as u64);
        }
        Ok::<_, Failure>(taken)
    };
    // On a thread of its own: this one stays on its CPU.
    let taken =
        std::thread::scope(|scope| scope.spawn(append).join()).map_err(|_| "the appending thread panicked")??;
    std::fs::remove_file(path)?;
    Ok(taken)
}
