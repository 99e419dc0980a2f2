//! The manifest's own JSON Schema, for editors and for whoever writes manifests by machine.

use serde_json::Value;

/// A JSON Schema of manifests. Relations between keys are left to [`super::Manifest::parse`].
#[must_use]
pub fn manifest_schema() -> Value {
    serde_json::from_str(include_str!("manifest.schema.json")).expect("the file is JSON, as tests see")
}

#[cfg(test)]
mod tests {
    use super::super::model::Manifest;
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, &Manifest::default()).map_err(|error| error.message)
    }

    /// The names that a message about an unknown one lists.
    fn offered(message: &str) -> Vec<String> {
        let (_, listed) = message.split_once("expected one of ").unwrap();
        let mut names: Vec<String> =
            listed.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_has_exactly_the_keys_that_manifests_have() {
        let schema = manifest_schema();
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&schema["properties"]), offered(&parse("no_such_key = 1").unwrap_err()));
        for (table, text, properties) in [
            ("limits", "limits = { no_such_key = 1 }", &schema["properties"]["limits"]["properties"]),
            ("cgroup", "cgroup = { no_such_key = 1 }", &schema["properties"]["cgroup"]["properties"]),
            (
                "config",
                "[config]\nx = { no_such_key = 1 }",
                &schema["properties"]["config"]["additionalProperties"]["properties"],
            ),
        ] {
            assert_eq!(keys(properties), offered(&parse(text).unwrap_err()), "{table}");
        }
    }

    #[test]
    fn its_choices_and_defaults_are_those_of_manifests() {
        let schema = manifest_schema();
        for (key, rule) in schema["properties"].as_object().unwrap() {
            if let Some(values) = rule["enum"].as_array() {
                let error = parse(&format!("{key} = \"no such value\"")).unwrap_err();
                let mut known: Vec<_> = values.iter().map(|v| v.as_str().unwrap().to_owned()).collect();
                known.sort();
                let listed =
                    offered(&error.replace("expected `", "expected one of `").replace("` or `", "`, `"));
                assert_eq!(known, listed, "{key}");
            }
            if let Some(default) = rule.get("default") {
                assert_eq!(parse(&format!("{key} = {default}")), parse(""), "{key}");
            }
        }
    }
}
