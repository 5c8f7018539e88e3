//! The closed sets of words that the wire uses: states, reasons, commands.
//!
//! Each set is an enum whose JSON is the word itself. A word that this version does not know is kept in
//! `Other`, so that an old client reads, shows and passes on what a newer daemon says.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
            /// A word that this version does not know.
            Other(String),
        }

        impl $name {
            /// All words that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word, as JSON has it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_string()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(|word| Self::from(&*word))
            }
        }
    };
}

words! {
    /// The state of a task.
    TaskState {
        /// It waits for its turn.
        Queued = "QUEUED",
        /// Batch after batch is executed.
        Running = "RUNNING",
        /// The deployments in progress finish, then the task is STOPPED.
        Stopping = "STOPPING",
        /// The deployments in progress finish, then the task is PAUSED.
        Pausing = "PAUSING",
        /// Every deployment succeeded.
        Succeeded = "SUCCEEDED",
        /// A deployment failed.
        Failed = "FAILED",
        /// A user stopped it.
        Stopped = "STOPPED",
        /// A user, or a breakpoint, paused it.
        Paused = "PAUSED",
        /// A fault cut it: the daemon died or was shut down, or a part of it crashed.
        Interrupted = "INTERRUPTED",
    }
}

impl TaskState {
    /// Whether deployments may be in progress.
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Running | Self::Stopping | Self::Pausing)
    }

    /// Whether nothing happens until a user acts: it finished, was paused or was interrupted.
    pub const fn is_at_rest(&self) -> bool {
        !self.is_active() && !matches!(self, Self::Queued)
    }
}

words! {
    /// The state of a deployment.
    DeploymentState {
        /// Not begun.
        Pending = "PENDING",
        /// In progress.
        Running = "RUNNING",
        /// Succeeded.
        Succeeded = "SUCCEEDED",
        /// Failed.
        Failed = "FAILED",
        /// Held back for good: its task failed or was stopped.
        Skipped = "SKIPPED",
        /// Cut by a fault or by `stop --now`.
        Interrupted = "INTERRUPTED",
    }
}

words! {
    /// The state of an operation.
    OperationState {
        /// Not begun.
        Pending = "PENDING",
        /// In progress.
        Running = "RUNNING",
        /// Succeeded.
        Succeeded = "SUCCEEDED",
        /// There was nothing to do.
        Unchanged = "UNCHANGED",
        /// Failed.
        Failed = "FAILED",
        /// Held back for good.
        Skipped = "SKIPPED",
        /// Cut: whether it was carried out is in doubt until *resume* settles it.
        Interrupted = "INTERRUPTED",
    }
}

words! {
    /// What a container does.
    ContainerState {
        /// Its main process runs.
        Running = "running",
        /// It ended and its runtime starts it again by itself.
        Restarting = "restarting",
        /// Its start is under way.
        Starting = "starting",
        /// Its main process runs and reads its configuration again.
        Reloading = "reloading",
        /// It is being stopped, or its main process ended and the rest of it is being ended.
        Stopping = "stopping",
        /// Its processes are held.
        Paused = "paused",
        /// It was stopped, or never ran.
        Stopped = "stopped",
        /// It ended by itself.
        Exited = "exited",
        /// Something that this daemon did not make has its name.
        Foreign = "foreign",
        /// It cannot be seen.
        Unknown = "unknown",
    }
}

impl ContainerState {
    /// Whether something of it is there although it is not up.
    pub const fn is_between(&self) -> bool {
        matches!(self, Self::Restarting | Self::Starting | Self::Reloading | Self::Stopping | Self::Paused)
    }
}

words! {
    /// Why a task is in its state.
    Reason {
        /// A deployment failed, and the others of its batch are finishing.
        Failing = "failing",
        /// A deployment failed.
        DeploymentFailed = "deploymentFailed",
        /// A user stopped it.
        StoppedByUser = "stoppedByUser",
        /// A user paused it.
        PausedByUser = "pausedByUser",
        /// The daemon died.
        DaemonDied = "daemonDied",
        /// The daemon was shut down.
        DaemonShutDown = "daemonShutDown",
        /// A part of the daemon crashed.
        ActorCrashed = "actorCrashed",
        /// The store failed.
        StoreFailed = "storeFailed",
    }
}

words! {
    /// What a user can do to a task.
    Verb {
        /// Stop after the deployments in progress finish.
        Stop = "stop",
        /// Pause after the deployments in progress finish.
        Pause = "pause",
        /// Continue.
        Resume = "resume",
        /// Forget the task and its journal.
        Delete = "delete",
    }
}

words! {
    /// What an operation does with its container.
    Doing {
        /// Looks at it, and waits until what others do to it is over.
        Look = "look",
        /// Stops it.
        Stop = "stop",
        /// Starts it.
        Start = "start",
        /// Waits until it is up.
        Health = "health",
    }
}

words! {
    /// How an operation in doubt was settled.
    Settled {
        /// The container shows that this operation had been carried out.
        FoundDone = "foundDone",
        /// It had not, or only in part: resume did the rest.
        Completed = "completed",
    }
}

words! {
    /// What a deployment does before or after it touches containers.
    Stage {
        /// Waits for a permit to download.
        AwaitDownload = "awaitDownload",
        /// Downloads a package.
        Download = "download",
        /// Waits for a permit to build.
        AwaitBuild = "awaitBuild",
        /// Builds.
        Build = "build",
        /// Runs a hook.
        Hook = "hook",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_and_unknown_ones_survive_a_round_trip() {
        for state in TaskState::ALL.iter().cloned().chain([TaskState::Other("ROLLING_BACK".into())]) {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<TaskState>(&json).unwrap(), state);
        }
    }

    #[test]
    fn a_word_is_padded_like_text() {
        assert_eq!(format!("{:11}|", OperationState::Failed), "FAILED     |");
    }
}
