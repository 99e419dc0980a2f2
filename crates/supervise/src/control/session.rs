//! What requests on a control channel mean: the handshake, the methods, and the errors. No I/O.

use std::sync::Arc;

use serde_json::{Value, json};

use super::host::{API_VERSION, Alert, ControlHost};
use crate::contract::ConfigText;
use crate::output::Severity;
use crate::text::escaped;

/// Characters of an alert; the rest is cut off.
const ALERT_CHARS_MAX: usize = 1_000;

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const NO_SUCH_METHOD: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
const NO_COMMON_VERSION: i64 = -32_000;
const TOO_MANY: i64 = -32_001;
const HELLO_FIRST: i64 = -32_002;
const NOT_GRANTED: i64 = -32_003;

/// What a plugin may do, and what it is told.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    /// Its name.
    pub(crate) plugin: String,
    /// Kinds of events it may subscribe to; `*` is all.
    pub(crate) events: Vec<String>,
    /// Points at which it may give hints.
    pub(crate) hooks: Vec<String>,
    /// The configuration, masked where it has to be.
    pub(crate) config: ConfigText,
    /// Who knows more.
    pub(crate) host: Option<Arc<dyn ControlHost>>,
}

/// One run's conversation.
#[derive(Debug)]
pub(crate) struct Session {
    grants: Grants,
    greeted: bool,
}

/// What follows a line.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The answer; a notification gets none.
    pub(super) text: Option<String>,
    pub(super) effect: Option<Effect>,
    pub(super) malformed: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// These kinds of events instead of those before.
    Subscribe {
        kinds: Vec<String>,
        /// From after this position; without it from where the plugin is, which begins with its start.
        after: Option<u64>,
    },
    Alert(Alert),
}

/// A code, a text, and data.
type Refusal = (i64, String, Value);

impl Session {
    pub(crate) fn new(grants: Grants) -> Self {
        Self { grants, greeted: false }
    }

