//! The engine as each of its callers has it: what a face does not offer, its holder can't do.
//!
//! A face is a handle of the engine. Behind it is what everybody may look at; another face is had of the
//! `Arc` alone, and so only by whoever put the server together:
//!
//! ```
//! fn composing(engine: &std::sync::Arc<larder_engine::Engine>) -> larder_engine::Tiers {
//!     engine.tiers()
//! }
//! ```
//! ```compile_fail
//! fn serving(requests: &larder_engine::Requests) -> larder_engine::Tiers {
//!     requests.tiers()
//! }
//! ```

use std::ops::Deref;
use std::sync::Arc;

use crate::engine::Engine;

macro_rules! face {
    ($(#[$doc:meta])+ $Face:ident, $face:ident) => {
        $(#[$doc])+
        #[derive(Clone, Debug)]
        pub struct $Face(pub(crate) Arc<Engine>);

        impl Deref for $Face {
            type Target = Engine;

            fn deref(&self) -> &Engine {
                &self.0
            }
        }

        impl Engine {
            $(#[$doc])+
            #[must_use]
            pub fn $face(self: &Arc<Self>) -> $Face {
                $Face(Arc::clone(self))
            }
        }
    };
}

face! {
    /// What clients ask for.
    Requests, requests
}

face! {
    /// What the second tier works with.
    Tiers, tiers
}

face! {
    /// What tasks and the composition of the server do to keep the engine in order.
    Upkeep, upkeep
}

face! {
    /// What an operator sees and does by hand.
    Operator, operator
}
