//! One line of the text protocol. Pure.

use ms_mq::{DEFAULT_QUEUE, Mode, Push, QueueName, Settings};

use crate::{
    limits::{DELAY, MESSAGES, PARAMETERS},
    protocol::Refusal,
};

/// Request of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Declare(QueueName),
    /// Its body follows.
    Push(Push),
    /// A topic, and the number of messages that follow.
    PushAll(String, u32),
    Pop(QueueName),
    Ack {
        id: String,
        queue: QueueName,
    },
    /// A topic, and a bind key or a number of messages.
    Dead(String, String),
    Configure(String, Settings),
    Subscribe(String),
    /// A channel, whose message follows.
    Publish(String),
    /// A channel and its message.
    PublishLine(String, String),
    Ping,
}

/// Why a line is none, and what follows it.
#[derive(Debug, PartialEq)]
pub(crate) enum Problem {
    Line(Refusal),
    /// A body follows.
    Body(Refusal),
    /// What follows cannot be told apart.
    End(Refusal),
}

/// Reads a line, without its end.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Problem> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line)
        .map_err(|_| Problem::End(Refusal::new("E_INVALID_CMD", "the command is no UTF-8 text")))?;
    let (command, rest) = line.split_once(' ').map_or((line, None), |(command, rest)| (command, Some(rest)));
    let parameters: Vec<_> = rest.iter().flat_map(|rest| rest.split(' ')).take(PARAMETERS + 1).collect();
    match (command, &parameters[..]) {
        ("queue", [topic, queue]) => declare(topic, queue),
        ("pub", [topic, route, delay]) => push(topic, route, delay),
        ("pub", [topic, delay]) => push(topic, "", delay),
        ("mpub", [topic, count]) => match count.parse() {
            Ok(count @ 1..=MESSAGES) => Ok(Command::PushAll((*topic).to_owned(), count)),
            _ => {
                let text = format!("number of push must be between 1 and {MESSAGES}");
                Err(Problem::End(Refusal::new("E_INVALID_PUSHNUM", text)))
            }
        },
        ("pop", [topic, queue]) => Ok(Command::Pop(name(topic, queue))),
        ("pop", [topic]) => Ok(Command::Pop(name(topic, ""))),
        ("ack", [id, topic, queue]) => Ok(Command::Ack { id: (*id).to_owned(), queue: name(topic, queue) }),
        ("ack", [id, topic]) => Ok(Command::Ack { id: (*id).to_owned(), queue: name(topic, "") }),
        ("dead", [topic, second]) => Ok(Command::Dead((*topic).to_owned(), (*second).to_owned())),
        ("set", [topic, auto_ack, mode, ttr, retries]) => configure(topic, [auto_ack, mode, ttr, retries]),
        ("set", [topic, auto_ack]) => configure(topic, [auto_ack, "", "", ""]),
        ("subscribe", [channel]) => Ok(Command::Subscribe(is_named(channel)?)),
        ("publish", [channel]) => Ok(Command::Publish(is_named(channel)?)),
        // Clients before the length-prefixed body write the message into the line.
        ("publish", [channel, ..]) => {
            let message = rest.and_then(|rest| rest.split_once(' ')).map_or("", |(_, message)| message);
            Ok(Command::PublishLine(is_named(channel)?, message.to_owned()))
        }
        ("ping", _) => Ok(Command::Ping),
        ("subscribe" | "publish", _) => Err(count(1)),
        ("queue" | "mpub" | "pop" | "dead", _) => Err(count(2)),
        ("pub" | "ack", _) => Err(count(3)),
        ("set", _) => Err(count(5)),
        (unknown, _) => {
            let shown: String = unknown.chars().take(255).collect();
            Err(Problem::Line(Refusal::new("E_INVALID_CMD", format!("unkown cmd: {shown}"))))
        }
    }
}

fn count(required: usize) -> Problem {
    Problem::End(Refusal::new("E_INVALID_PARAMS", format!("{required} parameters required")))
}

/// An empty bind key stands for the queue `default`.
pub(super) fn name(topic: &str, queue: &str) -> QueueName {
    QueueName::new(topic, if queue.is_empty() { DEFAULT_QUEUE } else { queue })
}

fn is_named(channel: &str) -> Result<String, Problem> {
    match channel.len() {
        0 => Err(Problem::Line(Refusal::new("E_INVALID_CHANNEL", "channel name required"))),
        1..=255 => Ok(channel.to_owned()),
        length => {
            let text = format!("the channel's name has {length} bytes, at most 255 are allowed");
            Err(Problem::Line(Refusal::new("E_INVALID_CHANNEL", text)))
        }
    }
}

