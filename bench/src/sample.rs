//! One measurement: a fresh server, a fresh driver, one look at both.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    child::Child,
    drive::{self, Latency, Seen},
    implementations::Implementation,
    peer::Failure,
    serve,
    settings::{Effort, Load, Setting},
};

/// Calls that an open loop may have in flight; the rest wait, on the clock.
const OPEN_IN_FLIGHT: usize = 1_024;

/// How long to wait for a child beyond the time that its work takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one measurement showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) calls_per_second: f64,
    pub(crate) latency: Option<Latency>,
    /// CPU time a call, in microseconds.
    pub(crate) server_us: f64,
    /// CPU time a call, in microseconds. It says nothing in an open loop, whose driver spins.
    pub(crate) client_us: f64,
    pub(crate) server_rss: u64,
    pub(crate) client_rss: u64,
    /// How much faster than with one thread on the server.
    pub(crate) speed_up: Option<f64>,
    /// Bytes that one more idle connection costs the server.
    pub(crate) idle_bytes: f64,
}

impl Sample {
    /// Measures. `rate` is for [`Load::HalfPeak`] alone.
    pub(crate) async fn take(
        implementation: Implementation,
        setting: &Setting,
        effort: Effort,
        rate: f64,
    ) -> Result<Self, Failure> {
        let mut sample = Self::take_once(implementation, setting, effort, rate).await?;
        if let Load::Compute { .. } = setting.load {
            let alone = Setting { threads: 1, ..*setting };
            let alone = Self::take_once(implementation, &alone, effort, rate).await?;
            sample.speed_up = Some(sample.calls_per_second / alone.calls_per_second);
        }
        Ok(sample)
    }

    async fn take_once(
        implementation: Implementation,
        setting: &Setting,
        effort: Effort,
        rate: f64,
    ) -> Result<Self, Failure> {
        let mut drivers = Vec::new();
        let mut server = Child::start(&side("serve", implementation, setting, 0))?;
        let measurement = Measurement { implementation, setting, effort, rate };
        let outcome = measurement.run(&mut server, &mut drivers).await;
        for driver in drivers {
            driver.kill().await;
        }
        server.stop().await;
        outcome.map_err(|failure| format!("{}, {}: {failure}", implementation.name, setting.name).into())
    }
}

struct Measurement<'a> {
    implementation: Implementation,
    setting: &'a Setting,
    effort: Effort,
    rate: f64,
}

impl Measurement<'_> {
    async fn run(&self, server: &mut Child, drivers: &mut Vec<Child>) -> Result<Sample, Failure> {
        let serve::Told::Listening(address) = server.told(PATIENCE).await? else {
            return Err("the server did not say where it listens".into());
        };
        let address = format!("--address={address}");
        match self.setting.load {
            Load::Closed { connections, in_flight, echo } => {
                let mut plan = vec![address, "--pace=closed".into(), format!("--connections={connections}")];
                plan.push(format!("--in-flight={in_flight}"));
                plan.extend(echo.map(|length| format!("--echo={length}")));
                self.calls(plan, server, drivers).await
            }
            Load::Instances { instances, in_flight } => {
                let mut plan = vec![address, "--pace=closed".into(), "--instances".into()];
                plan.extend([format!("--connections={instances}"), format!("--in-flight={in_flight}")]);
                self.calls(plan, server, drivers).await
            }
            Load::HalfPeak => self.open(address, 4, OPEN_IN_FLIGHT, self.rate, server, drivers).await,
            Load::Trickle { connections, rate } => {
                self.open(address, connections, connections, rate, server, drivers).await
            }
            Load::Compute { in_flight } => {
                let plan = vec![address, "--pace=beside".into(), "--connections=1".into()];
                self.calls([plan, vec![format!("--in-flight={in_flight}")]].concat(), server, drivers).await
            }
            Load::Idle { few, many } => self.idle(&address, [few, many], server, drivers).await,
        }
    }

    async fn open(
        &self,
        address: String,
        connections: usize,
        in_flight: usize,
        rate: f64,
        server: &mut Child,
        drivers: &mut Vec<Child>,
    ) -> Result<Sample, Failure> {
        let plan = vec![
            address,
            "--pace=open".into(),
            format!("--connections={connections}"),
            format!("--in-flight={in_flight}"),
            format!("--rate={rate}"),
        ];
        self.calls(plan, server, drivers).await
    }

    async fn calls(&self, plan: Vec<String>, server: &mut Child, drivers: &mut Vec<Child>) -> Result<Sample, Failure> {
        let driver = self.drive(plan, drivers).await?;
        let before = server.usage().await?;
        let drive::Told::Ended(Seen { calls, seconds, latency, cpu_us, rss }) = driver.told(self.patience()).await?
        else {
            return Err("the driver did not say what it saw".into());
        };
        let after = server.usage().await?;
        if calls == 0 {
            return Err("no call ended in the window".into());
        }
        Ok(Sample {
            calls_per_second: calls as f64 / seconds,
            latency,
            server_us: (after.cpu_us - before.cpu_us) as f64 / calls as f64,
            client_us: cpu_us as f64 / calls as f64,
            server_rss: after.rss,
            client_rss: rss,
            speed_up: None,
            idle_bytes: 0.0,
        })
    }

    async fn idle(
        &self,
        address: &str,
        groups: [usize; 2],
        server: &mut Child,
        drivers: &mut Vec<Child>,
    ) -> Result<Sample, Failure> {
        let mut resident = [0; 2];
        for (connections, resident) in groups.into_iter().zip(&mut resident) {
            let plan = vec![address.into(), "--pace=idle".into(), format!("--connections={connections}")];
            self.drive(plan, drivers).await?;
            sleep(Duration::from_millis(300)).await;
            *resident = server.usage().await?.rss;
        }
        let [few, many] = resident;
        let idle_bytes = (many as f64 - few as f64) / groups[1] as f64;
        Ok(Sample { idle_bytes, server_rss: many, ..Sample::default() })
    }

    /// Starts a driver, and waits until its window begins.
    async fn drive<'d>(&self, plan: Vec<String>, drivers: &'d mut Vec<Child>) -> Result<&'d mut Child, Failure> {
        let Effort { warm_up_ms, window_ms, .. } = self.effort;
        let mut arguments = side("drive", self.implementation, self.setting, 1);
        arguments.extend([format!("--warm-up-ms={warm_up_ms}"), format!("--window-ms={window_ms}")]);
        arguments.extend(plan);
        drivers.push(Child::start(&arguments)?);
        let driver = drivers.last_mut().ok_or("no driver where one was just put")?;
        match driver.told(self.patience()).await? {
            drive::Told::Begun => Ok(driver),
            told => Err(format!("the driver's first words: {told:?}").into()),
        }
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_millis(self.effort.warm_up_ms + self.effort.window_ms)
    }
}

/// The arguments of one side; with one thread, it stays on that CPU.
fn side(command: &str, implementation: Implementation, setting: &Setting, cpu: usize) -> Vec<String> {
    let mut arguments = vec![
        command.to_owned(),
        format!("--implementation={}", implementation.name),
        format!("--threads={}", setting.threads),
    ];
    if setting.threads == 1 {
        arguments.push(format!("--cpu={cpu}"));
    }
    arguments
}
