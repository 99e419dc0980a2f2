//! Interned scopes, so that an object record carries four bytes instead of names.

use std::sync::Arc;

use super::entry::ScopeId;
use super::tenants::Tenants;
use crate::eviction::TenantId;
use crate::interner::Interner;
use crate::key::{Namespace, Scope};

/// Scopes that have objects, counted, and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    names: Interner<Arc<Scope>, TenantId>,
}

impl Scopes {
    /// The id of a scope that has objects.
    pub(crate) fn find(&self, scope: &Scope) -> Option<ScopeId> {
        self.names.find(scope).map(ScopeId)
    }

    /// Counts one more object of `scope` and returns its id.
    pub(crate) fn acquire(&mut self, scope: &Scope, tenants: &mut Tenants) -> ScopeId {
        let new = || (Arc::new(scope.clone()), tenants.acquire(scope.namespace.cache_salt()));
        ScopeId(self.names.acquire(scope, new))
    }

    /// Counts one object less; the last one takes the scope with it.
    pub(crate) fn release(&mut self, id: ScopeId, tenants: &mut Tenants) {
        if let Some(tenant) = self.names.release(id.0) {
            tenants.release(tenant);
        }
    }

    /// The scope behind an id that has objects.
    pub(crate) fn get(&self, id: ScopeId) -> &Arc<Scope> {
        self.names.name(id.0)
    }

    /// Whose scope it is.
    pub(crate) fn tenant(&self, id: ScopeId) -> TenantId {
        self.names[id.0]
    }

    /// The scopes of a namespace: one per layout.
    pub(crate) fn of(&self, namespace: &Namespace) -> Vec<ScopeId> {
        let same = self.names.iter().filter(|(_, scope, _)| scope.namespace == *namespace);
        same.map(|(id, ..)| ScopeId(id)).collect()
    }

    /// Number of scopes with objects.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}
