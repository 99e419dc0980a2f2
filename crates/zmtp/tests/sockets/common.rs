//! A router in the test's own runtime.

use std::sync::Arc;

use larder_zmtp::{Endpoint, Handle, Handler, Limits, Message, Peer, Router};

/// Answers every message with itself.
pub(crate) struct Echo;

impl Handler for Echo {
    fn message(&self, _: &Peer, message: Message) {
        // A peer that left does not need its answer.
        let _ = message.permit.reply(message.parts);
    }
}

pub(crate) struct Running {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) handle: Handle,
}

/// Runs `test` beside a router on a current-thread runtime, then closes the router and waits for its end.
pub(crate) fn with_router<H: Handler + Send + Sync>(
    endpoints: &[Endpoint],
    limits: Limits,
    handler: H,
    test: impl AsyncFnOnce(Running),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let router = Router::bind(endpoints, limits).unwrap();
        let running = Running { endpoints: router.endpoints(), handle: router.handle() };
        let handle = router.handle();
        let serving = tokio::spawn(router.serve(Arc::new(handler)));
        test(running).await;
        handle.close();
        serving.await.unwrap();
        assert_eq!(handle.stats().snapshot().connections_open, 0);
        assert_eq!(handle.charged_bytes(), 0);
    });
}
