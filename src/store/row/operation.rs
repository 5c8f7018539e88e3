//! What the journal keeps of operations.

use bincode::{Decode, Encode};

use super::event::FailureV1;
use super::incarnation::IncarnationV1;
use crate::task::operation::{Done, Evidence, OperationEnd, Renewal, Settled};

#[derive(Debug, Encode, Decode)]
pub struct EvidenceV1 {
    incarnation: Option<IncarnationV1>,
    pub release: Option<String>,
}

#[derive(Debug, Encode, Decode)]
pub struct RenewalV1 {
    earlier: String,
    id: String,
    forced: bool,
    why: String,
    evidence: EvidenceV1,
}

#[derive(Debug, Encode, Decode)]
pub struct EndV1 {
    result: ResultV1,
    detail: String,
    settled: Option<SettledV1>,
}

#[derive(Debug, Encode, Decode)]
enum ResultV1 {
    Changed(Option<IncarnationV1>),
    Unchanged,
    Failed(FailureV1),
}

#[derive(Debug, Encode, Decode)]
enum SettledV1 {
    FoundDone,
    Completed,
}

impl From<Evidence> for EvidenceV1 {
    fn from(evidence: Evidence) -> Self {
        Self { incarnation: evidence.incarnation.map(Into::into), release: evidence.release }
    }
}

impl From<EvidenceV1> for Evidence {
    fn from(row: EvidenceV1) -> Self {
        Self { incarnation: row.incarnation.map(Into::into), release: row.release }
    }
}

impl From<Renewal> for RenewalV1 {
    fn from(renewal: Renewal) -> Self {
        let Renewal { earlier, id, forced, why, evidence } = renewal;
        Self { earlier, id, forced, why, evidence: evidence.into() }
    }
}

impl From<RenewalV1> for Renewal {
    fn from(row: RenewalV1) -> Self {
        let RenewalV1 { earlier, id, forced, why, evidence } = row;
        Self { earlier, id, forced, why, evidence: evidence.into() }
    }
}

impl From<OperationEnd> for EndV1 {
    fn from(end: OperationEnd) -> Self {
        let result = match end.result {
            Ok(Done::Changed(incarnation)) => ResultV1::Changed(incarnation.map(Into::into)),
            Ok(Done::Unchanged) => ResultV1::Unchanged,
            Err(failure) => ResultV1::Failed(failure.into()),
        };
        Self { result, detail: end.detail, settled: end.settled.map(Into::into) }
    }
}

impl From<EndV1> for OperationEnd {
    fn from(row: EndV1) -> Self {
        let result = match row.result {
            ResultV1::Changed(incarnation) => Ok(Done::Changed(incarnation.map(Into::into))),
            ResultV1::Unchanged => Ok(Done::Unchanged),
            ResultV1::Failed(failure) => Err(failure.into()),
        };
        Self { result, detail: row.detail, settled: row.settled.map(Into::into) }
    }
}

impl From<Settled> for SettledV1 {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::FoundDone => Self::FoundDone,
            Settled::Completed => Self::Completed,
        }
    }
}

impl From<SettledV1> for Settled {
    fn from(row: SettledV1) -> Self {
        match row {
            SettledV1::FoundDone => Self::FoundDone,
            SettledV1::Completed => Self::Completed,
        }
    }
}
