//! The configuration in the forms in which plugins meet it, rendered anew whenever it changes.
//!
//! Owns the files in the private directory that hold it. A plugin that runs finds the new text in the same
//! file; one that starts gets it everywhere.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

use super::environment::{self, Briefing, Surroundings};
use super::names::EXTRA_MEMBERS;
use crate::error::SuperviseError;
use crate::lock::lock;
use crate::manifest::Account;
use crate::os::Scratch;
use crate::text::shown;
use larder_telemetry::redaction::redacted;

/// The file of the whole configuration.
const WHOLE: &str = "config.json";
/// And of the one without secrets.
const MASKED: &str = "config-masked.json";

/// One form: for plugins that see secrets, or for the others.
#[derive(Clone, Debug)]
pub(crate) struct ConfigForm {
    /// The environment, with the variables of the contract.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The extra configuration.
    pub(crate) extra: Value,
    /// The configuration text.
    pub(crate) config: Arc<str>,
}

/// All forms at one moment.
#[derive(Debug)]
pub(crate) struct ConfigForms {
    /// For plugins that were granted secrets.
    pub(crate) whole: ConfigForm,
    /// For the others; the same where nothing is masked.
    pub(crate) masked: ConfigForm,
}

/// The text of one form, now and later.
#[derive(Clone, Debug)]
pub(crate) struct ConfigText {
    forms: watch::Receiver<Arc<ConfigForms>>,
    sees_secrets: bool,
}

impl ConfigText {
    /// The configuration now.
    pub(crate) fn now(&self) -> Arc<str> {
        let forms = self.forms.borrow();
        let form = if self.sees_secrets { &forms.whole } else { &forms.masked };
        Arc::clone(&form.config)
    }

    /// Returns after the next change. May be dropped at any time.
    pub(crate) async fn changed(&mut self) {
        if self.forms.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// What does not change, and the forms as they are now.
#[derive(Debug)]
pub(crate) struct ConfigPublisher {
    scratch: Arc<Scratch>,
    around: Surroundings,
    masks: bool,
    now: watch::Sender<Arc<ConfigForms>>,
    /// Other users with files of their own.
    readers: Mutex<BTreeSet<Reader>>,
    /// Where those are, once there are any.
    for_others: Mutex<Option<Arc<Scratch>>>,
}

/// Another user, and which form is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reader {
    account: Account,
    sees_secrets: bool,
}

impl ConfigPublisher {
    /// Publishes nothing yet: [`ConfigPublisher::change`] comes first. `masks` says whether plugins that see
    /// no secrets have a form of their own.
    pub(crate) fn new(around: Surroundings, masks: bool, scratch: Arc<Scratch>) -> Self {
        let unset = || ConfigForm { environment: Vec::new(), extra: Value::Null, config: "".into() };
        Self {
            scratch,
            around,
            masks,
            now: watch::Sender::new(Arc::new(ConfigForms { whole: unset(), masked: unset() })),
            readers: Mutex::default(),
            for_others: Mutex::default(),
        }
    }

    /// The forms now.
    pub(crate) fn now(&self) -> Arc<ConfigForms> {
        self.now.borrow().clone()
    }

    /// The configuration as a plugin that sees secrets, or none, may know it, now and later.
    pub(crate) fn text(&self, sees_secrets: bool) -> ConfigText {
        ConfigText { forms: self.now.subscribe(), sees_secrets }
    }

    /// Renders another configuration. Writes files; each is replaced as a whole, so that no reader sees a
    /// half of it.
    pub(crate) fn change(&self, config: &str, extra: Option<&str>) -> Result<(), SuperviseError> {
        let whole = self.form(config, extra, WHOLE)?;
        let (clean, clean_extra) = (redacted(config), extra.map(redacted));
        let is_secret = matches!(clean, Cow::Owned(_)) || matches!(clean_extra, Some(Cow::Owned(_)));
        let masked = match self.masks && is_secret {
            true => self.form(&clean, clean_extra.as_deref(), MASKED)?,
            false => whole.clone(),
        };
        self.now.send_replace(Arc::new(ConfigForms { whole, masked }));
        let readers = lock(&self.readers).clone();
        readers.into_iter().try_for_each(|reader| self.write_for(reader).map(|_| ()))
    }

