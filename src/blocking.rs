//! Blocking work, off the threads that must not wait.

/// Runs `work` on a thread for blocking work; its panic is the caller's panic.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down: so is the caller, at its next await.
            Err(_) => std::panic::resume_unwind(Box::new("the runtime has ended")),
        },
    }
}
