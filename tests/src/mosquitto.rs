use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{Failure, ports};

/// A real MQTT broker (mosquitto) on a port of its own of 127.0.0.1. Dropping it ends the process.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    directory: TempDir,
    process: Option<Child>,
}

impl Mosquitto {
    const READY_WITHIN: Duration = Duration::from_secs(10);

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// mosquitto is not installed, or does not listen within 10 s.
    pub async fn start() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("ms-tests-").tempdir()?;
        let mut broker = Self { port: ports::free(&[])?, directory, process: None };
        broker.up().await?;
        Ok(broker)
    }

    /// Port of the broker.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the process at once.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An error: it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the process, and waits until it listens.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn up(&mut self) -> Result<(), Failure> {
        let path = self.directory.path().join("mosquitto.conf");
        fs::write(&path, format!("listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n", self.port))?;
        let log = self.directory.path().join("log");
        let file = File::options().append(true).create(true).open(&log)?;
        // The distribution puts it where not every user's search path leads.
        let program = if fs::exists("/usr/sbin/mosquitto")? { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command
            .spawn()
            .map_err(|error| format!("`mosquitto` does not run ({error}): run scripts/registries install"))?;
        self.process = Some(process);
        let end = Instant::now() + Self::READY_WITHIN;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if Instant::now() > end {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("`mosquitto` does not listen. Its output:\n{log}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.down();
    }
}