    /// The private directory for files of other users, or of this one.
    pub(crate) fn scratch_for(&self, account: Option<Account>) -> Result<Arc<Scratch>, SuperviseError> {
        if account.is_none() {
            return Ok(Arc::clone(&self.scratch));
        }
        let mut made = lock(&self.for_others);
        if let Some(scratch) = &*made {
            return Ok(Arc::clone(scratch));
        }
        Ok(Arc::clone(made.insert(self.scratch.for_others()?)))
    }

    /// All private directories there are.
    pub(crate) fn scratches(&self) -> Vec<Arc<Scratch>> {
        let made = lock(&self.for_others).clone();
        std::iter::once(Arc::clone(&self.scratch)).chain(made).collect()
    }

    /// A file of its own for another user, kept current as the others are. Writes files.
    pub(crate) fn file_for(&self, account: Account, sees_secrets: bool) -> Result<PathBuf, SuperviseError> {
        let reader = Reader { account, sees_secrets };
        lock(&self.readers).insert(reader);
        self.write_for(reader)
    }

    /// Makes anew what somebody has removed from the private directory. Writes files.
    pub(crate) fn restore(&self) -> Result<(), SuperviseError> {
        let mut is_whole = true;
        for scratch in self.scratches() {
            is_whole &= !scratch.restore()?;
        }
        let forms = self.now();
        for (name, form) in [(WHOLE, &forms.whole), (MASKED, &forms.masked)] {
            let is_written = name == WHOLE || !Arc::ptr_eq(&form.config, &forms.whole.config);
            if is_written && !self.scratch.path().join(name).exists() {
                is_whole = false;
                self.scratch.write(name, &form.config)?;
            }
        }
        if !is_whole {
            tracing::warn!(target: "larder_supervise",
                "the plugins' private directory `{}` was emptied by somebody; it is made anew\n\
                 hint: keep whatever cleans up temporary files from it",
                shown(self.scratch.path()));
        }
        Ok(())
    }

    fn write_for(&self, Reader { account, sees_secrets }: Reader) -> Result<PathBuf, SuperviseError> {
        let forms = self.now();
        let (form, kind) = if sees_secrets { (&forms.whole, "whole") } else { (&forms.masked, "masked") };
        let name = format!("config-{kind}-{}-{}.json", account.user, account.group);
        self.scratch_for(Some(account))?.write_for(&name, &form.config, Some(account))
    }

    fn form(&self, config: &str, extra: Option<&str>, file: &str) -> Result<ConfigForm, SuperviseError> {
        let config_file = self.scratch.write(file, config)?;
        let briefing = Briefing { config, extra_config: extra, config_file: &config_file };
        Ok(ConfigForm {
            environment: environment::build(&self.around, briefing),
            extra: extra_of(config, extra),
            config: config.into(),
        })
    }
}

/// The extra configuration: the text of its own, or else the member of the whole that holds it.
fn extra_of(config: &str, extra: Option<&str>) -> Value {
    if let Some(extra) = extra {
        return serde_json::from_str(extra).unwrap_or_default();
    }
    let whole: Value = serde_json::from_str(config).unwrap_or_default();
    EXTRA_MEMBERS.iter().find_map(|member| whole.get(member)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::Host;

    #[test]
    fn another_configuration_is_in_the_variable_and_in_the_same_file() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Arc::new(Scratch::create_in(&[parent.path().to_path_buf()]).unwrap());
        let config = "{\"a\":1,\"extra_config\":{\"token\":\"t\"}}";
        let around = Surroundings {
            host: Host { role: None, worker_id: 0 },
            server_pid: 1,
            worker_count: 1,
            inherited: Vec::new(),
        };
        let publisher = ConfigPublisher::new(around, true, scratch);
        publisher.change(config, None).unwrap();
        let variable = |form: &ConfigForm, name: &str| {
            let found = form.environment.iter().find(|(have, _)| have == name).unwrap();
            found.1.clone().into_string().unwrap()
        };
        let file = |form: &ConfigForm| {
            std::fs::read_to_string(variable(form, super::super::names::CONFIG_FILE)).unwrap()
        };
        let first = publisher.now();
        assert_eq!(file(&first.whole), config);
        assert!(file(&first.masked).contains("\"token\":\"<redacted>\""));
        publisher.change("{\"a\":2}", Some("{\"b\":3}")).unwrap();
        let second = publisher.now();
        assert_eq!(
            (file(&first.whole), variable(&second.masked, "LMCACHE_PLUGIN_CONFIG")),
            ("{\"a\":2}".into(), "{\"a\":2}".into())
        );
        assert_eq!(second.whole.extra["b"], 3);
    }
}
