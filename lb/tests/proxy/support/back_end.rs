use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A process of `back_end.py`. Dropping it kills the process.
pub(crate) struct BackEnd {
    process: Child,
    port: u16,
}

impl BackEnd {
    pub(crate) async fn start(name: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/support/back_end.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(name).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("`python3` runs: install the distribution's package python3");
        let output = process.stdout.take().unwrap();
        let line = tokio::task::spawn_blocking(move || BufReader::new(output).lines().next());
        let port = line.await.unwrap().expect("the back end says its port").unwrap().trim().parse().unwrap();
        Self { process, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
