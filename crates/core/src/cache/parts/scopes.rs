//! Interned scopes, so that an object record carries four bytes instead of names.

use std::sync::Arc;

use super::entry::ScopeId;
use super::tenants::Tenants;
use crate::cache::inventory::ObjectName;
use crate::eviction::TenantId;
use crate::interner::Interner;
use crate::key::Scope;

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
        let new = || (Arc::new(scope.clone()), tenants.acquire(&scope.cache_salt));
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

    /// The scopes an object of this name may be in: one per layout.
    pub(crate) fn named(&self, name: &ObjectName<'_>) -> Vec<ScopeId> {
        let same = |scope: &Scope| {
            *scope.model_name == *name.model_name
                && scope.kv_rank == name.kv_rank
                && scope.object_group_id == name.object_group_id
                && *scope.cache_salt == *name.cache_salt
        };
        self.names.iter().filter(|(_, scope, _)| same(scope)).map(|(id, ..)| ScopeId(id)).collect()
    }

    /// Number of scopes with objects.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}
