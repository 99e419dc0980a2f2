//! Metrics that plugins offer, by file, descriptor or address, merged into one exposition; and what they use.

pub(crate) mod exposition;
pub(crate) mod folder;
mod lines;
mod sample;
mod scraper;
mod usage;

pub use self::exposition::Merged;
pub(crate) use self::exposition::Offer;
pub use self::lines::MetricLineCounts;
pub(crate) use self::lines::{LatestMetrics, MetricLines};
pub use self::sample::push_label;
pub(crate) use self::scraper::Scraper;
pub use self::usage::Usage;
pub(crate) use self::usage::usage;
