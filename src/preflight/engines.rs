//! Whether the engines answer that the catalog needs, and whether deployd speaks a version of their interface.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::catalog::{Catalog, Engine, RuntimeKind};
use crate::config::Config;
use crate::engine::{About, Connection, NEWEST, OLDEST};

/// How long an engine may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum length of what an engine calls itself.
const MAX_NAME: usize = 60;

/// Engines matter only to a catalog that has services for them.
pub fn look(config: &Config, catalog: &Catalog) -> Vec<Finding> {
    let used = |engine| catalog.services().any(|service| service.runtime == RuntimeKind::Engine(engine));
    let engines = Engine::ALL.into_iter().filter(|engine| used(*engine));
    engines.map(|engine| judge(engine, config.engine(engine), about(engine, config.engine(engine)))).collect()
}

fn judge(engine: Engine, socket: &Path, about: Result<About, String>) -> Finding {
    let about = match about {
        Ok(about) => about,
        Err(why) => return Finding::fail(engine.name(), why),
    };
    let short = |text: &str| text.chars().take(MAX_NAME).collect::<String>();
    let oldest = about.oldest.map_or_else(|| "its first".into(), |oldest| oldest.to_string());
    let text = format!(
        "{} {} at {}, API {oldest} to {}",
        short(&about.name),
        short(&about.version),
        socket.display(),
        about.newest
    );
    match about.spoken() {
        Some(version) => Finding::ok(engine.name(), format!("{text}; deployd speaks {version}")),
        None => Finding::fail(
            engine.name(),
            format!("{text}; this deployd speaks {OLDEST} to {NEWEST}. Update the older of the two"),
        ),
    }
}

fn about(engine: Engine, socket: &Path) -> Result<About, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot ask it: {error}"))?;
    let connection = Connection::new(engine, socket).map_err(|error| format!("cannot ask it: {error}"))?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, connection.about()).await {
            Ok(about) => about.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "{} listens and does not answer within {} s. Restart it: systemctl restart {}",
                socket.display(),
                PATIENCE.as_secs(),
                engine.name()
            )),
        }
    })
}
