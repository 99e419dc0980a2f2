//! Rules for the adapters of the second tier, one mistake for each key.

use larder_storage::{AdapterConfig, ConfigProblem, NOTHING_TO_GO_BY, SOMETHING_TO_GO_BY};

use super::environment::Environment;
use super::mistake::Mistake;
use super::notice::Notice;
use super::quotas;
use super::settings::Settings;

const FLAG: &str = "l2-adapter";

/// Checks every adapter; what deserves a word goes to `warnings`.
pub(super) fn check(
    settings: &Settings,
    environment: &Environment,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Notice>,
) {
    let has_quotas = quotas::quotas(settings).is_ok_and(|quotas| !quotas.is_unlimited());
    let source = &settings.get(FLAG).source;
    for (index, adapter) in settings.objects(FLAG).iter().enumerate() {
        let mistake = |path: &str, text: &str| {
            let dot = if path.is_empty() { "" } else { "." };
            Mistake::new(format!("l2_adapter[{index}]{dot}{path}"), source.clone(), text)
        };
        match AdapterConfig::from_value(adapter, &|name| environment.get(name).cloned()) {
            Ok(config) => {
                let told = |warning: &String| Notice::new(format!("--{FLAG}[{index}] ({source}): {warning}"));
                warnings.extend(config.warnings.iter().map(told));
                if !has_quotas && config.evicts_without_limit() {
                    mistakes.push(mistake("eviction", NOTHING_TO_GO_BY).hint(SOMETHING_TO_GO_BY));
                }
            }
            Err(error) => mistakes.extend(error.problems.into_iter().map(|problem| {
                let ConfigProblem { path, text, hint } = problem;
                Mistake { hint, ..mistake(&path, &text) }
            })),
        }
    }
}
