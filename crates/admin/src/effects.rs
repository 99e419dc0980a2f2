//! How a change of the configuration reaches the parts that run. The node knows them; the API does not.

use std::fmt;
use std::sync::Arc;

use larder_config::ServerConfig;

/// Makes the running parts what the second configuration says, where the first said otherwise.
type Apply = dyn Fn(&ServerConfig, &ServerConfig) + Send + Sync;

/// Carries changes out.
#[derive(Clone)]
pub struct Effects(Arc<Apply>);

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").finish_non_exhaustive()
    }
}

impl Effects {
    /// Changes are carried out by `apply`, which gets the configuration before and after.
    pub fn new(apply: impl Fn(&ServerConfig, &ServerConfig) + Send + Sync + 'static) -> Self {
        Self(Arc::new(apply))
    }

    /// Carries one change out.
    pub(crate) fn apply(&self, before: &ServerConfig, after: &ServerConfig) {
        (self.0)(before, after);
    }
}
