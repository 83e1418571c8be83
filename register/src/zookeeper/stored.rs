//! The stored forms. Pure.

pub(super) mod curator;
pub(super) mod normal;

use serde_json::Value;

use crate::Instance;

/// Content of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Instance(Instance),
    /// A node that is neither listed nor warned of.
    Nothing,
}

/// Returns an error unless this can be one step of a path: ZooKeeper takes `.` and `..` for none.
pub(super) fn check_step(step: &str) -> Result<(), String> {
    if step.is_empty() || step == "." || step == ".." {
        return Err(format!("{step:?} cannot be a node in ZooKeeper"));
    }
    match step.chars().find(|c| c.is_control() || !c.is_ascii()) {
        Some(c) => Err(format!("{c:?} cannot be in the name of a node in ZooKeeper")),
        None => Ok(()),
    }
}

/// A weight as others write it: a number, or one as text. 0 is what they write to take an instance out of service.
fn weight(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|weight| weight.is_finite() && *weight >= 0.0).ok_or_else(|| format!("its weight is {value}"))
}

/// A port above 0.
fn port(value: &Value) -> Result<u16, String> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.filter(|port| *port > 0).ok_or_else(|| format!("its port is {value}"))
}