    /// Takes one line; `None` is one that was too long. Requests that are not `allowed` are refused.
    pub(super) fn take(&mut self, line: Option<&str>, allowed: bool) -> Reply {
        let malformed = |code, text: &str, id: &Value| Reply {
            text: Some(failure(id, &(code, text.to_owned(), Value::Null))),
            malformed: true,
            ..Reply::default()
        };
        let Some(line) = line else { return malformed(PARSE_ERROR, "line too long", &Value::Null) };
        let Ok(request) = serde_json::from_str::<Value>(line) else {
            return malformed(PARSE_ERROR, "not JSON", &Value::Null);
        };
        let id = request.get("id");
        let id_is_valid = id.is_none_or(|id| id.is_string() || id.is_number() || id.is_null());
        let shown = id.filter(|_| id_is_valid).cloned().unwrap_or_default();
        let method = request.get("method").and_then(Value::as_str);
        let versioned = request.get("jsonrpc").is_some_and(|v| v == "2.0");
        let (Some(method), true, true) = (method, versioned, id_is_valid) else {
            return malformed(INVALID_REQUEST, "not a JSON-RPC 2.0 request", &shown);
        };
        let params = request.get("params").cloned().unwrap_or_default();
        let result = match allowed {
            true => self.call(method, &params),
            false => Err(refusal(TOO_MANY, "too many requests")),
        };
        let wants_answer = id.is_some();
        let (text, effect) = match result {
            Ok((result, effect)) => {
                (json!({"jsonrpc": "2.0", "id": shown, "result": result}).to_string(), effect)
            }
            Err(refusal) => (failure(&shown, &refusal), None),
        };
        Reply { text: wants_answer.then_some(text), effect, malformed: false }
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<(Value, Option<Effect>), Refusal> {
        match method {
            "hello" => self.hello(params).map(|result| (result, None)),
            "status" | "config" | "subscribe" | "alert" | "hint" if !self.greeted => {
                Err(refusal(HELLO_FIRST, "say `hello` first"))
            }
            "status" => match &self.grants.host {
                Some(host) => Ok((host.status(&self.grants.plugin), None)),
                None => Err(refusal(NO_SUCH_METHOD, "this server offers no `status`")),
            },
            "config" => Ok((self.config(), None)),
            "subscribe" => self.subscribe(params),
            "hint" => self.hint(params).map(|result| (result, None)),
            "alert" => alert(params).map(|alert| (Value::Bool(true), Some(Effect::Alert(alert)))),
            _ => Err(refusal(NO_SUCH_METHOD, "no such method")),
        }
    }

    fn hello(&mut self, params: &Value) -> Result<Value, Refusal> {
        let wanted = params.get("versions").and_then(Value::as_array);
        let Some(wanted) = wanted else {
            return Err(refusal(INVALID_PARAMS, "`versions` is no list of numbers"));
        };
        if !wanted.iter().any(|version| version.as_u64() == Some(API_VERSION)) {
            let data = json!({"versions": [API_VERSION]});
            return Err((NO_COMMON_VERSION, "no common version".to_owned(), data));
        }
        self.greeted = true;
        let mut capabilities = vec!["config", "alert"];
        if self.grants.host.is_some() {
            capabilities.push("status");
        }
        if !self.grants.events.is_empty() {
            capabilities.push("subscribe");
        }
        if self.takes_hints() {
            capabilities.push("hint");
        }
        Ok(json!({
            "version": API_VERSION,
            "plugin": self.grants.plugin,
            "capabilities": capabilities,
            "events": self.grants.events,
            "hooks": self.grants.hooks,
        }))
    }

    fn takes_hints(&self) -> bool {
        self.grants.host.is_some() && !self.grants.hooks.is_empty()
    }

    /// Passes a hint on. It is taken or not at once; nothing waits for one.
    fn hint(&self, params: &Value) -> Result<Value, Refusal> {
        let Grants { plugin, hooks, host: Some(host), .. } = &self.grants else {
            return Err(refusal(NO_SUCH_METHOD, "this server takes no hints"));
        };
        if hooks.is_empty() {
            return Err(refusal(NOT_GRANTED, "the manifest asks for no `hooks`"));
        }
        host.hint(plugin, hooks, params)
            .map_err(|text| (INVALID_PARAMS, escaped(&text).into_owned(), Value::Null))
    }

    /// The plugin can give no more hints, and those it gave hold no longer.
    pub(super) fn run_over(&self) {
        if let (Some(host), true) = (&self.grants.host, self.takes_hints()) {
            host.run_over(&self.grants.plugin);
        }
    }

    fn config(&self) -> Value {
        let text = self.grants.config.now();
        // A text that is no JSON is told as it is.
        serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_ref()))
    }

    /// The configuration after its next change, for a plugin that has said `hello`. May be dropped at any
    /// time.
    pub(super) async fn reconfigured(&mut self) -> Value {
        if !self.greeted {
            return std::future::pending().await;
        }
        self.grants.config.changed().await;
        self.config()
    }

    fn subscribe(&self, params: &Value) -> Result<(Value, Option<Effect>), Refusal> {
        let kinds = params.get("kinds").and_then(Value::as_array);
        let kinds: Option<Vec<String>> =
            kinds.and_then(|kinds| kinds.iter().map(|kind| kind.as_str().map(str::to_owned)).collect());
        let Some(kinds) = kinds else {
            return Err(refusal(INVALID_PARAMS, "`kinds` is no list of texts"));
        };
        let after = match params.get("cursor") {
            None | Some(Value::Null) => None,
            Some(cursor) => {
                Some(cursor.as_u64().ok_or_else(|| refusal(INVALID_PARAMS, "`cursor` is no position"))?)
            }
        };
        let granted = &self.grants.events;
        let ungranted = kinds.iter().find(|kind| !granted.iter().any(|own| own == "*" || own == *kind));
        match ungranted {
            Some(kind) => {
                let text = format!("`{}` is not among the `events` of the manifest", escaped(kind));
                Err((NOT_GRANTED, text, json!({"events": granted})))
            }
            None => Ok((json!({"kinds": kinds}), Some(Effect::Subscribe { kinds, after }))),
        }
    }
}

fn alert(params: &Value) -> Result<Alert, Refusal> {
    let text = params.get("text").and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(text) = text else { return Err(refusal(INVALID_PARAMS, "`text` is missing")) };
    let severity = match params.get("severity") {
        None => Severity::Warn,
        Some(name) => serde_json::from_value(name.clone())
            .map_err(|_| refusal(INVALID_PARAMS, "`severity` is none of debug, info, warn, error"))?,
    };
    let text: String = text.chars().take(ALERT_CHARS_MAX).collect();
    Ok(Alert { severity, text: escaped(&text).into_owned() })
}

fn refusal(code: i64, text: &str) -> Refusal {
    (code, text.to_owned(), Value::Null)
}

fn failure(id: &Value, (code, text, data): &Refusal) -> String {
    let mut error = json!({"code": code, "message": text});
    if let (Value::Object(error), false) = (&mut error, data.is_null()) {
        error.insert("data".to_owned(), data.clone());
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
}
