//! What all HTTP clients share: TLS by rustls with ring, the system's certificates only where they are needed,
//! and how their errors are told.

use std::sync::OnceLock;

use reqwest::{Client, ClientBuilder};

use crate::address::mask_text;

/// A client without and one with the system's certificates. To read those takes longer than all else at a start,
/// so they are read when the first `https:` comes: a host where there are none can still use `http:`.
pub struct Clients {
    builder: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    plain: Client,
    secure: OnceLock<Client>,
}

impl Clients {
    /// Clients of this builder.
    ///
    /// # Errors
    /// When it says what can't be.
    pub fn new(builder: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Result<Self, reqwest::Error> {
        Ok(Self { plain: without_tls(builder())?, builder: Box::new(builder), secure: OnceLock::new() })
    }

    /// The client for an address.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub fn of(&self, url: &str) -> Result<&Client, String> {
        let is_secure = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        if !is_secure {
            return Ok(&self.plain);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let built = (self.builder)().build();
        let client = built.map_err(|error| {
            format!("TLS can't be set up ({}); is ca-certificates installed?", innermost(&error))
        })?;
        Ok(self.secure.get_or_init(|| client))
    }
}

/// A client that never speaks TLS.
///
/// # Errors
/// When the builder says what can't be.
pub fn without_tls(builder: ClientBuilder) -> Result<Client, reqwest::Error> {
    // The library asks for a provider even so. An earlier one is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    builder.tls_certs_only([]).build()
}

/// The cause of an error that says something ("connection refused"), without secrets of the address, which some errors
/// name.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    mask_text(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_when_the_first_address_needs_them() {
        let clients = Clients::new(Client::builder).unwrap();
        for url in ["http://127.0.0.1/", "https", "é", ""] {
            assert!(std::ptr::eq(clients.of(url).unwrap(), &raw const clients.plain), "{url}");
        }
        assert!(clients.secure.get().is_none());
        // A host without certificates says so.
        match clients.of("HTTPS://localhost/") {
            Ok(client) => assert!(std::ptr::eq(client, clients.secure.get().unwrap())),
            Err(why) => assert!(why.contains("ca-certificates"), "{why}"),
        }
    }
}
