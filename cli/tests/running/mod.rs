//! A process of `ms`, and what it answers over HTTP.

#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod cluster;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Dropping it kills the process.
pub(crate) struct Running {
    process: Child,
    pub(crate) said: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Starts a server; it is ready when this returns.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_ms")).args(arguments))
    }

    /// The same for a command that becomes `ms`.
    pub(crate) fn run(command: &mut Command) -> Self {
        Self::with_log(command, Stdio::null())
    }

    /// The same, with its log in this file.
    pub(crate) fn logged(command: &mut Command, log: &Path) -> Self {
        Self::with_log(command, File::create(log).unwrap().into())
    }

    fn with_log(command: &mut Command, log: Stdio) -> Self {
        let mut process = command.env_remove("MS_REGISTRY").stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains(" ready: "), "{command:?}: it said {said:?}");
        Self { process, said }
    }

    /// Waits for the end after this signal; returns the exit code.
    pub(crate) fn end_by(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
        self.process.wait().unwrap().code()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The address after this word in the line that says ready.
    pub(crate) fn address(&self, word: &str) -> String {
        let rest = self.said.split_once(&format!("{word} on ")).unwrap().1;
        rest.split([',', ' ', '\n']).next().unwrap().to_owned()
    }

    pub(crate) fn get(&self, target: &str) -> String {
        self.ask("GET", target, "").1
    }

    /// The status and the body of an answer.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("HTTP")).unwrap();
        write!(stream, "{method} {target} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// SIGTERM must end it well.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}
