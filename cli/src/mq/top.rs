//! `ms mq top`: rates of queues.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use clap::Args;
use ms_mq::{MqClient, QueueStats};
use rustix::termios::tcgetwinsize;
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::{
    exit::Failure,
    output::{Output, cells, row, table},
    signals, times,
};

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Default: all topics.
    topic: Option<String>,
    /// Time between two measurements.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = times::parse)]
    interval: Duration,
    /// Measures once over the interval, prints every queue and ends. Default: a screen of the busiest queues, until a signal.
    #[arg(long)]
    once: bool,
}

const COLUMNS: [&str; 11] = [
    "topic",
    "queue",
    "ready",
    "delayed",
    "leased",
    "dead",
    "pushed_s",
    "popped_s",
    "acked_s",
    "failed_s",
    "oldest_ms",
];

/// Queues of all nodes, summed by topic and bind key.
type Queues = BTreeMap<(String, String), QueueStats>;

struct Sample {
    at: Instant,
    nodes: usize,
    queues: Queues,
}

async fn sample(client: &MqClient, topic: Option<&str>) -> Result<Sample, Failure> {
    let stats = client.stats(topic).await?;
    let (at, nodes, mut queues) = (Instant::now(), stats.len(), Queues::new());
    for topic in stats.into_iter().flat_map(|(_, topics)| topics) {
        for found in topic.queues {
            let sum = queues.entry((topic.topic.clone(), found.queue.clone())).or_default();
            sum.ready += found.ready;
            sum.delayed += found.delayed;
            sum.leased += found.leased;
            sum.dead += found.dead;
            sum.pushed += found.pushed;
            sum.popped += found.popped;
            sum.acked += found.acked;
            sum.failed += found.failed;
            sum.paused |= found.paused;
            sum.oldest_ms = sum.oldest_ms.max(found.oldest_ms);
        }
    }
    Ok(Sample { at, nodes, queues })
}

/// Rows of the queues, the busiest first.
fn rates(before: &Sample, now: &Sample) -> Vec<Map<String, Value>> {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let none = QueueStats::default();
    let mut rows: Vec<_> = now
        .queues
        .iter()
        .map(|(name, queue)| {
            let first = before.queues.get(name).unwrap_or(&none);
            // A counter that fell is that of a node that has started again.
            let rate = |of: fn(&QueueStats) -> u64| {
                (of(queue).saturating_sub(of(first)) as f64 / seconds * 10.0).round() / 10.0
            };
            let [pushed, popped, acked, failed] = [
                rate(|queue| queue.pushed),
                rate(|queue| queue.popped),
                rate(|queue| queue.acked),
                rate(|queue| queue.failed),
            ];
            let row = row! {
                "topic": name.0.as_str(),
                "queue": name.1.as_str(),
                "ready": queue.ready,
                "delayed": queue.delayed,
                "leased": queue.leased,
                "dead": queue.dead,
                "pushed_s": pushed,
                "popped_s": popped,
                "acked_s": acked,
                "failed_s": failed,
                "oldest_ms": queue.oldest_ms,
                "paused": queue.paused,
            };
            (pushed + popped, queue.ready, row)
        })
        .collect();
    rows.sort_by(|(rate, ready, _), (other_rate, other_ready, _)| {
        other_rate.total_cmp(rate).then(other_ready.cmp(ready))
    });
    rows.into_iter().map(|(_, _, row)| row).collect()
}

pub(super) async fn run(client: &MqClient, args: &TopArgs, output: &Output) -> Result<(), Failure> {
    if args.interval < Duration::from_millis(100) {
        return Err(Failure::Usage("--interval: at least 100ms".to_owned()));
    }
    let topic = args.topic.as_deref();
    let mut before = sample(client, topic).await?;
    if args.once {
        sleep(args.interval).await;
        return output.rows(&COLUMNS, &rates(&before, &sample(client, topic).await?));
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage("`top` draws on a terminal: elsewhere use `top --once`".to_owned()));
    }
    let mut signal = std::pin::pin!(signals::end());
    let screen = Screen::open()?;
    let mut error = None;
    loop {
        tokio::select! {
            () = sleep(args.interval) => {}
            _ = &mut signal => return Ok(()),
        }
        // A node that cannot be reached now may be back soon.
        match sample(client, topic).await {
            Ok(now) => {
                screen.draw(&rates(&before, &now), now.nodes)?;
                before = now;
                error = None;
            }
            Err(failure) if error.as_ref() != Some(&failure.to_string()) => {
                screen.say(&failure)?;
                error = Some(failure.to_string());
            }
            Err(_) => {}
        }
    }
}

/// The terminal's second screen; dropping it brings the first one back.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l\x1b[H\x1b[Jmeasuring ..")?;
        io::stdout().flush()?;
        Ok(Self)
    }

    /// Draws as many rows as there are lines.
    fn draw(&self, rows: &[Map<String, Value>], nodes: usize) -> io::Result<()> {
        // A terminal may not know its size.
        let known = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (lines, columns) =
            known.map_or((24, 80), |size| (usize::from(size.ws_row.max(3)), usize::from(size.ws_col)));
        let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_f64()).sum::<f64>();
        let queues = rows.len();
        let head = format!(
            "{nodes} nodes, {queues} queues: {} ready, {} leased, {} dead, {:.1} pushed/s, {:.1} acked/s. Ctrl-C ends.",
            sum("ready"),
            sum("leased"),
            sum("dead"),
            sum("pushed_s"),
            sum("acked_s")
        );
        let mut text = Vec::new();
        table(&mut text, &cells(&COLUMNS, &rows[..queues.min(lines - 2)]))?;
        let text = String::from_utf8_lossy(&text);
        let mut out = io::stdout().lock();
        write!(out, "\x1b[H")?;
        for (at, line) in std::iter::once(head.as_str()).chain(text.lines()).take(lines).enumerate() {
            let line: String = line.chars().take(columns).collect();
            let end = if at + 1 < lines { "\r\n" } else { "" };
            write!(out, "{line}\x1b[K{end}")?;
        }
        write!(out, "\x1b[J")?;
        out.flush()
    }

    fn say(&self, failure: &Failure) -> io::Result<()> {
        write!(io::stdout(), "\x1b[H\x1b[K{failure}")?;
        io::stdout().flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = write!(io::stdout(), "\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
    }
}
