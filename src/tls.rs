//! TLS by rustls with ring, chosen once for the whole process.

/// Makes ring the provider, if none was chosen yet.
pub fn install() {
    rustls::crypto::ring::default_provider().install_default().ok();
}
