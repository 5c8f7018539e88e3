//! The catalog: replaced as a whole.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::PlanSupervisor;
use crate::actors::stored_plan::unavailable;
use crate::actors::{Refused, Reloaded};
use crate::catalog::Catalog;
use crate::clock;
use crate::crashpoint::handling;
use crate::store::Change;
use crate::task::Caller;
use crate::task::host_event::HostEvent;

/// A new catalog takes the place of the one before.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reloaded, Refused>")]
pub struct ReplaceCatalog {
    /// The new one.
    pub catalog: Arc<Catalog>,
    /// Who; `None`: a signal.
    pub by: Option<Caller>,
}

impl Handler<ReplaceCatalog> for PlanSupervisor {
    type Result = ResponseFuture<Result<Reloaded, Refused>>;

    fn handle(&mut self, replace: ReplaceCatalog, _: &mut Self::Context) -> Self::Result {
        handling("supervisor: ReplaceCatalog");
        let reloaded = compare(&self.catalog.borrow(), &replace.catalog);
        self.catalog.send_replace(replace.catalog);
        let services = u32::try_from(reloaded.services).unwrap_or(u32::MAX);
        let event = HostEvent::CatalogReloaded { services, by: replace.by };
        let durable = self.store.commit(vec![Change::Host { at: clock::now(), event }]);
        Box::pin(async move { durable.await.map(|_| reloaded).map_err(|error| unavailable(&error)) })
    }
}

fn compare(old: &Catalog, new: &Catalog) -> Reloaded {
    let mut reloaded = Reloaded { services: new.services().len(), ..Reloaded::default() };
    for service in new.services() {
        match old.get(service.id) {
            None => reloaded.added.push(service.name.clone()),
            Some(before) if before != service => reloaded.changed.push(service.name.clone()),
            Some(_) => {}
        }
    }
    let gone = old.services().filter(|service| new.get(service.id).is_none());
    reloaded.removed = gone.map(|service| service.name.clone()).collect();
    reloaded
}
