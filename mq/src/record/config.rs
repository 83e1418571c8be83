//! Settings of a topic in its record. Pure.

use super::{put_numbers, tag};
use crate::{
    Extensions, Rate, Settings,
    message::Millis,
    route::Mode,
    varint::{Reader, put, put_bytes},
};

/// Settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub(crate) mode: Mode,
    pub(crate) auto_ack: bool,
    pub(crate) ttr: Millis,
    pub(crate) max_retries: u16,
    /// Ready, delayed and leased messages of one queue.
    pub(crate) max_length: u64,
    pub(crate) dedup_window: Millis,
    /// When it was made.
    pub(crate) created: Millis,
    /// Dead letters of one queue; the oldest ones beyond them are dropped.
    pub(crate) max_dead: u64,
    /// Dead letters that are older are dropped.
    pub(crate) dead_age: Millis,
    /// The time to live of messages that say nothing of it.
    pub(crate) ttl: Millis,
    /// Least pauses after the first failed delivery, the second, and so on.
    pub(crate) backoff: Vec<Millis>,
    /// Leases of one queue at the same time.
    pub(crate) max_leased: u64,
    /// Deliveries of one queue.
    pub(crate) rate: Option<Rate>,
    /// When its settings were changed last; 0: never.
    pub(crate) changed: Millis,
}

const DEFAULT_TTR: Millis = 30_000;
const DEFAULT_RETRIES: u16 = 5;
const DEFAULT_DEDUP: Millis = 10 * 60 * 1000;
const DEFAULT_DEAD: u64 = 100_000;

impl TopicConfig {
    /// The defaults.
    pub(crate) fn new(created: Millis) -> Self {
        Self {
            mode: Mode::Exact,
            auto_ack: false,
            ttr: DEFAULT_TTR,
            max_retries: DEFAULT_RETRIES,
            max_length: u64::MAX,
            dedup_window: DEFAULT_DEDUP,
            created,
            max_dead: DEFAULT_DEAD,
            dead_age: Millis::MAX,
            ttl: Millis::MAX,
            backoff: Vec::new(),
            max_leased: u64::MAX,
            rate: None,
            changed: 0,
        }
    }

    /// The configuration with these settings over its own.
    pub(crate) fn with(&self, settings: &Settings) -> Self {
        let Settings { backoff_ms, rate, .. } = settings;
        Self {
            mode: settings.mode.unwrap_or(self.mode),
            auto_ack: settings.auto_ack.unwrap_or(self.auto_ack),
            ttr: settings.ttr_ms.unwrap_or(self.ttr),
            max_retries: settings.max_retries.unwrap_or(self.max_retries),
            max_length: settings.max_length.unwrap_or(self.max_length),
            dedup_window: settings.dedup_window_ms.unwrap_or(self.dedup_window),
            max_dead: settings.max_dead.unwrap_or(self.max_dead),
            dead_age: settings.dead_age_ms.unwrap_or(self.dead_age),
            ttl: settings.ttl_ms.unwrap_or(self.ttl),
            backoff: backoff_ms.clone().unwrap_or_else(|| self.backoff.clone()),
            max_leased: settings.max_leased.unwrap_or(self.max_leased),
            rate: rate.map_or(self.rate, |rate| Some(rate).filter(|rate| *rate != Rate::UNLIMITED)),
            created: self.created,
            changed: self.changed,
        }
    }

    /// Least time until the next delivery, after so many failed ones.
    pub(crate) fn pause(&self, failures: u16) -> Millis {
        let last = self.backoff.len().saturating_sub(1);
        self.backoff.get(usize::from(failures).saturating_sub(1).min(last)).copied().unwrap_or(0)
    }

    pub(crate) fn settings(&self) -> Settings {
        let limit = |value: u64| (value < u64::MAX).then_some(value);
        Settings {
            mode: Some(self.mode),
            auto_ack: Some(self.auto_ack),
            ttr_ms: Some(self.ttr),
            max_retries: Some(self.max_retries),
            max_length: limit(self.max_length),
            dedup_window_ms: Some(self.dedup_window),
            max_dead: limit(self.max_dead),
            dead_age_ms: limit(self.dead_age),
            ttl_ms: limit(self.ttl),
            backoff_ms: (!self.backoff.is_empty()).then(|| self.backoff.clone()),
            max_leased: limit(self.max_leased),
            rate: self.rate,
            extensions: Extensions::default(),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(match self.mode {
            Mode::Exact => 1,
            Mode::Fuzzy => 2,
        });
        out.push(u8::from(self.auto_ack));
        let retries = u64::from(self.max_retries);
        put_numbers(&[self.ttr, retries, self.max_length, self.dedup_window, self.created], out);
        let limit = |tag, value| (value < u64::MAX).then(|| (tag, vec![value]));
        let extensions = [
            limit(tag::MAX_DEAD, self.max_dead),
            limit(tag::DEAD_AGE, self.dead_age),
            limit(tag::TTL, self.ttl),
            limit(tag::MAX_LEASED, self.max_leased),
            (!self.backoff.is_empty()).then(|| (tag::BACKOFF, self.backoff.clone())),
            self.rate.map(|rate| (tag::RATE, vec![rate.messages.into(), rate.per_ms.into()])),
            (self.changed > 0).then(|| (tag::CHANGED, vec![self.changed])),
        ];
        for (tag, numbers) in extensions.into_iter().flatten() {
            let mut value = Vec::new();
            put_numbers(&numbers, &mut value);
            put(tag, out);
            put_bytes(&value, out);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut config = Self {
            mode: match from.byte()? {
                1 => Mode::Exact,
                2 => Mode::Fuzzy,
                _ => return None,
            },
            auto_ack: from.byte()? != 0,
            ttr: from.number()?,
            max_retries: from.small()?,
            max_length: from.number()?,
            dedup_window: from.number()?,
            max_dead: u64::MAX,
            ..Self::new(from.number()?)
        };
        while !from.is_empty() {
            let (tag, mut value) = (from.number()?, Reader(from.bytes()?));
            match tag {
                tag::MAX_DEAD => config.max_dead = value.number()?,
                tag::DEAD_AGE => config.dead_age = value.number()?,
                tag::TTL => config.ttl = value.number()?,
                tag::MAX_LEASED => config.max_leased = value.number()?,
                tag::CHANGED => config.changed = value.number()?,
                tag::RATE => config.rate = Some(Rate { messages: value.small()?, per_ms: value.small()? }),
                tag::BACKOFF => {
                    while !value.is_empty() {
                        config.backoff.push(value.number()?);
                    }
                }
                _ => {}
            }
        }
        Some(config)
    }
}
