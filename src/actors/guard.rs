//! Starting actors so that a panic is seen at once.
//!
//! actix tells nobody when an actor panics, and its `Supervisor` does not restart one that did. So
//! each actor here runs in a task of its own that catches the panic and tells the parent how the
//! actor ended. The actor is dropped under a second catch, for a panic in `stopping` or `Drop`
//! while the first one unwinds would abort the daemon.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use actix::dev::ContextFutureSpawner;
use actix::{Actor, Addr, AsyncContext, Context, Message};
use futures_util::FutureExt;

/// A child has ended without having said so itself: it panicked.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ChildCrashed {
    /// Which child, in words: "deployment 3 of task 7".
    pub child: String,
    /// What it said when it panicked.
    pub panic: String,
}

/// Starts an actor; calls `tell` when it panics. (Not a message to the parent here: whoever passes it
/// on could panic, too, and nobody would hear of either.)
pub fn start<A>(child: String, tell: impl FnOnce(ChildCrashed) + 'static, actor: A) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let context = Context::new();
    let address = context.address();
    let mut running = Box::pin(context.into_future(actor));
    actix_rt::spawn(async move {
        let ran = AssertUnwindSafe(&mut running).catch_unwind().await;
        let dropped = std::panic::catch_unwind(AssertUnwindSafe(move || drop(running)));
        if let Some(panic) = ran.err().or(dropped.err()) {
            tell(ChildCrashed { child, panic: panic_text(&*panic) });
        }
    });
    address
}

/// Runs `future` inside the actor, so that its panic is the actor's panic.
pub fn run<A, F>(future: F, context: &mut Context<A>)
where
    A: Actor<Context = Context<A>>,
    F: Future<Output = ()> + 'static,
{
    actix::fut::wrap_future::<_, A>(future).spawn(context);
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use actix::{Handler, ResponseFuture};

    use super::*;

    struct Parent(tokio::sync::mpsc::UnboundedSender<String>);
    impl Actor for Parent {
        type Context = Context<Self>;
    }
    impl Handler<ChildCrashed> for Parent {
        type Result = ();
        fn handle(&mut self, crash: ChildCrashed, _: &mut Self::Context) {
            self.0.send(format!("{}: {}", crash.child, crash.panic)).expect("the test listens");
        }
    }

    struct Child {
        panic_in_stopping: bool,
    }
    impl Actor for Child {
        type Context = Context<Self>;
        fn stopping(&mut self, _: &mut Self::Context) -> actix::Running {
            assert!(!self.panic_in_stopping, "again, in stopping");
            actix::Running::Stop
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    enum Go {
        PanicInHandler,
        PanicInFuture,
        Answer,
    }
    impl Handler<Go> for Child {
        type Result = ResponseFuture<()>;
        fn handle(&mut self, go: Go, context: &mut Self::Context) -> Self::Result {
            match go {
                Go::PanicInHandler => panic!("in the handler"),
                Go::PanicInFuture => run(async { panic!("in the future") }, context),
                Go::Answer => {}
            }
            Box::pin(async {})
        }
    }

    fn family(
        panic_in_stopping: bool,
    ) -> (Addr<Parent>, Addr<Child>, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let parent = Parent(tell).start();
        let told_parent = parent.clone();
        let tell = move |crash| told_parent.do_send(crash);
        let child = start("child".into(), tell, Child { panic_in_stopping });
        (parent, child, told)
    }

    #[actix::test]
    async fn a_panic_in_a_handler_is_told_at_once() {
        let (_parent, child, mut told) = family(false);
        child.do_send(Go::PanicInHandler);
        assert_eq!(told.recv().await.unwrap(), "child: in the handler");
        assert!(!child.connected());
    }

    #[actix::test]
    async fn a_panic_in_a_future_of_the_actor_is_told_at_once() {
        let (_parent, child, mut told) = family(false);
        child.send(Go::PanicInFuture).await.ok();
        assert_eq!(told.recv().await.unwrap(), "child: in the future");
    }

    #[actix::test]
    async fn a_second_panic_while_unwinding_is_survived() {
        let (_parent, child, mut told) = family(true);
        child.do_send(Go::PanicInHandler);
        assert!(told.recv().await.is_some());
    }

    #[actix::test]
    async fn an_actor_that_ends_well_is_not_reported() {
        let (parent, child, mut told) = family(false);
        child.send(Go::Answer).await.unwrap();
        drop(child);
        let tell = move |crash| parent.do_send(crash);
        let other = start("other".into(), tell, Child { panic_in_stopping: false });
        other.do_send(Go::PanicInHandler);
        assert_eq!(told.recv().await.unwrap(), "other: in the handler");
    }
}
