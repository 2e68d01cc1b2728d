//! What a node tells about itself: events while it runs, one line each on its standard output, and a report when it
//! stops. `alpenglow cluster` reads both; they are also the interface for anything else that watches a node.

mod event;
mod node_report;
mod sequences;
mod stages;
mod usage;

pub(crate) use event::{How, NodeEvent};
pub(crate) use node_report::{BlockSamples, FinalizedTransactions, NodeReport, RepairCounts, ReportError, ShredCounts};
pub(crate) use sequences::SequenceRanges;
pub(crate) use stages::{Stage, StageHistograms};
pub(crate) use usage::ProcessUsage;
