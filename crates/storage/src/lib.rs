//! L2: the adapter trait, adapters, decorators and their conformance suite.
