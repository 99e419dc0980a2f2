//! The calls a decorator passes through unchanged.

/// Expands to methods of `Adapter` that do what the `inner` field does.
macro_rules! forward {
    ($($method:ident),* $(,)?) => { $(forward!(@ $method);)* };
    (@ kind) => {
        fn kind(&self) -> &'static str {
            self.inner.kind()
        }
    };
    (@ store) => {
        fn store(
            &self,
            batch: Vec<crate::StoreItem>,
        ) -> crate::AdapterFuture<'_, Vec<crate::KeyResult<crate::Stored>>> {
            self.inner.store(batch)
        }
    };
    (@ lookup_and_lock) => {
        fn lookup_and_lock(
            &self,
            keys: Vec<larder_core::key::ObjectKey>,
        ) -> crate::AdapterFuture<'_, Vec<crate::KeyResult<crate::Found>>> {
            self.inner.lookup_and_lock(keys)
        }
    };
    (@ load) => {
        fn load(
            &self,
            batch: Vec<crate::LoadItem>,
        ) -> crate::AdapterFuture<'_, Vec<crate::KeyResult<crate::Loaded>>> {
            self.inner.load(batch)
        }
    };
    (@ unlock) => {
        fn unlock(&self, keys: &[larder_core::key::ObjectKey]) {
            self.inner.unlock(keys);
        }
    };
    (@ delete) => {
        fn delete(
            &self,
            keys: Vec<larder_core::key::ObjectKey>,
            mode: crate::DeleteMode,
        ) -> crate::AdapterFuture<'_, Vec<crate::KeyResult<crate::Deleted>>> {
            self.inner.delete(keys, mode)
        }
    };
    (@ list) => {
        fn list(
            &self,
            request: crate::ListRequest,
        ) -> crate::AdapterFuture<'_, Result<crate::ListPage, crate::Failure>> {
            self.inner.list(request)
        }
    };
    (@ probe) => {
        fn probe(&self) -> crate::AdapterFuture<'_, Result<(), crate::Failure>> {
            self.inner.probe()
        }
    };
    (@ ready_to_store) => {
        fn ready_to_store(&self) -> crate::AdapterFuture<'_, ()> {
            self.inner.ready_to_store()
        }
    };
    (@ usage) => {
        fn usage(&self) -> crate::Usage {
            self.inner.usage()
        }
    };
    (@ health) => {
        fn health(&self) -> crate::Health {
            self.inner.health()
        }
    };
    (@ close) => {
        fn close(&self) -> crate::AdapterFuture<'_, ()> {
            self.inner.close()
        }
    };
}

pub(super) use forward;
