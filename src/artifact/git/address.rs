//! The address of a repository, and the credentials in it, which go another way: any user of the host can
//! read the arguments of a process.

/// An address for the command line, and what must not stand there.
pub struct Address {
    /// Without credentials (ssh needs its user).
    pub plain: String,
    credentials: Option<Credentials>,
}

struct Credentials {
    /// Scheme, host and port: they are good for nothing else.
    scope: String,
    user: String,
    password: String,
}

impl Address {
    /// The parts of an address.
    pub fn of(whole: &str) -> Self {
        let without = Self { plain: whole.to_string(), credentials: None };
        let Some((scheme, rest)) = whole.split_once("://") else { return without };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let Some((userinfo, host)) = authority.rsplit_once('@') else { return without };
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        if !matches!(scheme, "http" | "https") {
            // ssh takes no password from an address.
            return Self { plain: format!("{scheme}://{user}@{host}{path}"), credentials: None };
        }
        let scope = format!("{scheme}://{host}");
        let credentials = Credentials { user: decoded(user), password: decoded(password), scope };
        Self { plain: format!("{scheme}://{host}{path}"), credentials: Some(credentials) }
    }

    /// What git has to find in its environment, which only the daemon's user can read. git asks the helper
    /// for this scheme, host and port only, so a redirect to another place gets nothing.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(Credentials { scope, user, password }) = &self.credentials else { return Vec::new() };
        let helper = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$DEPLOYD_GIT_USER" "$DEPLOYD_GIT_PASSWORD"; }; f"#;
        vec![
            ("DEPLOYD_GIT_USER", user.clone()),
            ("DEPLOYD_GIT_PASSWORD", password.clone()),
            ("GIT_CONFIG_COUNT", "1".to_string()),
            ("GIT_CONFIG_KEY_0", format!("credential.{scope}.helper")),
            ("GIT_CONFIG_VALUE_0", helper.to_string()),
        ]
    }
}

/// Percent-decoded; as it stands, if that would give more than one line of text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    match String::from_utf8(bytes) {
        Ok(decoded) if !decoded.contains(char::is_control) => decoded,
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_an_address() {
        let cases = [
            ("https://u:p%40w@h:1/x?y@z", "https://h:1/x?y@z", Some(("u", "p@w"))),
            ("https://token@h/x", "https://h/x", Some(("token", ""))),
            ("https://u:a%0ahost=evil@h/x", "https://h/x", Some(("u", "a%0ahost=evil"))),
            ("https://u:100%@h", "https://h", Some(("u", "100%"))),
            ("https://h/a@b", "https://h/a@b", None),
            ("ssh://git:p@h/x", "ssh://git@h/x", None),
            ("git@h:x", "git@h:x", None),
            ("/var/lib/x.git", "/var/lib/x.git", None),
        ];
        for (whole, plain, credentials) in cases {
            let address = Address::of(whole);
            let found = address.credentials.as_ref().map(|found| (&*found.user, &*found.password));
            assert_eq!((&*address.plain, found), (plain, credentials), "{whole}");
        }
    }
}
