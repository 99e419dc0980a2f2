//! Metrics that plugins offer, by file, descriptor or address, merged into one exposition; and what they use.

pub(crate) mod folder;
mod lines;
mod scraper;
mod usage;

pub use self::lines::MetricLineCounts;
pub(crate) use self::lines::{LatestMetrics, MetricLines};
pub(crate) use self::scraper::Scraper;
pub use self::usage::Usage;
pub(crate) use self::usage::usage;
