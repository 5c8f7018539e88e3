//! Errors on the wire: one exhaustive match from what went wrong to what the caller is told.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use deployctl::wire::problem::{Conflict, Difference, PlanError, Problem, code};

use super::convert;
use crate::actors::Refused;
use crate::mistake::{FileMistake, Mistake};
use crate::store::StoreError;

/// What a handler fails with.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The supervisor refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is there.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The body is too large.
    #[error("{0}")]
    TooLarge(String),
    /// More at once than the daemon takes.
    #[error("{0}")]
    Busy(&'static str),
    /// The method is not offered.
    #[error("this address offers only {0}; GET /v1/openapi.json lists all that there is")]
    MethodNotAllowed(String),
    /// The caller may not do that.
    #[error("{0}")]
    NotPermitted(String),
}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        self.judge().0
    }

    fn error_response(&self) -> HttpResponse {
        let problem = self.problem();
        let mut response = HttpResponse::build(self.status_code());
        if let Self::MethodNotAllowed(offered) = self {
            response.insert_header((header::ALLOW, offered.as_str()));
        }
        response.content_type("application/problem+json").json(problem)
    }
}

impl Fault {
    /// Status and code.
    fn judge(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(refused) => judge_refused(refused),
            Self::Store(_) | Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, code::NOT_FOUND),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, code::BAD_REQUEST),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, code::METHOD_NOT_ALLOWED),
            Self::NotPermitted(_) => (StatusCode::FORBIDDEN, code::NOT_PERMITTED),
        }
    }

    /// What the caller is told.
    pub fn problem(&self) -> Problem {
        let (status, code) = self.judge();
        let mut problem = Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            code: code.into(),
            detail: self.to_string(),
            ..Problem::default()
        };
        let Self::Refused(refused) = self else { return problem };
        match refused {
            Refused::NotPossible(refusal) => {
                problem.state = Some(refusal.state.name().into());
                problem.possible = Some(refusal.state.possible().iter().map(ToString::to_string).collect());
            }
            Refused::NoPlan { state, .. } => {
                problem.state = Some(state.name().into());
                problem.possible = Some(state.possible().iter().map(ToString::to_string).collect());
            }
            Refused::Conflict(holders) => {
                problem.conflicts = Some(holders.iter().map(conflict).collect());
            }
            Refused::Drifted { drifts, .. } => {
                problem.differences = Some(drifts.iter().map(difference).collect());
            }
            Refused::PlanInvalid(mistakes) => {
                problem.errors = Some(mistakes.iter().map(|mistake| plan_error(mistake, None)).collect());
            }
            Refused::CatalogInvalid(mistakes) => {
                let error = |found: &FileMistake| plan_error(&found.mistake, Some(found.file.clone()));
                problem.errors = Some(mistakes.iter().map(error).collect());
            }
            _ => {}
        }
        problem
    }
}

fn judge_refused(refused: &Refused) -> (StatusCode, &'static str) {
    match refused {
        Refused::NoSuchTask(_)
        | Refused::NoSuchPlan(_)
        | Refused::NoSuchRevision { .. }
        | Refused::NoSuchService(_)
        | Refused::NoSuchRepository(_) => (StatusCode::NOT_FOUND, code::NOT_FOUND),
        Refused::Exists(_) => (StatusCode::CONFLICT, code::EXISTS),
        Refused::BadName(_) => (StatusCode::BAD_REQUEST, code::BAD_REQUEST),
        Refused::NotPossible(_) | Refused::NoPlan { .. } => (StatusCode::CONFLICT, code::NOT_POSSIBLE),
        Refused::Drifted { .. } => (StatusCode::CONFLICT, code::DRIFTED),
        Refused::NothingToDo(_) => (StatusCode::CONFLICT, code::NOTHING_TO_DO),
        Refused::Conflict(_) => (StatusCode::CONFLICT, code::CONFLICT),
        Refused::PlanInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, code::PLAN_INVALID),
        Refused::CatalogInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, code::CATALOG_INVALID),
        Refused::Draining | Refused::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE),
        Refused::Host(_) => (StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL),
    }
}

fn difference(drift: &crate::task::drift::Drift) -> Difference {
    Difference {
        service_id: drift.service.get(),
        service: drift.name.clone(),
        container: drift.container.clone(),
        what: drift.what.into(),
        expected: drift.expected.clone(),
        found: drift.found.clone(),
        task: drift.by.as_ref().map(|by| by.0.0),
        user: drift.by.as_ref().map(|by| by.1.clone()),
    }
}

fn conflict(holder: &crate::actors::Holder) -> Conflict {
    Conflict {
        service_id: holder.service.get(),
        task: holder.task.0,
        state: holder.state.name().into(),
        user: holder.user.clone(),
        since: convert::time(holder.since),
    }
}

/// A mistake on the wire.
pub fn plan_error(mistake: &Mistake, file: Option<String>) -> PlanError {
    PlanError {
        file,
        line: mistake.line,
        column: mistake.column,
        path: mistake.path.clone(),
        message: mistake.message.clone(),
        suggestion: mistake.suggestion.clone(),
    }
}