fn declare(topic: &str, queue: &str) -> Result<Command, Problem> {
    if topic.is_empty() {
        return Err(Problem::Line(Refusal::new("E_INVALID_TOPIC", "topic name required")));
    }
    if queue.is_empty() {
        return Err(Problem::Line(Refusal::new("E_INVALID_BINDKEY", "bind key required")));
    }
    Ok(Command::Declare(QueueName::new(topic, queue)))
}

fn push(topic: &str, route: &str, delay: &str) -> Result<Command, Problem> {
    let delay = match delay {
        "" => Ok(0),
        delay => delay.parse().map_err(|_| Refusal::new("E_INVALID_DELAY", format!("delay:{delay} is no number"))),
    };
    let delay_ms = delay.and_then(delay_ms).map_err(Problem::Body)?;
    Ok(Command::Push(Push { delay_ms, ..pushed(topic, route) }))
}

/// A push without its body; an empty route key is none.
pub(super) fn pushed(topic: &str, route: &str) -> Push {
    let push = Push::new(topic, Vec::new());
    if route.is_empty() { push } else { push.to(route) }
}

/// A delay in seconds as milliseconds.
pub(super) fn delay_ms(seconds: u64) -> Result<u64, Refusal> {
    if seconds > DELAY {
        return Err(Refusal::new("E_INVALID_DELAY", format!("delay can't exceeding the maximum {DELAY}")));
    }
    Ok(seconds * 1000)
}

