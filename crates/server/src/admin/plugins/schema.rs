//! The manifest's JSON Schema, for editors and for checks before anything is deployed.

use axum::http::header;
use axum::response::IntoResponse;

/// The document. Relations between keys (`watchdog` needs `watchdog_s`) are left to `larder plugin validate`.
const SCHEMA: &str = include_str!("manifest.schema.json");

/// `GET /plugins/schema`.
pub(super) async fn schema() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/schema+json")], SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::plugins::manifest_view::known_keys;
    use larder_supervise::{Manifest, OutputLimits, Policy};
    use serde_json::{Map, Value};

    fn properties() -> Map<String, Value> {
        let document: Value = serde_json::from_str(SCHEMA).unwrap();
        document["properties"].as_object().unwrap().clone()
    }

    fn parse(key: &str, value: &Value) -> Result<Manifest, larder_supervise::ManifestError> {
        // One key may need another; a value of the right type is all that counts here.
        let companion = match key {
            "ready" | "ready_log" => "ready_log = \"x\"\nready_address = \"http://x\"\n",
            "watchdog" => "watchdog_s = 1\n",
            "watchdog_s" => "watchdog = \"output\"\n",
            _ => "",
        };
        let companion = companion.replace(&format!("{key} = \"x\"\n"), "");
        let bare = Manifest::bare(Policy::default(), OutputLimits::default());
        Manifest::parse(&format!("{companion}{key} = {}\n", toml_value(value)), &bare)
    }

    fn toml_value(value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
            other => other.to_string(),
        }
    }

    #[test]
    fn it_has_the_reader_s_keys_and_no_others() {
        let mut keys: Vec<String> = properties().keys().cloned().collect();
        let mut known = known_keys();
        keys.sort();
        known.sort();
        assert_eq!(keys, known);
    }

    #[test]
    fn examples_choices_and_bounds_are_the_reader_s() {
        for (key, property) in properties() {
            parse(&key, &property["examples"][0]).unwrap();
            for choice in property["enum"].as_array().into_iter().flatten() {
                parse(&key, choice).unwrap();
            }
            if property.get("enum").is_some() {
                parse(&key, &Value::from("no such word")).unwrap_err();
            }
            for (bound, step) in [("minimum", -1), ("maximum", 1)] {
                if let Some(limit) = property[bound].as_i64() {
                    parse(&key, &Value::from(limit)).unwrap();
                    parse(&key, &Value::from(limit + step)).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn limits_are_the_reader_s() {
        let limits = properties()["limits"].clone();
        let example = limits["examples"][0].as_object().unwrap();
        assert!(example.keys().eq(limits["properties"].as_object().unwrap().keys()));
        parse("limits", &serde_json::json!({"no_such_limit": 1})).unwrap_err();
    }
}
