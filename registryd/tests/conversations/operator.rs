//! An operator at the local socket of a registry in this process.

use registryd_proto::Code;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use crate::client::{PATIENCE, Registry};

pub(crate) struct Operator {
    stream: BufReader<UnixStream>,
}

impl Operator {
    pub(crate) async fn at(registry: &Registry) -> Operator {
        let path = registry.folder.path().join("admin.sock");
        let stream = UnixStream::connect(path).await.expect("the operator's socket");
        Operator { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // One that was cut finds out by reading.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next line; `None` if the registry hung up.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("in time");
        match read {
            Ok(read) if read > 0 => Some(serde_json::from_str(&line).expect("an object a line")),
            _ => None,
        }
    }

    /// A line as it is, and what is answered.
    pub(crate) async fn raw(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n").as_bytes()).await;
        self.hear().await.expect("an answer")
    }

    async fn asked(&mut self, method: &str, params: Value) -> Value {
        let request = json!({ "id": 7, "method": method, "params": params });
        let answer = self.raw(&request.to_string()).await;
        assert_eq!(answer["id"], 7, "{answer}");
        answer
    }

    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.asked(method, params).await;
        let result = answer["result"].take();
        let schema = result["schema"].as_str();
        assert!(schema.is_some_and(|s| s.starts_with("registryd.admin.")), "{answer} {result}");
        result
    }

    pub(crate) async fn code(&mut self, method: &str, params: Value) -> Code {
        let mut answer = self.asked(method, params).await;
        serde_json::from_value(answer["error"]["code"].take()).expect("a refusal")
    }

    /// The code of a new invitation.
    pub(crate) async fn invitation(&mut self, uses: u32, expires_ms: u64) -> (u64, String) {
        let params = json!({ "uses": uses, "expires_ms": expires_ms, "note": "" });
        let invite = self.ask("invites_create", params).await;
        let code = invite["code"].as_str().expect("told once").to_owned();
        (invite["id"].as_u64().expect("a number"), code)
    }
}
