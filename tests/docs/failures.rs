//! What each code of a failure means, for the page of codes.

/// Why a deployment or an operation failed, by the code in the report.
pub const FAILURES: &[(&str, &str)] = &[
    (
        "artifactGone",
        "What was fetched or built before is gone, and what was made again differs. Execute the plan anew.",
    ),
    (
        "buildFailed",
        "The build's command failed, took too long, or left no output. `log` has its last lines.",
    ),
    ("cancelled", "It was cut off."),
    ("catalog", "The catalog does not say what is needed: a build, a user, a command."),
    ("environment", "The environment file can't be read, or a `${VAR}` has no value."),
    ("exited", "The container has ended instead of coming up. `log` has its last lines."),
    ("healthTimedOut", "The container was not healthy within `health.timeout`."),
    ("foreign", "Something that this deployd did not make has the container's name. It is not touched."),
    ("hookFailed", "A hook failed or took too long."),
    ("imageFailed", "The engine has no such image, and can't pull it."),
    ("internal", "A defect of deployd."),
    ("noRelease", "The container has no release yet; its command lies in one."),
    (
        "noSpace",
        "The disk has too little room, or a build has filled it; the text says how much is missing or left.",
    ),
    ("observe", "The container can't be looked at."),
    ("outputTooLarge", "A build's output has more bytes or files than `packages` allows."),
    ("packageDiffers", "The package has another sha256 than the plan says, or than this task has pinned."),
    ("packageIo", "The package can't be written, or a `file://` address can't be read."),
    ("packageNotFound", "The server answers 404 or 410."),
    ("packageRedirected", "A redirect leads where it must not."),
    ("packageRefused", "The server answers with another error."),
    ("packageTimedOut", "The download takes longer than `timeouts.fetch`."),
    ("packageTooLarge", "The package is larger than `packages.maxBytes`."),
    ("packageUnreachable", "The server can't be reached, also when it is tried again."),
    ("release", "The archive can't be unpacked, or is refused."),
    ("repository", "Branch or commit are missing, or git failed."),
    ("startFailed", "The container can't be started."),
    ("stopFailed", "The container can't be stopped."),
    ("switchFailed", "The container can't be pointed to its release."),
    (
        "unhealthy",
        "START found it running, and it did not answer its health check, or hangs on its way up or down. Nothing was \
         touched: RESTART it.",
    ),
    (
        "volumeRefused",
        "The image keeps data in a volume, and the engine has another one's volume of the name that deployd gives it.",
    ),
];