/// Values that are empty, or 0 for all but the first, stay as they are.
fn configure(topic: &str, [auto_ack, mode, ttr, retries]: [&str; 4]) -> Result<Command, Problem> {
    let refused = |text: String| Problem::Line(Refusal::new("E_INVALID_SET", text));
    if topic.is_empty() {
        return Err(Problem::Line(Refusal::new("E_INVALID_TOPIC", "topic is empty")));
    }
    let auto_ack = match auto_ack {
        "" => None,
        "0" => Some(false),
        "1" => Some(true),
        other => return Err(refused(format!("isAutoAck:{other} is unknown: use 0 or 1"))),
    };
    let mode = match mode {
        "" | "0" => None,
        "1" => Some(Mode::Exact),
        "2" => Some(Mode::Fuzzy),
        other => return Err(refused(format!("mode:{other} is unknown: 1 is exact, 2 is fuzzy"))),
    };
    let number = |name: &str, given: &str| match given {
        "" => Ok(None),
        given => match given.parse::<u16>() {
            Ok(number) => Ok((number > 0).then_some(number)),
            Err(_) => Err(refused(format!("{name}:{given} is no number from 0 to {}", u16::MAX))),
        },
    };
    let ttr_ms = number("msgTTR", ttr)?.map(|seconds| u64::from(seconds) * 1000);
    let max_retries = number("msgRetry", retries)?;
    let settings = Settings { mode, auto_ack, ttr_ms, max_retries, ..Settings::default() };
    Ok(Command::Configure(topic.to_owned(), settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        match parse(line.as_bytes()) {
            Err(Problem::Line(refusal)) => format!("{} - {}", refusal.code, refusal.text),
            Err(Problem::Body(refusal)) => format!("body: {} - {}", refusal.code, refusal.text),
            Err(Problem::End(refusal)) => format!("end: {} - {}", refusal.code, refusal.text),
            Ok(command) => panic!("{line}: {command:?}"),
        }
    }

    fn parsed(line: &str) -> Command {
        parse(line.as_bytes()).unwrap_or_else(|problem| panic!("{line}: {problem:?}"))
    }

    #[test]
    fn the_number_of_parameters_tells_the_variants_apart() {
        let default = || QueueName::new("t", "default");
        assert_eq!(parsed("pub t k 2"), Command::Push(Push { delay_ms: 2000, ..Push::new("t", vec![]).to("k") }));
        assert_eq!(parsed("pub t  2"), Command::Push(Push { delay_ms: 2000, ..Push::new("t", vec![]) }));
        assert_eq!(parsed("pub t 2"), parsed("pub t  2"));
        assert_eq!(parsed("pub t k "), parsed("pub t k 0"));
        assert_eq!(parsed("pop t k"), Command::Pop(QueueName::new("t", "k")));
        assert_eq!(parsed("pop t"), Command::Pop(default()));
        assert_eq!(parsed("pop t "), Command::Pop(default()));
        assert_eq!(parsed("pop t\r"), Command::Pop(default()));
        assert_eq!(parsed("ack 7 t k"), Command::Ack { id: "7".into(), queue: QueueName::new("t", "k") });
        assert_eq!(parsed("ack 7 t"), Command::Ack { id: "7".into(), queue: default() });
        assert_eq!(parsed("dead t 10"), Command::Dead("t".into(), "10".into()));
        assert_eq!(parsed("mpub t 1000"), Command::PushAll("t".into(), 1000));
        assert_eq!(parsed("subscribe c"), Command::Subscribe("c".into()));
        assert_eq!(parsed("publish c"), Command::Publish("c".into()));
        assert_eq!(parsed("publish c hello  world "), Command::PublishLine("c".into(), "hello  world ".into()));
        assert_eq!(parsed(&format!("publish c{}", " x".repeat(50))), {
            Command::PublishLine("c".into(), "x ".repeat(50).trim_end().to_owned())
        });
        assert_eq!(parsed("ping x"), Command::Ping);
        assert_eq!(parsed("ping"), Command::Ping);
    }

    #[test]
    fn settings_are_changed_where_they_are_given() {
        let set = |line| match parsed(line) {
            Command::Configure(topic, settings) if topic == "t" => settings,
            other => panic!("{other:?}"),
        };
        let all = Settings {
            auto_ack: Some(true),
            mode: Some(Mode::Fuzzy),
            ttr_ms: Some(30_000),
            max_retries: Some(5),
            ..Settings::default()
        };
        assert_eq!(set("set t 1 2 30 5"), all);
        let alone = Settings { auto_ack: Some(false), ..Settings::default() };
        assert_eq!(set("set t 0"), alone);
        assert_eq!(set("set t 0 0 0 0"), alone);
        assert_eq!(set("set t    "), Settings::default());
        assert_eq!(refused("set t 2"), "E_INVALID_SET - isAutoAck:2 is unknown: use 0 or 1");
        assert_eq!(refused("set t 1 3 0 0"), "E_INVALID_SET - mode:3 is unknown: 1 is exact, 2 is fuzzy");
        assert_eq!(refused("set t 1 1 x 0"), "E_INVALID_SET - msgTTR:x is no number from 0 to 65535");
        assert_eq!(refused("set t 1 1 9 -1"), "E_INVALID_SET - msgRetry:-1 is no number from 0 to 65535");
        assert_eq!(refused("set  1"), "E_INVALID_TOPIC - topic is empty");
    }

    #[test]
    fn what_is_wrong_is_named_and_what_follows_is_known() {
        for (line, expected) in [
            ("foo", "E_INVALID_CMD - unkown cmd: foo"),
            ("foo a b", "E_INVALID_CMD - unkown cmd: foo"),
            ("", "E_INVALID_CMD - unkown cmd: "),
            ("pop", "end: E_INVALID_PARAMS - 2 parameters required"),
            ("pop a b c", "end: E_INVALID_PARAMS - 2 parameters required"),
            ("pub t", "end: E_INVALID_PARAMS - 3 parameters required"),
            ("pub t k 0 x", "end: E_INVALID_PARAMS - 3 parameters required"),
            ("ack 1", "end: E_INVALID_PARAMS - 3 parameters required"),
            ("set t", "end: E_INVALID_PARAMS - 5 parameters required"),
            ("subscribe", "end: E_INVALID_PARAMS - 1 parameters required"),
            ("queue t", "end: E_INVALID_PARAMS - 2 parameters required"),
            ("queue t ", "E_INVALID_BINDKEY - bind key required"),
            ("queue  k", "E_INVALID_TOPIC - topic name required"),
            ("subscribe ", "E_INVALID_CHANNEL - channel name required"),
            ("pub t k 259201", "body: E_INVALID_DELAY - delay can't exceeding the maximum 259200"),
            ("pub t k -1", "body: E_INVALID_DELAY - delay:-1 is no number"),
            ("mpub t 0", "end: E_INVALID_PUSHNUM - number of push must be between 1 and 1000"),
            ("mpub t 1001", "end: E_INVALID_PUSHNUM - number of push must be between 1 and 1000"),
            ("mpub t x", "end: E_INVALID_PUSHNUM - number of push must be between 1 and 1000"),
        ] {
            assert_eq!(refused(line), expected, "{line}");
        }
        assert!(matches!(parse(b"pop \xff k"), Err(Problem::End(_))));
        assert!(refused(&"x".repeat(60_000)).len() < 300);
        assert!(
            refused(&format!("subscribe {}", "x".repeat(256))).starts_with("E_INVALID_CHANNEL - the channel's name")
        );
    }
}
