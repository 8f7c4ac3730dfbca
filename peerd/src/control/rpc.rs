//! Envelopes: a line to a request, an outcome to a line, every failure to a code.

use peerd_proto::control::{
    Command, LINE_BYTES_MAX, Notice, Notification, Response, RpcError, RpcErrorData, VersionTag,
};
use registryd_proto::Code;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    core::CommandFailure,
    daemon::{self, StoreError},
};

/// The longest id of a request, as JSON.
const ID_BYTES_MAX: usize = 256;

const NO_JSON: i32 = -32700;
const NO_REQUEST: i32 = -32600;
const NO_SUCH_METHOD: i32 = -32601;
const BAD_PARAMS: i32 = -32602;
const OURS: i32 = -32000;

/// A request that could be read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: Value,
    pub(super) command: Command,
}

/// Reads a request, or says what is wrong with it, under the id it has, if it has one.
pub(super) fn parse(line: &[u8]) -> Result<Asked, Box<Response>> {
    let no_id = |code, message: &str| refuse(Value::Null, code, message.to_owned());
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| refuse(Value::Null, NO_JSON, format!("this is no JSON: {error}")))?;
    let Value::Object(mut object) = value else {
        return Err(no_id(NO_REQUEST, "a request is an object; batches are not supported"));
    };
    let id = match object.remove("id") {
        Some(id @ (Value::Number(_) | Value::String(_)))
            if id.to_string().len() <= ID_BYTES_MAX =>
        {
            id
        }
        _ => return Err(no_id(NO_REQUEST, "a request has an id, a number or a text")),
    };
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(refuse(id, NO_REQUEST, "jsonrpc must be \"2.0\"".to_owned()));
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return Err(refuse(id, NO_REQUEST, "a request has a method".to_owned()));
    };
    let params = match object.remove("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(refuse(id, BAD_PARAMS, "params are an object".to_owned())),
    };
    if !is_method(&method) {
        return Err(refuse(id, NO_SUCH_METHOD, format!("no method {method:.64}")));
    }
    let mut command = Map::new();
    command.insert("method".to_owned(), Value::String(method));
    command.insert("params".to_owned(), Value::Object(params));
    match serde_json::from_value(Value::Object(command)) {
        Ok(command) => Ok(Asked { id, command }),
        Err(error) => Err(refuse(id, BAD_PARAMS, format!("bad params: {error}"))),
    }
}

/// Every verb has params, so one without is refused for lacking them, and an unknown one for its name.
fn is_method(method: &str) -> bool {
    let bare = serde_json::json!({ "method": method });
    match serde_json::from_value::<Command>(bare) {
        Ok(_) => true,
        Err(error) => !error.to_string().starts_with("unknown variant"),
    }
}

fn refuse(id: Value, code: i32, message: String) -> Box<Response> {
    let data = RpcErrorData {
        code: Code::Usage,
        hint: None,
        retryable: Code::Usage.retryable(),
        retry_after_ms: None,
        details: None,
    };
    let error = RpcError { code, message, data };
    Box::new(Response { jsonrpc: VersionTag::V2, id, result: None, error: Some(error) })
}

/// What the outside learns of a failure of the core.
pub(super) fn from_failure(failure: CommandFailure) -> RpcError {
    let data = RpcErrorData {
        code: failure.code,
        hint: failure.hint,
        retryable: failure.code.retryable(),
        retry_after_ms: failure.retry_after_ms,
        details: failure.details,
    };
    RpcError { code: OURS, message: failure.message, data }
}

/// What the outside learns of a failure of the store; the inside goes to the log.
pub(super) fn from_store(error: &StoreError) -> RpcError {
    let (code, message) = match error {
        StoreError::Full(_) => return from_failure(daemon::not_done()),
        StoreError::TooManyConsumers(_) | StoreError::ConsumerAhead { .. } => {
            (Code::Usage, error.to_string())
        }
        StoreError::Stopped => (Code::PeerdNotRunning, "peerd is stopping".to_owned()),
        StoreError::Open { .. }
        | StoreError::Sqlite(_)
        | StoreError::Damaged { .. }
        | StoreError::Foreign { .. }
        | StoreError::Missing { .. }
        | StoreError::Newer { .. }
        | StoreError::Copy(_)
        | StoreError::Row { .. }
        | StoreError::Randomness => {
            tracing::error!(error = error as &dyn std::error::Error, "a read of the store failed");
            (Code::Internal, "the store failed; the log of peerd has more".to_owned())
        }
    };
    from_failure(CommandFailure::new(code, message))
}

/// A response as a line. An answer too large for one becomes an error.
pub(super) fn response(id: Value, outcome: Result<Value, RpcError>) -> Vec<u8> {
    let (result, error) = match outcome {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    };
    let sized = line(&Response { jsonrpc: VersionTag::V2, id: id.clone(), result, error });
    if sized.len() <= LINE_BYTES_MAX {
        return sized;
    }
    let failure = CommandFailure::new(Code::Internal, "the answer is too large for a line");
    let error = Some(from_failure(failure));
    line(&Response { jsonrpc: VersionTag::V2, id, result: None, error })
}

/// A notification as a line.
pub(super) fn notification(notice: Notice) -> Vec<u8> {
    line(&Notification { jsonrpc: VersionTag::V2, notice })
}

/// Any envelope as a line.
pub(super) fn line(envelope: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(envelope).expect("envelopes are plain JSON");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(line: &str) -> (Value, i32) {
        let response = parse(line.as_bytes()).expect_err(line);
        let error = response.error.expect("an error");
        assert_eq!(error.data.code, Code::Usage);
        (response.id, error.code)
    }

    #[test]
    fn what_is_wrong_has_its_code_and_its_id() {
        let cases = [
            ("", Value::Null, NO_JSON),
            ("{", Value::Null, NO_JSON),
            ("[]", Value::Null, NO_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"status"}"#, Value::Null, NO_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"status"}"#, Value::Null, NO_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#, 1.into(), NO_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, 1.into(), NO_REQUEST),
            (r#"{"jsonrpc":"2.0","id":"a","method":"fly"}"#, "a".into(), NO_SUCH_METHOD),
            (r#"{"jsonrpc":"2.0","id":1,"method":"search"}"#, 1.into(), BAD_PARAMS),
            (r#"{"jsonrpc":"2.0","id":1,"method":"search","params":[]}"#, 1.into(), BAD_PARAMS),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"search","params":{"username":"A B"}}"#,
                1.into(),
                BAD_PARAMS,
            ),
        ];
        for (line, id, code) in cases {
            assert_eq!(code_of(line), (id, code), "{line}");
        }
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"params":{}"#, "[".repeat(100_000));
        assert_eq!(code_of(&deep).1, NO_JSON);
    }

    #[test]
    fn params_may_be_left_out_where_none_are_needed() {
        let asked = parse(br#"{"jsonrpc":"2.0","id":7,"method":"status"}"#).expect("a request");
        assert_eq!(asked.command, Command::Status(peerd_proto::control::Status {}));
        assert_eq!(asked.id, 7);
    }
}
