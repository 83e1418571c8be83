//! Requests and responses in protocol buffers, and their values as JSON. Pure.

use prost::Message;
use prost_types::{ListValue, Struct, Value as Protobuf, value::Kind};
use serde_json::{Map, Number, Value};

/// Every integer up to here is a double of its own, and none beyond.
const LARGEST: u64 = 1 << 53;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(int64, tag = "1")]
    pub(crate) request_id: i64,
    #[prost(string, tag = "2")]
    pub(crate) service_name: String,
    #[prost(string, tag = "3")]
    pub(crate) method_name: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) args: Vec<Protobuf>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(int64, tag = "1")]
    pub(crate) request_id: i64,
    #[prost(int32, tag = "2")]
    pub(crate) code: i32,
    #[prost(string, tag = "3")]
    pub(crate) msg: String,
    #[prost(int32, tag = "4")]
    pub(crate) compress_type: i32,
    #[prost(int32, tag = "5")]
    pub(crate) serialize_type: i32,
    #[prost(message, optional, tag = "6")]
    pub(crate) data: Option<Protobuf>,
}

/// Codes of responses.
pub(crate) mod code {
    pub(crate) const OK: i32 = 200;
    pub(crate) const FAILED: i32 = 500;
    pub(crate) const LIMITED: i32 = 700;
}

/// Texts that clients compare.
pub(crate) const NO_SERVICE: &str = "no service found";
pub(crate) const NO_METHOD: &str = "no service method found";

/// A number that a double cannot hold, or JSON cannot.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the number {0} {1}")]
pub(crate) struct BadNumber(String, &'static str);

/// A value as JSON. Whole numbers below 2^53 are integers; a larger one may have been rounded on its way, and stays a floating-point
/// number, which no integer is read from.
pub(crate) fn to_json(value: Protobuf) -> Result<Value, BadNumber> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => truth.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) if is_exact(number) => (number as i64).into(),
        Some(Kind::NumberValue(number)) => match Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => return Err(BadNumber(number.to_string(), "is not finite")),
        },
        Some(Kind::ListValue(list)) => list.values.into_iter().map(to_json).collect::<Result<Vec<_>, _>>()?.into(),
        Some(Kind::StructValue(fields)) => {
            let field = |(key, value)| Ok((key, to_json(value)?));
            Value::Object(fields.fields.into_iter().map(field).collect::<Result<Map<_, _>, _>>()?)
        }
    })
}

fn is_exact(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < LARGEST as f64
}

/// Returns true if a number in it is whole, and too large to be known for sure.
pub(crate) fn may_be_rounded(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() >= LARGEST as f64),
        Value::Array(list) => list.iter().any(may_be_rounded),
        Value::Object(fields) => fields.values().any(may_be_rounded),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// JSON as a value. Integers beyond 2^53 are errors.
pub(crate) fn from_json(value: Value) -> Result<Protobuf, BadNumber> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(truth),
        Value::String(text) => Kind::StringValue(text),
        Value::Number(number) => {
            let integer = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if integer.is_some_and(|integer| integer > LARGEST) {
                return Err(BadNumber(
                    number.to_string(),
                    "is beyond 2^53: version 1 carries doubles, which would round it",
                ));
            }
            Kind::NumberValue(number.as_f64().unwrap_or_default())
        }
        Value::Array(list) => {
            Kind::ListValue(ListValue { values: list.into_iter().map(from_json).collect::<Result<_, _>>()? })
        }
        Value::Object(fields) => {
            let field = |(key, value)| Ok((key, from_json(value)?));
            Kind::StructValue(Struct { fields: fields.into_iter().map(field).collect::<Result<_, _>>()? })
        }
    };
    Ok(Protobuf { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn double(number: f64) -> Protobuf {
        Protobuf { kind: Some(Kind::NumberValue(number)) }
    }

    #[test]
    fn values_survive_both_ways() {
        for value in [
            json!(null),
            json!({"id": 5, "price": 2.5, "tags": ["a", null, true], "deep": {"x": [[]]}}),
            json!(-9_007_199_254_740_991_i64),
            json!(1e300),
        ] {
            assert_eq!(to_json(from_json(value.clone()).unwrap()), Ok(value));
        }
    }

    #[test]
    fn integers_that_a_double_rounds_are_not_taken_for_others() {
        let beyond = from_json(json!(9_007_199_254_740_993_u64)).unwrap_err();
        assert_eq!(
            beyond.to_string(),
            "the number 9007199254740993 is beyond 2^53: version 1 carries doubles, which would round it"
        );
        assert!(from_json(json!([{"n": i64::MIN}])).is_err());
        assert_eq!(from_json(json!(LARGEST)), Ok(double(LARGEST as f64)));
        // 2^53 + 1 comes as 2^53.
        let read = to_json(double((LARGEST + 1) as f64)).unwrap();
        assert!(read.as_i64().is_none() && may_be_rounded(&json!([read])), "{read}");
        assert_eq!(to_json(double(-0.0)), Ok(json!(0)));
        assert_eq!(to_json(double(f64::NAN)).unwrap_err().to_string(), "the number NaN is not finite");
    }
}
