//! The channel from the plugin's end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as Plugin;

use super::super::host::ControlHost;
use super::super::session::Grants;
use super::*;
use crate::contract::{ConfigPublisher, Surroundings};
use crate::discover::Host;
use crate::os::Scratch;
use crate::output::Severity;
use larder_telemetry::events::{EventLog, LINES_MAX};
use proptest::prelude::*;
use serde_json::json;

#[derive(Debug)]
struct Server;

impl ControlHost for Server {
    fn status(&self, plugin: &str) -> Value {
        json!({"asked_by": plugin})
    }

    fn hint(&self, plugin: &str, hooks: &[String], params: &Value) -> Result<Value, String> {
        match params["wrong"].as_bool() {
            Some(true) => Err("wrong\nparameters".into()),
            _ => Ok(json!({"by": plugin, "hooks": hooks})),
        }
    }
}

#[tokio::test]
async fn hints_are_passed_on_to_who_takes_them() {
    let mut rig = rig(Some(Arc::new(Server)));
    assert_eq!(rig.ask("hint", json!({})).await["error"]["code"], -32_002);
    rig.greet().await;
    assert_eq!(rig.ask("hint", json!({})).await["result"], json!({"by": "p", "hooks": ["eviction"]}));
    let wrong = rig.ask("hint", json!({"wrong": true})).await;
    assert_eq!(
        (&wrong["error"]["code"], &wrong["error"]["message"]),
        (&json!(-32_602), &json!("wrong\\nparameters"))
    );
    let mut deaf = self::rig(None);
    deaf.greet().await;
    assert_eq!(deaf.ask("hint", json!({})).await["error"]["code"], -32_601);
}

