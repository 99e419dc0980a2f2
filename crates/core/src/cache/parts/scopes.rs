//! Interned scopes, so that an object record carries four bytes instead of names.

use std::sync::Arc;

use hashbrown::HashMap;

use super::entry::ScopeId;
use super::tenants::Tenants;
use crate::cache::inventory::ObjectName;
use crate::eviction::TenantId;
use crate::key::Scope;

/// Scopes that have objects, counted; a scope without objects is forgotten, so that hostile salts cost
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    ids: HashMap<Arc<Scope>, ScopeId>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    scope: Arc<Scope>,
    tenant: TenantId,
    objects: u32,
}

impl Scopes {
    /// The id of a scope that has objects.
    pub(crate) fn find(&self, scope: &Scope) -> Option<ScopeId> {
        self.ids.get(scope).copied()
    }

    /// Counts one more object of `scope` and returns its id.
    pub(crate) fn acquire(&mut self, scope: &Scope, tenants: &mut Tenants) -> ScopeId {
        if let Some(&id) = self.ids.get(scope) {
            if let Some(slot) = &mut self.slots[id.0 as usize] {
                slot.objects += 1;
            }
            return id;
        }
        let shared = Arc::new(scope.clone());
        let tenant = tenants.acquire(&scope.cache_salt);
        let slot = Some(Slot { scope: Arc::clone(&shared), tenant, objects: 1 });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                ScopeId(id)
            }
            None => {
                self.slots.push(slot);
                ScopeId(self.slots.len() as u32 - 1)
            }
        };
        self.ids.insert(shared, id);
        id
    }

    /// Counts one object less; the last one takes the scope with it.
    pub(crate) fn release(&mut self, id: ScopeId, tenants: &mut Tenants) {
        let Some(slot) = &mut self.slots[id.0 as usize] else { return };
        slot.objects -= 1;
        if slot.objects == 0 {
            tenants.release(slot.tenant);
            self.ids.remove(&*slot.scope);
            self.slots[id.0 as usize] = None;
            self.free.push(id.0);
        }
    }

    /// The scope behind an id that has objects.
    pub(crate) fn get(&self, id: ScopeId) -> &Arc<Scope> {
        &self.slot(id).scope
    }

    /// Whose scope it is.
    pub(crate) fn tenant(&self, id: ScopeId) -> TenantId {
        self.slot(id).tenant
    }

    fn slot(&self, id: ScopeId) -> &Slot {
        self.slots[id.0 as usize].as_ref().expect("a scope id lives as long as its objects")
    }

    /// The scopes an object of this name may be in: one per layout.
    pub(crate) fn named(&self, name: &ObjectName<'_>) -> Vec<ScopeId> {
        let same = |scope: &Scope| {
            *scope.model_name == *name.model_name
                && scope.kv_rank == name.kv_rank
                && scope.object_group_id == name.object_group_id
                && *scope.cache_salt == *name.cache_salt
        };
        self.ids.iter().filter(|(scope, _)| same(scope)).map(|(_, &id)| id).collect()
    }

    /// Number of scopes with objects.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}
