//! The envelope: JSON-RPC 2.0.

use registryd_proto::Code;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::Command;

/// The text `2.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionTag {
    /// The only version.
    #[serde(rename = "2.0")]
    V2,
}

/// A request line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// `"2.0"`.
    pub jsonrpc: VersionTag,
    /// Chosen by the client, told again in the response. A number or a text.
    pub id: Value,
    /// Method and params.
    #[serde(flatten)]
    pub command: Command,
}

/// A response line: either `result` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// `"2.0"`.
    pub jsonrpc: VersionTag,
    /// Of the request; null if the request could not be read.
    pub id: Value,
    /// The answer of the verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// JSON-RPC's number: -32700 no JSON, -32600 no request, -32601 no such method, -32602 bad params,
    /// -32000 everything of ours.
    pub code: i32,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: RpcErrorData,
}

/// What programs compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcErrorData {
    /// The word of the exit-code table.
    pub code: Code,
    /// What to do about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// [`Code::retryable`].
    pub retryable: bool,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What is known nevertheless: for a `send` that timed out, its `id`, `state`, `delivered` and `of`;
    /// for `untrusted_key`, both fingerprints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// A line from peerd that answers no request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// `"2.0"`.
    pub jsonrpc: VersionTag,
    /// What it is.
    #[serde(flatten)]
    pub notice: Notice,
}

/// What peerd tells unasked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Notice {
    /// An event, in the order of the log.
    Event(super::event::Event),
    /// Events before `resume` are gone, or the number asked for is above the head; the stream goes on at
    /// `resume`. It has no number and is told to this reader alone.
    Lagged {
        /// The next number that will come.
        resume: u64,
    },
}