/// What plugins without a right to secrets are told.
fn publisher() -> ConfigPublisher {
    let scratch = Scratch::create_in(&[std::env::temp_dir()]).unwrap();
    let around = Surroundings {
        host: Host { role: None, worker_id: 0 },
        server_pid: 1,
        worker_count: 1,
        inherited: Vec::new(),
    };
    let publisher = ConfigPublisher::new(around, true, Arc::new(scratch));
    publisher.change(r#"{"a": 1}"#, None).unwrap();
    publisher
}

#[tokio::test]
async fn another_configuration_is_sent_to_who_has_said_hello() {
    let publisher = publisher();
    let mut rig = rig(None);
    rig.channel.session = Session::new(Grants {
        plugin: "p".into(),
        events: vec![],
        hooks: vec![],
        config: publisher.text(false),
        host: None,
    });
    publisher.change(r#"{"a": 2}"#, None).unwrap();
    rig.settle().await;
    assert_eq!(rig.lines(), Vec::<Value>::new());
    rig.write("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":{\"versions\":[1]}}\n");
    rig.settle().await;
    rig.lines();
    publisher.change(r#"{"a": 3, "token": "t0k3n"}"#, None).unwrap();
    rig.settle().await;
    let expected = json!({"a": 3, "token": "<redacted>"});
    assert_eq!(rig.lines(), [json!({"jsonrpc": "2.0", "method": "config", "params": {"config": expected}})]);
    assert_eq!(rig.ask("config", Value::Null).await["result"], expected);
}

struct Rig {
    channel: Channel,
    plugin: BufReader<Plugin>,
    partial: Vec<u8>,
    log: EventLog,
    /// Those that came beside an answer.
    events: Vec<Value>,
}

fn rig(host: Option<Arc<dyn ControlHost>>) -> Rig {
    let grants = Grants {
        plugin: "p".into(),
        events: vec!["store".into(), "evict".into()],
        hooks: vec!["eviction".into()],
        config: publisher().text(false),
        host,
    };
    let log = EventLog::default();
    let place = Some(Bookmark::new(&log));
    let (channel, theirs) = Channel::new(Session::new(grants), place, Arc::default()).unwrap();
    let plugin = Plugin::from(theirs);
    plugin.set_nonblocking(true).unwrap();
    Rig { channel, plugin: BufReader::new(plugin), partial: Vec::new(), log, events: Vec::new() }
}

impl Rig {
    fn publish(&self, kind: &'static str, json: &str) {
        assert!(self.log.publish(kind, |_| Some(json.to_owned())));
    }

    fn write(&mut self, text: &str) {
        self.plugin.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// What events that came say as `n`.
    fn numbers(&mut self) -> Vec<u64> {
        let lines = self.lines();
        let events = self.events.drain(..).chain(lines);
        events.filter_map(|line| line["params"]["event"]["n"].as_u64()).collect()
    }

    /// Lets the channel do all that it can at the moment.
    async fn settle(&mut self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        while let Ok(alert) = tokio::time::timeout(Duration::from_millis(20), self.channel.turn()).await {
            alerts.extend(alert);
        }
        alerts
    }

    fn lines(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        // What is left of a line comes with the next call.
        while self.plugin.read_until(b'\n', &mut self.partial).is_ok_and(|count| count > 0) {
            lines.push(serde_json::from_slice(&self.partial).unwrap());
            self.partial.clear();
        }
        lines
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.write(&format!("{request}\n"));
        self.settle().await;
        let (mut answers, events): (Vec<_>, Vec<_>) =
            self.lines().into_iter().partition(|line| line["method"] != "event");
        self.events.extend(events);
        assert_eq!((answers.len(), &answers[0]["id"]), (1, &json!(1)), "{answers:?}");
        answers.remove(0)
    }

    async fn greet(&mut self) {
        assert_eq!(self.ask("hello", json!({"versions": [9, 1]})).await["result"]["version"], 1);
    }
}

#[tokio::test]
async fn a_handshake_comes_first_and_says_what_is_granted() {
    let mut rig = rig(Some(Arc::new(Server)));
    assert_eq!(rig.ask("config", Value::Null).await["error"]["code"], -32_002);
    assert_eq!(rig.ask("hello", json!({})).await["error"]["code"], -32_602);
    let error = rig.ask("hello", json!({"versions": [2]})).await["error"].clone();
    assert_eq!((&error["code"], &error["data"]), (&json!(-32_000), &json!({"versions": [1]})));
    let result = rig.ask("hello", json!({"versions": [1, 2]})).await["result"].clone();
    assert_eq!(
        result,
        json!({"version": 1, "plugin": "p", "capabilities": ["config", "alert", "status", "subscribe", "hint"], "events": ["store", "evict"], "hooks": ["eviction"]})
    );
    assert_eq!(rig.ask("status", Value::Null).await["result"], json!({"asked_by": "p"}));
    assert_eq!(rig.ask("config", Value::Null).await["result"], json!({"a": 1}));
    assert_eq!(rig.ask("shutdown", Value::Null).await["error"]["code"], -32_601);
}

#[tokio::test]
async fn malformed_lines_are_answered_and_counted() {
    let mut rig = rig(None);
    rig.greet().await;
    let cases = [
        ("nonsense", -32_700),
        ("[]", -32_600),
        ("{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"config\"}", -32_600),
        ("{\"id\": 1, \"method\": \"config\"}", -32_600),
    ];
    for (line, code) in cases {
        rig.write(&format!("\n{line}\n"));
        rig.settle().await;
        assert_eq!(rig.lines()[0]["error"]["code"], code, "{line}");
    }
    for _ in 0..5 {
        rig.write(&"x".repeat(REQUEST_MAX_BYTES / 4));
        rig.settle().await;
    }
    rig.write("\n");
    rig.settle().await;
    assert_eq!(rig.lines()[0]["error"]["message"], "line too long");
    let counts = rig.channel.record.counts();
    assert_eq!((counts.malformed, counts.requests), (5, 1));
    assert_eq!(rig.ask("status", Value::Null).await["error"]["code"], -32_601, "no host, no status");
}

#[tokio::test]
async fn alerts_are_kept_and_need_no_answer() {
    let mut rig = rig(None);
    rig.greet().await;
    rig.write("{\"jsonrpc\": \"2.0\", \"method\": \"alert\", \"params\": {\"text\": \"disk\\nfull\", \"severity\": \"error\"}}\n");
    let alert = Alert { severity: Severity::Error, text: "disk\\nfull".into() };
    assert_eq!(rig.settle().await, std::slice::from_ref(&alert));
    assert_eq!((rig.lines(), rig.channel.record.alert()), (vec![], Some(alert)));
    assert_eq!(rig.ask("alert", json!({"text": ""})).await["error"]["code"], -32_602);
    assert_eq!(rig.ask("alert", json!({"text": "x", "severity": "loud"})).await["error"]["code"], -32_602);
    rig.write("{\"jsonrpc\": \"2.0\", \"method\": \"alert\", \"params\": {\"text\": \"last words\"}}\n");
    let Rig { channel, plugin, .. } = rig;
    drop(plugin);
    let last: Vec<_> = channel.close().into_iter().map(|a| (a.severity, a.text)).collect();
    assert_eq!(last, [(Severity::Warn, "last words".to_owned())]);
}

#[tokio::test]
async fn events_by_subscription_within_the_grant() {
    let mut rig = rig(None);
    rig.greet().await;
    assert_eq!(rig.ask("subscribe", json!({"kinds": ["*"]})).await["error"]["code"], -32_003);
    rig.publish("store", "{\"n\":0}");
    assert_eq!(
        rig.ask("subscribe", json!({"kinds": ["store"]})).await["result"],
        json!({"kinds": ["store"]})
    );
    rig.publish("evict", "{\"n\":1}");
    rig.publish("store", "{\"n\":2}");
    rig.settle().await;
    assert_eq!(rig.numbers(), [0, 2], "from its start on, of its kinds");
    rig.ask("subscribe", json!({"kinds": []})).await;
    rig.publish("store", "{\"n\":3}");
    rig.settle().await;
    assert!(rig.numbers().is_empty());
    rig.ask("subscribe", json!({"kinds": ["store"]})).await;
    rig.settle().await;
    assert_eq!(rig.numbers(), [3], "it goes on where it was");
    rig.ask("subscribe", json!({"kinds": ["store", "evict"], "cursor": 1})).await;
    rig.settle().await;
    assert_eq!(rig.numbers(), [1, 2, 3], "or where it wants");
    assert_eq!(rig.ask("subscribe", json!({"kinds": [], "cursor": "x"})).await["error"]["code"], -32_602);
    let log = rig.log.clone();
    drop(rig);
    assert!(!log.is_wanted());
}

#[tokio::test]
async fn a_plugin_that_does_not_read_costs_bounded_memory_and_is_told_what_it_lost() {
    let mut rig = rig(None);
    rig.greet().await;
    rig.ask("subscribe", json!({"kinds": ["store"]})).await;
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(2000));
    for _ in 0..3 {
        for _ in 0..LINES_MAX {
            rig.publish("store", &long);
        }
        rig.settle().await;
        assert!(rig.channel.unwritten.len() < OUTPUT_MAX_BYTES + 2 * long.len());
    }
    let mut seen = Vec::new();
    loop {
        let lines = rig.lines();
        if lines.is_empty() && rig.channel.unwritten.is_empty() {
            break;
        }
        seen.extend(lines);
        rig.settle().await;
    }
    let lost: u64 = seen.iter().filter_map(|line| line["params"]["count"].as_u64()).sum();
    let got = seen.iter().filter(|line| line["method"] == "event").count() as u64;
    assert!(lost > 0);
    assert_eq!(lost + got, 3 * LINES_MAX as u64, "every event came or was counted");
    let counts = rig.channel.record.counts();
    assert_eq!((counts.events, counts.lost_events), (got, lost));
}

#[tokio::test]
async fn too_many_requests_are_refused() {
    let mut rig = rig(None);
    rig.greet().await;
    let request = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"config\"}\n";
    for _ in 0..8 {
        rig.write(&request.repeat(100));
        rig.settle().await;
    }
    let lines = rig.lines();
    let refused = lines.iter().filter(|line| line["error"]["code"] == -32_001).count() as u64;
    assert!(refused > 0 && refused == rig.channel.record.counts().refused, "{refused}");
    assert_eq!(lines.len(), 800);
}

proptest! {
    #[test]
    fn any_line_is_survived(line in "[ -~]{0,60}", versions in proptest::collection::vec(any::<u64>(), 0..3)) {
        let mut session = Session::new(Grants {
            plugin: "p".into(), events: vec!["*".into()], hooks: vec![], config: publisher().text(false), host: None,
        });
        session.take(Some(&json!({"jsonrpc": "2.0", "method": "hello", "params": {"versions": versions}}).to_string()), true);
        let reply = session.take(Some(&line), true);
        if let Some(text) = reply.text {
            prop_assert!(!text.contains('\n'));
            let valid: Result<Value, _> = serde_json::from_str(&text);
            prop_assert!(valid.is_ok());
        }
    }
}
