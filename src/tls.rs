//! What all HTTP clients share: TLS by rustls with ring, chosen once for the whole process, and how their errors
//! are told.

/// Makes ring the provider, if none was chosen yet.
pub fn install() {
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// The cause of an error that says something ("connection refused"), without the address, which may hold
/// credentials.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
