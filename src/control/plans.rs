//! Plans.

use actix_web::{HttpRequest, HttpResponse, web};
use deployctl::wire::plan::{Plan, PlanCheck, PlanList};
use serde::Deserialize;

use super::body::{self, PlanText};
use super::peer::caller;
use super::problem::{Fault, plan_error};
use super::{ControlState, convert};
use crate::actors::Refused;
use crate::store::PlanInfo;

type State = web::Data<ControlState>;

#[derive(Deserialize)]
pub struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
pub struct Revision {
    revision: Option<u32>,
}

/// `POST /v1/plans/check`
pub async fn check(state: State, body: web::Payload) -> Result<web::Json<PlanCheck>, Fault> {
    let PlanText { bytes, share: _share } = body::plan(body).await?;
    match state.commander.check_plan(bytes).await {
        Ok(size) => Ok(web::Json(PlanCheck {
            valid: true,
            errors: Vec::new(),
            items: size.items,
            batches: size.batches,
        })),
        Err(Refused::PlanInvalid(mistakes)) => {
            let errors = mistakes.iter().map(|mistake| plan_error(mistake, None)).collect();
            Ok(web::Json(PlanCheck { valid: false, errors, items: 0, batches: 0 }))
        }
        Err(refused) => Err(refused.into()),
    }
}

/// `POST /v1/plans?name=`
pub async fn create(
    state: State,
    request: HttpRequest,
    query: web::Query<Named>,
    body: web::Payload,
) -> Result<HttpResponse, Fault> {
    let name = query.into_inner().name;
    let name =
        name.ok_or_else(|| Fault::BadRequest("the plan's name is missing: POST /v1/plans?name=…".into()))?;
    let PlanText { bytes, share: _share } = body::plan(body).await?;
    let stored = state.commander.put_plan(name.clone(), bytes, caller(&request)?).await?;
    let found = state.store.snapshot()?.plan(&name, Some(stored.revision))?;
    let info = found.ok_or(Refused::NoSuchPlan(name))?;
    Ok(HttpResponse::Created().json(plan(info, false)))
}

/// `GET /v1/plans`
pub async fn list(state: State) -> Result<web::Json<PlanList>, Fault> {
    let plans = state.store.snapshot()?.plans()?;
    Ok(web::Json(PlanList { plans: plans.into_iter().map(|info| plan(info, false)).collect() }))
}

/// `GET /v1/plans/{name}`
pub async fn show(
    state: State,
    name: web::Path<String>,
    query: web::Query<Revision>,
) -> Result<web::Json<Plan>, Fault> {
    let snapshot = state.store.snapshot()?;
    let newest = snapshot.plan(&name, None)?.ok_or_else(|| Refused::NoSuchPlan(name.clone()))?;
    let Some(revision) = query.revision else { return Ok(web::Json(plan(newest, true))) };
    let missing = Refused::NoSuchRevision { name: name.clone(), revision, newest: newest.revision };
    let info = snapshot.plan(&name, Some(revision))?.ok_or(missing)?;
    Ok(web::Json(plan(info, true)))
}

/// `DELETE /v1/plans/{name}`
pub async fn delete(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Fault> {
    state.commander.delete_plan(name.into_inner(), caller(&request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn plan(info: PlanInfo, with_text: bool) -> Plan {
    Plan {
        name: info.name,
        revision: info.revision,
        comment: info.comment,
        created_at: convert::time(info.at),
        created_by: convert::caller(info.by),
        items: info.items,
        batches: info.batches,
        text: with_text.then(|| String::from_utf8_lossy(&info.text).into_owned()),
    }
}
