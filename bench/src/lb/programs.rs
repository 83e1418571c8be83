//! nginx and wrk, and this binary as a load balancer.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{FRONT, REST, file};
use crate::peer::Failure;

/// Time for a program to listen.
const READY: Duration = Duration::from_secs(10);

/// Checks that the programs are there.
pub(super) fn check() -> Result<(), Failure> {
    for (program, package) in [("nginx", "nginx-light"), ("wrk", "wrk"), ("taskset", "util-linux")] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status()?;
        if !found.success() {
            return Err(format!("`{program}` is not installed: take the distribution's package {package}").into());
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "no runtime runs in the bench itself")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A process; dropping it kills it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command, port: u16) -> Result<Self, Failure> {
        let process = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let end = Instant::now() + READY;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > end {
                return Err(format!("{command:?} does not listen within {READY:?}").into());
            }
            pause(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// One process of nginx, so that a kill ends all of it.
    fn nginx(directory: &Path, port: u16, cpu: usize, http: &str) -> Result<Self, Failure> {
        let folder = file(directory, "nginx", port);
        fs::create_dir_all(&folder)?;
        let path = folder.join("nginx.conf");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
            .collect();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000; {temporary} {http} }}\n",
            folder.display()
        );
        fs::write(&path, text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu.to_string(), "nginx", "-c"]).arg(&path).arg("-e").arg(folder.join("error.log"));
        Self::start(&mut command, port)
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A back end.
pub(super) struct Back {
    port: u16,
    _process: Process,
}

impl Back {
    pub(super) fn start(directory: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let body = "x".repeat(256);
        let http = format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"{body}\"; }} }}");
        Ok(Self { port, _process: Process::nginx(directory, port, REST, &http)? })
    }
}

/// Whatever is measured.
pub(super) struct Front {
    port: u16,
    _process: Option<Process>,
}

impl Front {
    pub(super) fn nginx(directory: &Path, backs: &[Back]) -> Result<Self, Failure> {
        let port = free_port()?;
        let servers: String = backs.iter().map(|back| format!("server 127.0.0.1:{};", back.port)).collect();
        let http = format!(
            "upstream back {{ {servers} keepalive 256; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://back; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;\n\
             proxy_set_header X-Forwarded-Host $http_host; }} }}"
        );
        Ok(Self { port, _process: Some(Process::nginx(directory, port, FRONT, &http)?) })
    }

    pub(super) fn ms(directory: &Path, backs: &[Back]) -> Result<Self, Failure> {
        let port = free_port()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port)).to_string();
        let backs: Vec<_> = backs.iter().map(|back| format!("127.0.0.1:{}", back.port)).collect();
        let log = fs::File::create(file(directory, "ms", port))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lb-front", &address, &backs.join(",")]).stderr(log);
        Ok(Self { port, _process: Some(Process::start(&mut command, port)?) })
    }

    /// The back end itself.
    pub(super) fn none(back: &Back) -> Self {
        Self { port: back.port, _process: None }
    }

    pub(super) fn load(&self, time: Duration, connections: u32) -> Result<Run, Failure> {
        self.start(time, connections)?.finish()
    }

    pub(super) fn start(&self, time: Duration, connections: u32) -> Result<Load, Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &REST.to_string(), "wrk", "--latency", "-t1"]);
        command.args([format!("-c{connections}"), format!("-d{}s", time.as_secs())]);
        command.arg(format!("http://127.0.0.1:{}/page?id=5", self.port)).stdout(Stdio::piped());
        Ok(Load(command.spawn()?))
    }
}

/// Load under way.
pub(super) struct Load(Child);

/// Figures of one load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Answers that are not 2xx or 3xx, and lost connections.
    pub(super) errors: u64,
}

impl Load {
    pub(super) fn finish(self) -> Result<Run, Failure> {
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Run::parse(&text).ok_or_else(|| format!("wrk says nothing that can be read:\n{text}").into())
    }
}

impl Run {
    /// A row of the table.
    pub(super) fn row(&self, name: &str) -> String {
        let Self { rate, p50_ms, p99_ms, errors } = self;
        format!("| {name} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {errors} |\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.trim().strip_prefix(name)).map(|rest| rest.trim_start_matches(':').trim())
        };
        let refused = field("Non-2xx or 3xx responses").map_or(Some(0), |count| count.parse().ok())?;
        let lost: u64 = field("Socket errors").map_or(0, |counts| {
            counts.split(|c: char| !c.is_ascii_digit()).filter_map(|count| count.parse::<u64>().ok()).sum()
        });
        Some(Self {
            rate: field("Requests/sec")?.parse().ok()?,
            p50_ms: millis(field("50%")?)?,
            p99_ms: millis(field("99%")?)?,
            errors: refused + lost,
        })
    }
}

/// A time as wrk writes it, such as `1.20ms` or `850.00us`.
fn millis(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_wrk_are_read() {
        let text = "  Latency Distribution\n     50%  850.00us\n     75%    1.02ms\n     90%    1.20ms\n     99%    2.50ms\n\
            \x20 100 requests in 1.00s\n  Socket errors: connect 0, read 3, write 1, timeout 0\n  Non-2xx or 3xx responses: 7\nRequests/sec:   1234.50\n";
        let run = Run::parse(text).unwrap();
        assert_eq!((run.rate, run.p50_ms, run.p99_ms, run.errors), (1234.5, 0.85, 2.5, 11));
        assert!(Run::parse("nothing").is_none());
    }
}
